package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/alecthomas/kong"

	"lockstep/router"
	"lockstep/router/api"
	"lockstep/router/api/tgi"
	"lockstep/router/request"
	"lockstep/shard"
	"lockstep/shard/gpu/driver"
	"lockstep/shard/model"
)

// Names, environment variables and defaults are those of TGI's launcher wherever it has the thing. What is our own has
// environment variables that begin with LOCKSTEP_.

// modelFlags say what is served and within which limits.
type modelFlags struct {
	ModelID              string   `env:"MODEL_ID" placeholder:"PATH" help:"Directory in Hugging Face format or .gguf file. Default: the embedded demo model."`
	ChatTemplate         string   `env:"LOCKSTEP_CHAT_TEMPLATE" placeholder:"FILE|TEXT" help:"Jinja file, or its text, in place of the model's chat template."`
	GenerationConfig     string   `env:"LOCKSTEP_GENERATION_CONFIG" enum:"auto,none,vllm" default:"auto" placeholder:"auto|none" help:"auto: where requests in OpenAI's interface do not say, they have the sampling parameters that the model's files recommend (generation_config.json). none, or vllm: they have the interface's own."`
	LoraAdapters         []string `env:"LORA_ADAPTERS" placeholder:"NAME=PATH" help:"LoRA adapters that requests may name: directories in PEFT's format; without NAME= an adapter is called by its path. Repeatable."`
	NumShard             int      `env:"NUM_SHARD" placeholder:"N" help:"Shard processes that compute one model together. Default: one for each card, or each CPU socket."`
	Sharded              string   `env:"SHARDED" placeholder:"true|false" help:"true: ask for several shards; false: one shard."`
	MaxInputLength       int      `env:"MAX_INPUT_LENGTH" placeholder:"TOKENS" help:"Longest prompt. Default: what the model allows."`
	MaxInputTokens       int      `env:"MAX_INPUT_TOKENS" placeholder:"TOKENS" help:"New name of --max-input-length."`
	MaxTotalTokens       int      `env:"MAX_TOTAL_TOKENS" placeholder:"TOKENS" help:"Longest prompt and output together. Default: what the model allows."`
	MaxBatchPrefillToken int      `name:"max-batch-prefill-tokens" positive:"" env:"MAX_BATCH_PREFILL_TOKENS" default:"${max_batch_prefill_tokens}" help:"Token budget of a step."`
	MaxBatchTotalTokens  int      `env:"MAX_BATCH_TOTAL_TOKENS" placeholder:"TOKENS" help:"Size of the KV cache. Default: as --cpu-memory-fraction says."`
	MaxBatchSize         int      `positive:"" env:"MAX_BATCH_SIZE" default:"${max_batch_size}" help:"Sequences that run at once."`
	DisablePrefixCache   bool     `env:"LOCKSTEP_DISABLE_PREFIX_CACHE" help:"Compute every prompt whole."`
	Speculate            int      `env:"SPECULATE" default:"0" placeholder:"N" help:"Tokens that a step guesses of a sequence at most, by what its prompt and answer have said before, and computes beside its next one: texts that repeat themselves come faster, and no token changes. Up to ${max_speculate}; 0: none."`
	CPUMemoryFraction    float64  `env:"CPU_MEMORY_FRACTION" placeholder:"SHARE" help:"Share of the memory that is free once the weights are loaded that the KV cache takes at the start. Default: what --max-batch-size sequences of a usual length need, and ${memory_fraction} at most; on cards 0.8."`
	Threads              int      `env:"LOCKSTEP_THREADS" placeholder:"N" help:"Computing threads of each shard. Default: the cores shared out."`
	StepLog              string   `env:"LOCKSTEP_STEP_LOG" placeholder:"FILE" help:"Append what each step computed and how long it took, for lockstep simulate --fit."`
	Backend              string   `env:"LOCKSTEP_BACKEND" enum:",${backends}" default:"" placeholder:"NAME" help:"What computes: ${backends}. sim computes nothing and answers with made-up tokens, for benchmarks and drills; it needs no weights. Default: cuda where this binary was built with it and there are cards, else ${backend}."`
	StepModel            string   `env:"LOCKSTEP_STEP_MODEL" placeholder:"TIME|FILE" help:"How long a step of --backend sim takes: a time (10ms), or a model that simulate --fit wrote. Default: Llama-2-7B on an A100."`
	KVCacheDtype         string   `name:"kv-cache-dtype" env:"KV_CACHE_DTYPE" default:"auto" placeholder:"auto|f32|f16|bf16" help:"Numbers of the KV cache. auto is f16, or f32 where the products are exact (--numerics). Cards go by --numerics."`
	Quantize             string   `env:"QUANTIZE" enum:",${quantize_names}" default:"" placeholder:"int8|int4|..." help:"Quantise plain weights while they are loaded: int8 (also bitsandbytes, eetq) or int4 (bitsandbytes-nf4, bitsandbytes-fp4), in blocks of 32 columns. gptq, awq, marlin, compressed-tensors and fp8 say of a model what its files say, or are refused."`
	Kernels              string   `env:"LOCKSTEP_KERNELS" enum:",${kernels}" default:"" placeholder:"NAME" help:"Forces a kernel path: cuda of NVIDIA cards; cpu, the best that the CPU has, or avx512, avx512f (without its dot products), avx2vnni, avx2 or go of it; or ptx, which computes what cards compute, by an emulation of one that is exact and slow. Default: cuda where this binary was built with it and there are cards, else cpu."`
	Devices              []string `env:"LOCKSTEP_DEVICES" placeholder:"CARD" help:"NVIDIA cards to compute on, one for each shard: numbers from 0, as the driver counts those that CUDA_VISIBLE_DEVICES leaves, or UUIDs. Default: all, or the first --num-shard."`
	CUDALibrary          string   `name:"cuda-library" env:"LOCKSTEP_CUDA_LIBRARY" placeholder:"FILE" help:"Library of the NVIDIA driver. Default: ${cuda_library}."`
	Numerics             string   `env:"LOCKSTEP_NUMERICS" enum:",${numerics}" default:"" placeholder:"NAME" help:"Arithmetic. Of the CPU: q8 multiplies quantised weights with activations of 8 bits and bfloat16 ones with bfloat16, bf16 the latter only, and f32 is exact. Of cards: bf16, or two-term, which is nearly that of float32 and needs twice the memory for the KV cache. Default: q8, and bf16 of cards."`
	CUDAGraphs           string   `name:"cuda-graphs" env:"CUDA_GRAPHS" placeholder:"N,N,..." help:"Batch sizes for which a card's decode steps are kept as CUDA graphs: a batch is filled up to the next of these, and larger ones run without. 0: no graphs. Default: ${graphs}."`
}

