package shard

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io/fs"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"lockstep/protocol"
	"lockstep/protocol/outside"
	"lockstep/shard/cpu"
	"lockstep/shard/model/modeltest"
)

// rewardModel is a model with a score head and requests for it, whose scores are known to 0.002 (1 + |score|) or not at all.
type rewardModel struct {
	name     string
	files    fstest.MapFS
	requests []protocol.Request
	scores   []float64
}

// goldenReward is a reference model of shard/model with its cases. Its heads do not divide evenly.
func goldenReward(t *testing.T, name string) rewardModel {
	t.Helper()
	m := rewardModel{name: name, files: modeltest.Files(t, name)}
	type goldenCase struct {
		Prompt []int32 `json:"prompt_ids"`
		Score  float64 `json:"score"`
	}
	for _, c := range modeltest.Cases[goldenCase](t, m.files["golden_reward.jsonl"].Data) {
		m.requests = append(m.requests, protocol.Request{ID: uint64(len(m.requests)), Prompt: c.Prompt, MaxNewTokens: 1, Score: true})
		m.scores = append(m.scores, c.Score)
	}
	return m
}

// randomReward makes a model of random weights that divides evenly, and prompts that mostly begin alike.
func randomReward(t *testing.T, modelType, architecture string, head map[string][]int) rewardModel {
	t.Helper()
	const hidden, heads, kvHeads, dim, intermediate, vocabulary, layers = 64, 8, 4, 8, 128, 100, 2
	shapes := map[string][]int{"model.norm.weight": {hidden}}
	for layer := range layers {
		add := func(name string, shape ...int) { shapes[fmt.Sprintf("model.layers.%d.%s.weight", layer, name)] = shape }
		if modelType == "internlm2" {
			shapes["model.tok_embeddings.weight"] = []int{vocabulary, hidden}
			add("attention.wqkv", (heads+2*kvHeads)*dim, hidden)
			add("attention.wo", hidden, heads*dim)
			add("feed_forward.w1", intermediate, hidden)
			add("feed_forward.w3", intermediate, hidden)
			add("feed_forward.w2", hidden, intermediate)
			add("attention_norm", hidden)
			add("ffn_norm", hidden)
			continue
		}
		shapes["model.embed_tokens.weight"] = []int{vocabulary, hidden}
		add("self_attn.q_proj", heads*dim, hidden)
		add("self_attn.k_proj", kvHeads*dim, hidden)
		add("self_attn.v_proj", kvHeads*dim, hidden)
		for name, rows := range map[string]int{"q": heads * dim, "k": kvHeads * dim, "v": kvHeads * dim} { // Qwen2 always has them
			shapes[fmt.Sprintf("model.layers.%d.self_attn.%s_proj.bias", layer, name)] = []int{rows}
		}
		add("self_attn.o_proj", hidden, heads*dim)
		add("mlp.gate_proj", intermediate, hidden)
		add("mlp.up_proj", intermediate, hidden)
		add("mlp.down_proj", hidden, intermediate)
		add("input_layernorm", hidden)
		add("post_attention_layernorm", hidden)
	}
	for name, shape := range head {
		shapes[name] = shape
	}
	config := fmt.Sprintf(`{"model_type":%q,"architectures":[%q],"hidden_size":%d,"intermediate_size":%d,"num_hidden_layers":%d,"num_attention_heads":%d,
		"num_key_value_heads":%d,"vocab_size":%d,"max_position_embeddings":256,"rms_norm_eps":1e-5}`, modelType, architecture, hidden, intermediate, layers, heads, kvHeads, vocabulary)
	random := rand.New(rand.NewPCG(11, 12))
	m := rewardModel{name: "random " + modelType,
		files: fstest.MapFS{"tokenizer.json": {Data: []byte("{}")}, "config.json": {Data: []byte(config)},
			"model.safetensors": {Data: randomTensors(t, shapes, random)}}}
	common := make([]int32, 70)
	for i := range common {
		common[i] = random.Int32N(vocabulary)
	}
	for id := range uint64(24) {
		r := protocol.Request{ID: id, Prompt: slices.Clone(common[:random.IntN(len(common))]), MaxNewTokens: 1, Score: true,
			NoPrefixCache: id%5 == 0}
		for range 1 + random.IntN(90) {
			r.Prompt = append(r.Prompt, random.Int32N(vocabulary))
		}
		m.requests = append(m.requests, r)
	}
	return m
}

// randomTensors is a safetensors file of float32.
func randomTensors(t *testing.T, shapes map[string][]int, random *rand.Rand) []byte {
	t.Helper()
	header, payload := map[string]any{}, []byte(nil)
	names := []string{}
	for name := range shapes {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		count, from := 1, len(payload)
		for _, size := range shapes[name] {
			count *= size
		}
		for range count {
			payload = binary.LittleEndian.AppendUint32(payload, math.Float32bits(float32(random.NormFloat64()/4)))
		}
		header[name] = map[string]any{"dtype": "F32", "shape": shapes[name], "data_offsets": []int{from, len(payload)}}
	}
	text, err := json.Marshal(header)
	if err != nil {
		t.Fatal(err)
	}
	file := binary.LittleEndian.AppendUint64(nil, uint64(len(text)))
	return append(append(file, text...), payload...)
}

