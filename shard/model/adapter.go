package model

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"lockstep/shard/weights"
)

// MaxAdapterRank bounds the rank of an adapter's matrices.
const MaxAdapterRank = 256

// Adapter is an open LoRA adapter (https://arxiv.org/abs/2106.09685) in PEFT's format: to what a projection gives it adds
// scale x B (A x). Close closes it.
type Adapter struct {
	Name    string // for errors
	files   *weights.Files
	config  *adapterConfig
	modules map[string]*adapted // by the projection's name, see inLayers
	// stacks are what it has for parameters that hold all experts of a layer, by their module's name, see inLayers.
	stacks map[string][]*adapted
}

// adapted says what an adapter has for a projection.
type adapted struct {
	module string // its name in the adapter
	rank   int
	scale  float32
	a, b   string // names of tensors
}

// OpenAdapter opens a directory. Its errors name the adapter.
func OpenAdapter(name, path string) (*Adapter, error) {
	files, err := weights.OpenAdapter(path)
	return understandAdapter(name, files, err)
}

// OpenAdapterFS opens a directory that is held in memory.
func OpenAdapterFS(name string, dir fs.FS) (*Adapter, error) {
	files, err := weights.OpenAdapterFS(dir)
	return understandAdapter(name, files, err)
}

func understandAdapter(name string, files *weights.Files, err error) (*Adapter, error) {
	a := &Adapter{Name: name, files: files, modules: map[string]*adapted{}, stacks: map[string][]*adapted{}}
	if err == nil {
		if err = a.read(); err != nil {
			files.Close()
		}
	}
	if err != nil {
		return nil, fmt.Errorf("adapter %s: %w", name, err)
	}
	return a, nil
}

// Close closes the adapter's files.
func (a *Adapter) Close() { a.files.Close() }

// String says what the adapter is, for the log.
func (a *Adapter) String() string {
	rank := 0
	for _, m := range a.modules {
		rank = max(rank, m.rank)
	}
	matrices := len(a.modules)
	for _, stack := range a.stacks {
		matrices += len(stack)
	}
	return fmt.Sprintf("%s (rank %d, %d matrices)", a.Name, rank, matrices)
}

// adapterConfig are the keys of adapter_config.json that change what is computed.
type adapterConfig struct {
	Type         string            `json:"peft_type"`
	Rank         int               `json:"r"`
	Alpha        float64           `json:"lora_alpha"`
	RankScaled   bool              `json:"use_rslora"`
	Ranks        patterns[int]     `json:"rank_pattern"`
	Alphas       patterns[float64] `json:"alpha_pattern"`
	Bias         string            `json:"bias"`
	Dora         bool              `json:"use_dora"`
	Qalora       bool              `json:"use_qalora"`
	BlockDiag    bool              `json:"use_bdlora"`
	OwnBias      bool              `json:"lora_bias"`
	Saved        []string          `json:"modules_to_save"`
	Parameters   []string          `json:"target_parameters"`
	Invocation   json.RawMessage   `json:"alora_invocation_tokens"`
	Replication  json.RawMessage   `json:"layer_replication"`
	Arrow        json.RawMessage   `json:"arrow_config"`
	MonteClora   json.RawMessage   `json:"monteclora_config"`
	Velora       json.RawMessage   `json:"velora_config"`
	TokenIndices json.RawMessage   `json:"trainable_token_indices"`
	Initial      json.RawMessage   `json:"init_lora_weights"`
	Targets      json.RawMessage   `json:"target_modules"`
	Excluded     json.RawMessage   `json:"exclude_modules"`
	Layers       json.RawMessage   `json:"layers_to_transform"`
}

// given reports whether a key says anything.
func given(value json.RawMessage) bool { return len(value) > 0 && string(value) != "null" }