// routerFlags say how HTTP clients are served.
type routerFlags struct {
	MaxConcurrentRequests int      `env:"MAX_CONCURRENT_REQUESTS" default:"${max_concurrent_requests}" help:"Requests at once; more are answered with an overload error."`
	Admission             string   `env:"LOCKSTEP_ADMISSION" enum:"${admission_policies}" default:"${admission}" help:"How requests find room: conservative reserves all of max_new_tokens as TGI does, peak and past-future estimate."`
	Overload              string   `env:"LOCKSTEP_OVERLOAD" enum:"refuse,wait" default:"${overload}" help:"What happens to requests beyond --max-concurrent-requests: refuse answers with an overload error, wait lets them queue."`
	MaxQueueSize          int      `env:"LOCKSTEP_MAX_QUEUE_SIZE" default:"${max_queue_size}" help:"Requests that may wait with --overload wait; more are answered with an overload error."`
	QueueTimeout          float64  `env:"LOCKSTEP_QUEUE_TIMEOUT" default:"0" placeholder:"SECONDS" help:"Longest wait for a group, then an overload error. 0: as long as it takes."`
	ToolCallParser        string   `env:"LOCKSTEP_TOOL_CALL_PARSER" default:"auto" placeholder:"auto|NAME" help:"How the model writes calls of tools: hermes, qwen3_coder, llama3_json, pythonic, mistral, deepseek_v3, … or the name that vLLM, SGLang or LightLLM has for it. auto: as template and vocabulary tell."`
	ReasoningParser       string   `env:"LOCKSTEP_REASONING_PARSER" default:"auto" placeholder:"auto|none|NAME" help:"How the model marks its reasoning, which chats get apart from the answer: deepseek_r1, qwen3, … auto: as template and vocabulary tell; none: it is part of the answer."`
	DisableGrammarSupport bool     `env:"DISABLE_GRAMMAR_SUPPORT" help:"Refuse requests that constrain the answer: grammars, schemas, required tools."`
	GuideWhiteSpace       string   `env:"LOCKSTEP_GUIDE_WHITE_SPACE" enum:"tidy,none,space,any" default:"tidy" help:"White space in JSON answers that a schema constrains, unless a request says: tidy is a space or a line with its indent."`
	GuideOpenObjects      bool     `env:"LOCKSTEP_GUIDE_OPEN_OBJECTS" help:"Let objects have keys that their schema does not name where it does not forbid them, as the standard has it."`
	MaxBestOf             int      `env:"MAX_BEST_OF" default:"${max_best_of}" help:"Largest best_of."`
	MaxStopSequences      int      `env:"MAX_STOP_SEQUENCES" default:"${max_stop_sequences}" help:"Most stop sequences of a request. 0: none."`
	MaxClientBatchSize    int      `env:"MAX_CLIENT_BATCH_SIZE" placeholder:"N" help:"Most prompts of one completion request. Default: 4 with --tgi-version 3, else --max-concurrent-requests."`
	MaxTopNTokens         int      `env:"MAX_TOP_N_TOKENS" default:"${max_top_n_tokens}" help:"Largest top_n_tokens with --tgi-version 3."`
	ValidationWorkers     int      `env:"VALIDATION_WORKERS" default:"${validation_workers}" help:"Tokenizer threads."`
	WaitingServedRatio    float64  `env:"WAITING_SERVED_RATIO" default:"${waiting_served_ratio}" help:"Ratio of waiting to running requests that TGI lets interrupt decoding."`
	MaxWaitingTokens      int      `env:"MAX_WAITING_TOKENS" default:"${max_waiting_tokens}" help:"Tokens after which TGI lets waiting requests interrupt decoding."`
	Port                  int      `short:"p" env:"PORT" default:"3000" help:"HTTP port."`
	CORSAllowOrigin       []string `env:"CORS_ALLOW_ORIGIN" placeholder:"ORIGIN" help:"Origins that browsers may call from. Default: any."`
	Dialect               string   `env:"LOCKSTEP_DIALECT" enum:"${dialects}" default:"auto" help:"Whose clients are answered: auto decides for each request by its path (${prefixes}) and body."`
	DefaultDialect        string   `env:"LOCKSTEP_DEFAULT_DIALECT" enum:"${default_dialects}" default:"tgi" help:"Dialect of requests that do not tell."`
	TGIVersion            string   `name:"tgi-version" env:"LOCKSTEP_TGI_VERSION" enum:"${tgi_forms}" default:"0.9.4" help:"Version of TGI that its clients are answered as: 0.9.4, or 3 as 3.3.7 answers."`
	LightLLMErrors        string   `name:"lightllm-errors" env:"LOCKSTEP_LIGHTLLM_ERRORS" enum:"new,old" default:"new" help:"Envelope and statuses of LightLLM's errors, which changed in 2026."`
	Listen                []string `env:"LOCKSTEP_LISTEN" sep:";" placeholder:"DIALECT=HOST:PORT[,tls=FOLDER]" help:"One more address with a dialect of its own; tls names a folder as lockstep certs makes it. Repeatable."`
	APIKey                []string `name:"api-key" guards:"anyone may send requests" env:"API_KEY" placeholder:"KEY|@FILE" help:"Key of which every request that does work must show one as a bearer token; @FILE holds one a line. Repeatable."`
	TLSCert               string   `name:"tls-cert" guards:"requests are not encrypted" env:"LOCKSTEP_TLS_CERT" placeholder:"FILE" help:"Serve HTTPS with this certificate chain; it is read again when it changes."`
	TLSKey                string   `name:"tls-key" env:"LOCKSTEP_TLS_KEY" placeholder:"FILE" help:"Its key."`
	TLSKeyPassword        string   `name:"tls-key-password-file" env:"LOCKSTEP_TLS_KEY_PASSWORD_FILE" placeholder:"FILE" help:"File with the password of an encrypted key."`
	TLSClientCA           []string `name:"tls-client-ca" guards:"clients need no certificate" env:"LOCKSTEP_TLS_CLIENT_CA" placeholder:"FILE" help:"Clients must show a certificate of one of these authorities."`
	TLSCRL                []string `name:"tls-crl" guards:"revoked certificates are accepted" env:"LOCKSTEP_TLS_CRL" placeholder:"FILE" help:"Revocation lists of these authorities."`
	MaxConnections        int      `env:"LOCKSTEP_MAX_CONNECTIONS" default:"${max_connections}" help:"Open connections of each address; then a newcomer gets the place of one that waits for its client."`
	PayloadLimit          int      `env:"PAYLOAD_LIMIT" help:"Largest request body in bytes. Default: 2097152, or 2000000 with --tgi-version 3."`
}