// A score is the same bits on every kernel path, alone and in company, in pieces or whole, with few blocks, beside cancelled
// requests, with the prefix cache and without; and where the model divides evenly, on one, two and four shards. Where it is
// known it is right.
func TestScoreInvariance(t *testing.T) {
	for _, m := range []rewardModel{
		goldenReward(t, "internlm2_reward"), goldenReward(t, "qwen2_reward"),
		randomReward(t, "internlm2", "InternLM2ForRewardModel", map[string][]int{"v_head.weight": {1, 64}}),
		randomReward(t, "qwen2", "Qwen2ForRewardModel",
			map[string][]int{"score.0.weight": {64, 64}, "score.0.bias": {64}, "score.2.weight": {1, 64}, "score.2.bias": {1}}),
	} {
		want := map[int]map[uint64]*result{} // by number of shards, where that matters
		for _, kernels := range cpu.Available() {
			for _, shards := range []int{1, 2, 4} {
				for _, stepTokens := range []int{7, 64, 512} {
					if (kernels != cpu.Best() || m.scores != nil) && (stepTokens != 64 || shards != 2) && !outside.All() {
						continue // it takes long beside other tests
					}
					t.Run(fmt.Sprintf("%s/%s/%d shards/%d tokens a step", m.name, kernels.Name(), shards, stepTokens), func(t *testing.T) {
						m.vary(t, Config{Shards: shards, Threads: 1, Kernels: kernels.Name(),
							Limits: Limits{PrefillTokens: stepTokens, MaxSequences: 32}},
							want)
					})
				}
			}
		}
	}
}

// vary computes all scores in several ways on one group, and compares them with want, or sets it.
func (m *rewardModel) vary(t *testing.T, config Config, want map[int]map[uint64]*result) {
	blocks := 400
	if config.PrefillTokens == 7 {
		blocks = 32
	}
	if m.scores != nil {
		config.Numerics = "f32"
	}
	g := startGroup(t, config, m.files, blocks)
	random := rand.New(rand.NewPCG(3, uint64(config.PrefillTokens)))
	key := config.Shards
	if !g.leader.device.Uneven {
		key = 0
	}
	plain := slices.Clone(m.requests)
	for i := range plain {
		plain[i].NoPrefixCache = true
	}
	got := g.run(t, plain, 1, nil, nil)
	if want[key] == nil {
		want[key] = got
		for id, r := range got {
			if !slices.Equal(r.tokens, []int32{protocol.ScoreToken}) || len(r.prompt)+len(r.top) != 0 || r.finish != protocol.FinishLength {
				t.Errorf("request %d: got %+v, want one row of token %d that ends", id, *r, protocol.ScoreToken)
				continue
			}
			score := float64(math.Float32frombits(r.logprob[0]))
			if m.scores != nil && !(math.Abs(score-m.scores[id]) <= 0.002*(1+math.Abs(m.scores[id]))) {
				t.Errorf("request %d: got score %v, want %v", id, score, m.scores[id])
			}
		}
	}
	compare := func(what string, got map[uint64]*result) {
		t.Helper()
		for id, w := range want[key] {
			if difference := got[id].difference(w); difference != "" {
				t.Errorf("%s: request %d: %s", what, id, difference)
			}
		}
	}
	compare("alone", got)
	compare("together", g.run(t, m.requests, len(m.requests), nil, random))
	shuffled := slices.Clone(m.requests)
	random.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
	compare("out of the cache, beside cancelled requests", g.run(t, shuffled, 5, plain[:6], random))
	if blocks == 400 && g.cachedTokens == 0 {
		t.Error("nothing came out of the prefix cache: the test has too few blocks")
	}
}

// What a group refuses, says of itself and warms up with follows from whether it has a score head.
func TestScoreHeadDecides(t *testing.T) {
	reward := goldenReward(t, "qwen2_reward")
	text := protocol.Request{Prompt: []int32{1}, MaxNewTokens: 5}
	score := protocol.Request{Prompt: []int32{1}, MaxNewTokens: 1, Score: true}
	for _, c := range []struct {
		files   fs.FS
		reward  bool
		taken   protocol.Request
		refused protocol.Request
		want    string
	}{
		{os.DirFS("../launcher/demo/model"), false, text, score, "the model has no score head"},
		{reward.files, true, score, text, "the model has a score head and generates no text"},
	} {
		config := Config{Shards: 2, Threads: 1, Limits: Limits{PrefillTokens: 64, MaxSequences: 8}}
		g := startGroup(t, config, c.files, 100)
		if err := warmUp(g.engine, g.leader.config, func() {}); err != nil {
			t.Fatal(err)
		}
		if err := check(&c.taken, &g.shape); err != nil {
			t.Errorf("got %v", err)
		}
		l := &leader{shape: g.shape, base: protocol.Announcement{Limits: protocol.Limits{MaxSequenceTokens: 100, MaxRequests: 10}}}
		if err := l.refusal(&c.refused); err == nil || err.Code != protocol.CodeInvalid || err.Message != c.want {
			t.Errorf("got %v, want %q", err, c.want)
		}
		data, _, err := g.leader.card()
		if err != nil {
			t.Fatal(err)
		}
		var card protocol.ModelCard
		if err := json.Unmarshal(data, &card); err != nil || card.Reward != c.reward {
			t.Errorf("got a card with reward %v, want %v (%v)", card.Reward, c.reward, err)
		}
	}
}

// The shortest sequences are warmed up too, and what has no room for an answer is refused by the name of what to change.
func TestShortestSequences(t *testing.T) {
	for tokens, want := range map[int]string{1: "--max-total-tokens", 2: "", 3: "", 4: ""} {
		g := startGroup(t, Config{Shards: 2, Threads: 1, Limits: Limits{PrefillTokens: 64, MaxSequences: 4, MaxSequenceTokens: tokens}},
			os.DirFS("../launcher/demo/model"), 100)
		err := warmUp(g.engine, g.leader.config, func() {})
		if (want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%d tokens: got error %v, want %q", tokens, err, want)
		}
	}
}