// refusal says what of the configuration is not computed; "": nothing.
func (c *adapterConfig) refusal() string {
	var initial string
	json.Unmarshal(c.Initial, &initial) // most are true or false
	for _, kind := range []string{"pissa", "olora", "corda", "loftq"} {
		if strings.HasPrefix(initial, kind) {
			return fmt.Sprintf("init_lora_weights %q, which changes the model's own weights,", initial)
		}
	}
	switch {
	case c.Type != "LORA":
		return fmt.Sprintf("peft_type %q", c.Type)
	case c.Dora:
		return "use_dora (DoRA)"
	case c.Qalora:
		return "use_qalora"
	case c.BlockDiag:
		return "use_bdlora"
	case c.OwnBias:
		return "lora_bias"
	case c.Bias != "" && c.Bias != "none":
		return fmt.Sprintf("bias %q", c.Bias)
	case len(c.Saved) > 0:
		return fmt.Sprintf("modules_to_save (%s)", strings.Join(c.Saved, ", "))
	}
	for name, value := range map[string]json.RawMessage{"alora_invocation_tokens": c.Invocation, "layer_replication": c.Replication,
		"arrow_config": c.Arrow, "monteclora_config": c.MonteClora, "velora_config": c.Velora, "trainable_token_indices": c.TokenIndices} {
		if given(value) {
			return name
		}
	}
	return ""
}

// read understands configuration and tensors.
func (a *Adapter) read() error {
	c := &adapterConfig{Rank: 8, Alpha: 8}
	if err := a.files.Config(c); err != nil {
		return fmt.Errorf("%s: %w", weights.AdapterConfigName, err)
	}
	if what := c.refusal(); what != "" {
		return fmt.Errorf("%s: %s is not served: merge the adapter into its model (peft's merge_and_unload)",
			weights.AdapterConfigName, what)
	}
	a.config = c
	stacked := map[string]*adapted{} // by the projection's name
	for _, name := range a.files.Names() {
		projection, half, ok := adapterTensor(name)
		if !ok {
			return fmt.Errorf("%s: tensor %s is not served; those of lora_A and lora_B are", weights.AdapterWeightsName, name)
		}
		if module := c.stackOf(projection); module != "" {
			m := stacked[projection]
			if m == nil {
				m = &adapted{module: module}
				stacked[projection], a.stacks[inLayers(module)] = m, append(a.stacks[inLayers(module)], m)
			}
			m.set(half, name)
			continue
		}
		parameter := c.parameter(projection)
		if why, err := c.contradicts(projection); err != nil {
			return err
		} else if parameter != "" {
			// target_modules says nothing of it
		} else if why != "" {
			return fmt.Errorf("%s says with %s that %s has no adapter, and %s has one: fetch both anew", weights.AdapterConfigName, why,
				projection, weights.AdapterWeightsName)
		}
		m := a.modules[inLayers(projection)]
		if m == nil {
			m = &adapted{module: projection}
			a.modules[inLayers(projection)] = m
		}
		if m.module != projection {
			return fmt.Errorf("%s has both %s and %s, which are one: fetch it anew", weights.AdapterWeightsName, m.module, projection)
		}
		m.set(half, name)
		c.setScale(m, cmp.Or(parameter, projection))
	}
	if len(a.modules)+len(a.stacks) == 0 {
		return fmt.Errorf("%s has no tensors", weights.AdapterWeightsName)
	}
	for _, m := range a.modules {
		if err := m.check(a.files, 1); err != nil {
			return fmt.Errorf("%s: %s: %w", weights.AdapterWeightsName, m.module, err)
		}
	}
	return nil
}

// set sets the tensor of a half.
func (m *adapted) set(half, tensor string) {
	if half == "A" {
		m.a = tensor
	} else {
		m.b = tensor
	}
}

// setScale sets rank and scale of what has a name that patterns know.
func (c *adapterConfig) setScale(m *adapted, name string) {
	m.rank = c.Ranks.of(name, c.Rank)
	alpha := c.Alphas.of(name, c.Alpha)
	scale := alpha / float64(m.rank)
	if c.RankScaled { // rsLoRA, https://arxiv.org/abs/2312.03732
		scale = alpha / math.Sqrt(float64(m.rank))
	}
	m.scale = float32(scale)
}

// inLayers is a module's name without what stands before a model's layers: versions of transformers, and checkpoints, call the same
// module by unlike names.
func inLayers(module string) string {
	for _, prefix := range append(textPrefixes, "transformer.", "gpt_neox.", "model.") {
		if rest, found := strings.CutPrefix(module, prefix); found {
			module = rest
			break
		}
	}
	return strings.Replace(module, ".block_sparse_moe.gate", ".mlp.gate", 1) // Mixtral's router
}