// nodeFlags say how this node runs and whom it works with.
type nodeFlags struct {
	Hostname      string   `env:"HOSTNAME" default:"0.0.0.0" help:"Address to serve on."`
	Graceful      int      `name:"graceful-termination-timeout" short:"g" env:"GRACEFUL_TERMINATION_TIMEOUT" default:"${graceful}" help:"Seconds that requests have to finish after SIGTERM."`
	JSONOutput    bool     `env:"JSON_OUTPUT" help:"Log JSON lines."`
	LogLevel      string   `env:"LOG_LEVEL" default:"info" help:"trace, debug, info, warn, error or off; of a filter as TGI takes it, what applies to everything."`
	Env           bool     `short:"e" help:"Log the environment that the server runs in."`
	NATSURL       []string `name:"nats-url" env:"LOCKSTEP_NATS_URL" placeholder:"URL|@FILE" help:"NATS servers to use instead of the embedded one; @FILE holds one a line."`
	NATSPort      int      `name:"nats-port" env:"LOCKSTEP_NATS_PORT" default:"0" help:"Port of the embedded NATS server; 0 takes a free one."`
	Join          []string `env:"LOCKSTEP_JOIN" placeholder:"HOST[:PORT]" help:"Nodes to join, repeatable."`
	GossipAddress string   `env:"LOCKSTEP_GOSSIP_ADDRESS" placeholder:"HOST:PORT" help:"Address for membership. Default: off, or HOSTNAME:7946 for nodes and with --join."`
	NodeName      string   `env:"LOCKSTEP_NODE_NAME" placeholder:"NAME" help:"Unique, stable name of this node. Default: the machine's name."`
	ClusterKey    string   `guards:"what nodes say to each other is open to all" env:"LOCKSTEP_CLUSTER_KEY" placeholder:"KEY|@FILE" help:"Secret that all nodes share, of at least 16 characters, or the file that holds it: it encrypts what they say to each other, and NATS lets nobody in without it."`
	Insecure      bool     `weakens:"" env:"LOCKSTEP_INSECURE" help:"Work with other machines without --cluster-key: whoever reaches this node's ports can read and forge what it serves."`
}

// refusedFlags are TGI's flags that cannot be honoured. Given as flags they are refused with their reason: what is ignored
// is found out too late. Their variables are often left over in an environment that served TGI: those are warned of, but
// where the tag matters says what would silently be another than what was asked for, they are refused too. The tag accept
// has the values, between spaces, that the server honours anyway.
type refusedFlags struct {
	Revision              string `env:"REVISION" hidden:"" refuse:"models are read from local paths, which have no revisions"`
	Dtype                 string `env:"DTYPE" hidden:"" refuse:"weights are computed in the type that their files have"`
	TrustRemoteCode       bool   `env:"TRUST_REMOTE_CODE" hidden:"" refuse:"no model code is ever executed; the architecture must be supported"`
	CUDAMemoryFraction    string `name:"cuda-memory-fraction" env:"CUDA_MEMORY_FRACTION" hidden:"" accept:"1.0" refuse:"nothing bounds what is taken of a card as a whole; --cpu-memory-fraction is its sibling: the share that the KV cache takes of what is free beside the weights, on cards too"`
	PrometheusPort        string `env:"PROMETHEUS_PORT" hidden:"" refuse:"/metrics is served on the main port only"`
	ShardUDSPath          string `name:"shard-uds-path" env:"SHARD_UDS_PATH" hidden:"" refuse:"shards use no sockets"`
	MasterAddr            string `env:"MASTER_ADDR" hidden:"" refuse:"shards of one model meet in shared memory, not over the network"`
	MasterPort            string `env:"MASTER_PORT" hidden:"" refuse:"shards of one model meet in shared memory, not over the network"`
	HuggingfaceHubCache   string `env:"HUGGINGFACE_HUB_CACHE" hidden:"" refuse:"nothing is downloaded yet; give --model-id a path"`
	WeightsCacheOverride  string `env:"WEIGHTS_CACHE_OVERRIDE" hidden:"" refuse:"give --model-id the directory of the weights" matters:"tokens would be those of other weights"`
	DisableCustomKernels  bool   `env:"DISABLE_CUSTOM_KERNELS" hidden:"" refuse:"cards have no other kernels (--kernels go is the CPU's plain ones)"`
	RopeScaling           string `env:"ROPE_SCALING" hidden:"" refuse:"positions are scaled as the model's config.json says" matters:"tokens would be others"`
	RopeFactor            string `env:"ROPE_FACTOR" hidden:"" refuse:"positions are scaled as the model's config.json says" matters:"tokens would be others"`
	OTLPEndpoint          string `name:"otlp-endpoint" env:"OTLP_ENDPOINT" hidden:"" refuse:"tracing does not exist yet"`
	OTLPServiceName       string `name:"otlp-service-name" env:"OTLP_SERVICE_NAME" hidden:"" refuse:"tracing does not exist yet"`
	WatermarkGamma        string `env:"WATERMARK_GAMMA" hidden:"" accept:"0.5" refuse:"watermarks have TGI's default gamma, 0.5" matters:"watermarked tokens would be others"`
	WatermarkDelta        string `env:"WATERMARK_DELTA" hidden:"" accept:"2 2.0" refuse:"watermarks have TGI's default delta, 2.0" matters:"watermarked tokens would be others"`
	Ngrok                 bool   `env:"NGROK" hidden:"" refuse:"tunnels do not exist"`
	NgrokAuthtoken        string `env:"NGROK_AUTHTOKEN" hidden:"" refuse:"tunnels do not exist"`
	NgrokEdge             string `env:"NGROK_EDGE" hidden:"" refuse:"tunnels do not exist"`
	TokenizerConfigPath   string `env:"TOKENIZER_CONFIG_PATH" hidden:"" refuse:"the tokenizer's configuration is read from the model's directory; --chat-template replaces the template" matters:"prompts of chats would be others"`
	UsageStats            string `env:"USAGE_STATS" hidden:"" accept:"off" refuse:"no statistics are ever sent to anybody: only off is possible"`
	EnableAutoToolChoice  bool   `env:"ENABLE_AUTO_TOOL_CHOICE" hidden:"" accept:"true" refuse:""` // vLLM's; it always is
	EnablePrefillLogprobs bool   `env:"ENABLE_PREFILL_LOGPROBS" hidden:"" accept:"true" refuse:""` // they always are
}