// contradicts names the key after which a module has no adapter; "": it may have one. Lists name modules by their ends, a text is an
// expression for the whole name (https://huggingface.co/docs/peft/package_reference/lora).
func (c *adapterConfig) contradicts(module string) (key string, err error) {
	if given(c.Targets) {
		if named, err := namesModule("target_modules", c.Targets, module); err != nil || !named {
			return "target_modules", err
		}
	}
	if given(c.Excluded) {
		if named, err := namesModule("exclude_modules", c.Excluded, module); err != nil || named {
			return "exclude_modules", err
		}
	}
	if !given(c.Layers) {
		return "", nil
	}
	var layers []int
	if json.Unmarshal(c.Layers, &layers) != nil {
		layers = []int{0}
		if err := json.Unmarshal(c.Layers, &layers[0]); err != nil {
			return "", fmt.Errorf("%s: layers_to_transform is neither a number nor a list of numbers", weights.AdapterConfigName)
		}
	}
	match := layerNumber.FindStringSubmatch(module)
	if len(layers) == 0 || match != nil && slices.ContainsFunc(layers, func(layer int) bool { return strconv.Itoa(layer) == match[1] }) {
		return "", nil
	}
	return "layers_to_transform", nil
}

// layerNumber is the number of a module's layer.
var layerNumber = regexp.MustCompile(`\.(\d+)\.`)

// namesModule reports whether a key's value, a list of ends or an expression, names a module.
func namesModule(key string, value json.RawMessage, module string) (bool, error) {
	var ends []string
	if json.Unmarshal(value, &ends) == nil {
		return slices.ContainsFunc(ends, func(end string) bool { return module == end || strings.HasSuffix(module, "."+end) }), nil
	}
	var pattern string
	if json.Unmarshal(value, &pattern) != nil {
		return false, fmt.Errorf("%s: %s is neither a text nor a list of texts", weights.AdapterConfigName, key)
	}
	if pattern == "all-linear" {
		return true, nil
	}
	expression, err := regexp.Compile(`^(?:` + pattern + `)$`)
	if lookaround.MatchString(pattern) {
		return key == "target_modules", nil // the tensors say it too
	}
	if err != nil {
		return false, fmt.Errorf("%s: %s %.100q is not understood: %w", weights.AdapterConfigName, key, pattern, err)
	}
	return expression.MatchString(module), nil
}

// lookaround is what Python's expressions have and Go's do not.
var lookaround = regexp.MustCompile(`\(\?<?[=!]`)

// check refuses halves that do not fit. They are those of so many experts, or of one matrix.
func (m *adapted) check(files *weights.Files, count int) error {
	if m.a == "" || m.b == "" {
		return errors.New("only one of lora_A and lora_B is there: fetch the adapter anew")
	}
	rows, _ := files.Size(m.a)
	_, columns := files.Size(m.b)
	switch {
	case m.rank < 1 || m.rank > MaxAdapterRank:
		return fmt.Errorf("rank %d is not served; 1 to %d are", m.rank, MaxAdapterRank)
	case rows != 0 && rows != count*m.rank || columns != 0 && columns != count*m.rank:
		return fmt.Errorf("its tensors have rank %d and %d, and the configuration says %d", rows/count, columns/count, m.rank)
	case m.scale-m.scale != 0:
		return errors.New("lora_alpha is no number that can be computed with")
	}
	return nil
}

// adapterTensor takes a tensor's name apart: the projection, and A or B.
func adapterTensor(name string) (projection, half string, ok bool) {
	name, found := strings.CutPrefix(name, "base_model.model.")
	if !found {
		return "", "", false
	}
	for _, half := range []string{"A", "B"} {
		for _, suffix := range []string{".lora_" + half + ".weight", ".lora_" + half + ".default.weight"} {
			if projection, found := strings.CutSuffix(name, suffix); found {
				return projection, half, true
			}
		}
	}
	return "", "", false
}

// patterns say something of modules, in the order of the file.
type patterns[V any] []struct {
	*regexp.Regexp
	value V
}