// commandLine is the grammar.
type commandLine struct {
	Serve struct {
		modelFlags
		routerFlags
		nodeFlags
		refusedFlags
	} `cmd:"" default:"withargs" help:"Serve a model from this machine: NATS, shards and router."`
	Node struct {
		modelFlags
		nodeFlags
		refusedFlags
	} `cmd:"" help:"Run the shards of a node; routers elsewhere serve from them."`
	Router struct {
		routerFlags
		nodeFlags
		refusedFlags
		MaxInputLength int `env:"MAX_INPUT_LENGTH" placeholder:"TOKENS" help:"Longest prompt. Default: what the model allows."`
		MaxInputTokens int `env:"MAX_INPUT_TOKENS" placeholder:"TOKENS" help:"New name of --max-input-length."`
		MaxTotalTokens int `env:"MAX_TOTAL_TOKENS" placeholder:"TOKENS" help:"Longest prompt and output together. Default: what the model allows."`
	} `cmd:"" help:"Run a router that serves from the nodes it finds."`
	Status   statusFlags   `cmd:"" help:"Print what a router serves, and from which groups: devices, memory, load."`
	Simulate simulateFlags `cmd:"" help:"Run a trace of requests through queue, ledger and scheduler in virtual time."`
	Shard    struct {
		Group string `help:"Name of the group."`
		Rank  int    `help:"Rank in the group."`
	} `cmd:"" hidden:""`
	NATSUsers natsUsersFlags `cmd:"" name:"nats-users" help:"Print what a NATS server of your own must be configured with, so that it lets in these nodes and nobody else."`
	Certs     certsFlags     `cmd:"" help:"Make an authority and certificates of a server and a client, for tries."`
	Version   struct{}       `cmd:"" help:"Print the version."`
}

// settings are all flags, whatever the command.
type settings struct {
	modelFlags
	routerFlags
	nodeFlags
	guard    router.Config   // TLS, Listeners and APIKeys of it, once the flags are checked
	adapters []shard.Adapter // of LoraAdapters, likewise
	cards    []driver.Card   // by rank, where cards compute
	warnings []string        // of the environment, for the log
	graphs   []int           // of CUDAGraphs
}

// command is a checked command line.
type command struct {
	role      string // serve, node, router, status, simulate, nats-users, certs or version
	status    statusFlags
	simulate  simulateFlags
	natsUsers natsUsersFlags
	certs     certsFlags
	settings
}

var errHelpShown = errors.New("help shown")

// flagVars are what flags have from the parts: dialects, defaults of limits, backends.
func flagVars() kong.Vars {
	l, group, r := request.DefaultLimits(), shard.DefaultLimits(), router.DefaultConfig(tgi.Forms[0])
	return kong.Vars{
		"kernels":        strings.Join(slices.Concat(cpuKernels, []string{anyCPUKernels}, cardKernels), ","),
		"numerics":       strings.Join(shard.Numerics(), ","),
		"max_speculate":  strconv.Itoa(shard.MaxSpeculate),
		"graphs":         strings.Trim(strings.ReplaceAll(fmt.Sprint(shard.CardGraphs()), " ", ","), "[]"),
		"quantize_names": strings.Join(model.QuantiseNames(), ","),
		"backends":       strings.Join(shard.Backends(), ","), "backend": shard.DefaultBackend,
		"cuda_library": driver.DefaultLibrary,
		"prefixes":     "/" + strings.Join(api.Dialects[1:], ", /"), "dialects": strings.Join(api.Dialects, ","),
		"default_dialects": strings.Join(api.Dialects[1:], ","), "tgi_forms": strings.Join(tgi.Forms, ","),
		"max_concurrent_requests": strconv.Itoa(l.MaxConcurrentRequests), "max_best_of": strconv.Itoa(l.MaxBestOf),
		"max_batch_size": strconv.Itoa(group.MaxSequences), "max_batch_prefill_tokens": strconv.Itoa(group.PrefillTokens),
		"memory_fraction": fmt.Sprint(shard.DefaultMemoryFraction), "max_queue_size": strconv.Itoa(r.MaxQueueSize),
		"max_connections": strconv.Itoa(r.MaxConnections), "max_waiting_tokens": strconv.Itoa(r.MaxWaitingTokens),
		"waiting_served_ratio": fmt.Sprint(r.WaitingServedRatio), "graceful": fmt.Sprint(r.GracefulTerminationTimeout),
		"admission_policies": strings.Join(router.AdmissionPolicies, ","), "admission": r.Admission, "overload": r.Overload,
		"max_stop_sequences": strconv.Itoa(l.MaxStopSequences), "max_top_n_tokens": strconv.Itoa(l.MaxTopNTokens),
		"validation_workers": strconv.Itoa(l.ValidationWorkers),
	}
}