// UnmarshalJSON reads an object whose keys are expressions, which PEFT matches from the start or behind a dot, to the end.
func (p *patterns[V]) UnmarshalJSON(data []byte) error {
	var values map[string]V
	if err := json.Unmarshal(data, &values); err != nil || values == nil {
		return err
	}
	keys := json.NewDecoder(bytes.NewReader(data))
	keys.Token() // the brace
	for keys.More() {
		key, _ := keys.Token()
		var value json.RawMessage
		if err := keys.Decode(&value); err != nil {
			return err
		}
		expression, err := regexp.Compile(`^(?:.*\.)?(?:` + key.(string) + `)$`)
		if err != nil {
			return fmt.Errorf("rank_pattern or alpha_pattern %.100q is not understood: %w", key, err)
		}
		*p = append(*p, struct {
			*regexp.Regexp
			value V
		}{expression, values[key.(string)]})
	}
	return nil
}

// of is what the first pattern that fits a module says.
func (p patterns[V]) of(module string, usual V) V {
	for _, pattern := range p {
		if pattern.MatchString(module) {
			return pattern.value
		}
	}
	return usual
}

// LowRank is what an adapter adds to a projection: Scale x B (A x). A takes this rank's inputs and B gives its outputs; of a
// row-parallel projection every rank has all outputs, and what A gives is summed over the ranks first.
type LowRank struct {
	A, B  Linear // [rank][inputs], [outputs][rank]
	Scale float32
}

// adapt finds what the adapters have for a projection. units are those of its inputs, as in recipe.inputs; 0: a rank has all
// of them.
func (r *recipe) adapt(l *Linear, projection string, outputs, inputs, units int) {
	for i, adapter := range r.adapters {
		m, ok := adapter.modules[inLayers(projection)]
		if !ok || r.err != nil {
			continue
		}
		low, err := adapter.lowRank(m, l, outputs, inputs)
		if err != nil {
			r.fail(fmt.Errorf("adapter %s: %w", adapter.Name, err))
			return
		}
		if units > 0 {
			r.chunk(&low.A, inputs, units)
		}
		if l.Low == nil {
			l.Low = make([]*LowRank, len(r.adapters))
		}
		l.Low[i] = low
		r.adapted[i][inLayers(projection)] = true
	}
}

// lowRank finds the halves of what the adapter has for a projection.
func (a *Adapter) lowRank(m *adapted, l *Linear, outputs, inputs int) (*LowRank, error) {
	rows, _ := a.files.Size(m.b)
	_, columns := a.files.Size(m.a)
	if all := l.Order.all(outputs); rows != 0 && columns != 0 && (rows != all || columns != inputs) {
		return nil, fmt.Errorf("%s is for a matrix of %d x %d, and this model's has %d x %d: it was made for another model",
			strings.TrimSuffix(m.a, ".lora_A.weight"), rows, columns, all, inputs)
	}
	down, err := a.files.Tensor(m.a, m.rank, inputs)
	if err != nil {
		return nil, err
	}
	up, err := a.files.Tensor(m.b, l.Order.all(outputs), m.rank)
	if err != nil {
		return nil, err
	}
	order := l.Order
	order.Transposed, order.TransposedParts = false, 0
	return &LowRank{Scale: m.scale,
		A: Linear{Matrix: Matrix{Tensor: down, Name: m.a}, Rows: Span{0, m.rank}, Columns: l.Columns, Chunks: 1},
		B: Linear{Matrix: Matrix{Tensor: up, Name: m.b, Order: order}, Rows: l.Rows, Columns: Span{0, m.rank}, Chunks: 1}}, nil
}

// checkAdapters refuses adapters with parts that nothing computes with, but for those of parts that read other than text.
func (r *recipe) checkAdapters() {
	for i, adapter := range r.adapters {
		for projection, m := range adapter.modules {
			if !r.adapted[i][projection] && !(readsOther(m.module) && slices.ContainsFunc(r.files.Names(), readsOther)) {
				r.failAdapter(adapter, m.module)
			}
		}
		for module, stack := range adapter.stacks {
			if !r.adapted[i][module] {
				r.failAdapter(adapter, stack[0].module)
			}
		}
	}
}

func (r *recipe) failAdapter(a *Adapter, module string) {
	r.fail(fmt.Errorf("adapter %s changes %s, which the model does not have, or which is not served with adapters: is it this model's?",
		a.Name, module))
}