// limits are those of the router. The two that depend on the version of TGI are its defaults where there is no flag, or a 0.
func (f *routerFlags) limits() request.Limits {
	l := tgi.Limits(f.TGIVersion, f.MaxConcurrentRequests)
	l.MaxBestOf, l.MaxStopSequences, l.ValidationWorkers = f.MaxBestOf, f.MaxStopSequences, f.ValidationWorkers
	l.MaxTopNTokens = f.MaxTopNTokens
	l.MaxClientBatchSize = cmp.Or(f.MaxClientBatchSize, l.MaxClientBatchSize)
	l.PayloadLimit = cmp.Or(int64(f.PayloadLimit), l.PayloadLimit)
	return l
}

// parse reads arguments and environment. Its errors are for people and name the flag; --help goes to out.
func parse(arguments []string, out io.Writer) (command, error) {
	// In containers HOSTNAME is the container's name, which is no address to serve on: TGI falls back likewise.
	if net.ParseIP(os.Getenv("HOSTNAME")) == nil {
		os.Unsetenv("HOSTNAME")
	}
	var line commandLine
	parser, err := kong.New(&line, kong.Name("lockstep"), kong.Description("Serves large language models."),
		flagVars(), kong.Writers(out, out), kong.Exit(func(int) { panic(errHelpShown) }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}))
	if err != nil {
		return command{}, err
	}
	warnings := tidyEnvironment(parser.Model.Node)
	parsed, err := parseOrHelp(parser, arguments)
	if err != nil {
		return command{}, err
	}
	if err := checkEmpty(arguments); err != nil {
		return command{}, err
	}
	c := command{role: strings.Fields(parsed.Command())[0]}
	var refused refusedFlags
	switch c.role {
	case "serve":
		c.modelFlags, c.routerFlags, c.nodeFlags, refused = line.Serve.modelFlags, line.Serve.routerFlags, line.Serve.nodeFlags,
			line.Serve.refusedFlags
	case "node":
		c.modelFlags, c.nodeFlags, refused = line.Node.modelFlags, line.Node.nodeFlags, line.Node.refusedFlags
	case "router":
		c.routerFlags, c.nodeFlags, refused = line.Router.routerFlags, line.Router.nodeFlags, line.Router.refusedFlags
		c.MaxInputLength, c.MaxInputTokens, c.MaxTotalTokens = line.Router.MaxInputLength, line.Router.MaxInputTokens,
			line.Router.MaxTotalTokens
	case "shard":
		return c, errors.New("shards are started by the launcher: use `lockstep serve` or `lockstep node`")
	case "status":
		c.status = line.Status
		return c, c.status.check()
	case "simulate":
		c.simulate = line.Simulate
		return c, nil
	case "nats-users":
		c.natsUsers = line.NATSUsers
		return c, nil
	case "certs":
		c.certs = line.Certs
		return c, nil
	case "version":
		return c, nil
	}
	c.warnings = unless(parsed, warnings)
	if err := checkGiven(parsed); err != nil {
		return c, err
	}
	ignored, err := refuse(refused, parsed)
	if err != nil {
		return c, err
	}
	c.warnings = append(c.warnings, ignored...)
	return c, c.check()
}

func parseOrHelp(parser *kong.Kong, arguments []string) (parsed *kong.Context, err error) {
	defer func() {
		if cause := recover(); cause == any(errHelpShown) { //nolint:errorlint // what was thrown itself
			err = errHelpShown
		} else if cause != nil {
			panic(cause)
		}
	}()
	parsed, err = parser.Parse(arguments)
	if err != nil { // the empty value of a list of values stands for leaving the flag out
		err = errors.New(strings.Replace(err.Error(), `must be one of "",`, "must be one of ", 1))
	}
	return parsed, err
}
