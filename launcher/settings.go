package main

import (
	"errors"
	"fmt"
	"math"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"lockstep/launcher/demo"
	"lockstep/launcher/membership"
	"lockstep/protocol"
	"lockstep/protocol/regular"
	"lockstep/router"
	"lockstep/router/calls"
	"lockstep/router/chat"
	"lockstep/router/request"
	"lockstep/shard"
	"lockstep/shard/collective"
	"lockstep/shard/sim"
)

// check refuses what cannot run, in TGI's words where it has them, and fills in what follows from other settings.
func (c *command) check() error {
	if c.MaxInputLength != 0 && c.MaxInputTokens != 0 && c.MaxInputLength != c.MaxInputTokens {
		return errors.New("give --max-input-tokens or --max-input-length, not both: they are the same")
	}
	c.MaxInputLength = max(c.MaxInputLength, c.MaxInputTokens)
	if c.MaxTotalTokens == 1 {
		return errors.New("--max-total-tokens must be at least 2, a token of the prompt and one of the answer, got 1")
	}
	if err := c.checkNode(); err != nil {
		return err
	}
	if c.role != "node" {
		if err := c.checkRouter(); err != nil {
			return err
		}
	}
	if c.role != "router" {
		return c.checkModel()
	}
	return nil
}

func (c *command) checkModel() error {
	for _, flag := range []struct {
		name        string
		value, most int
	}{
		{"--num-shard", c.NumShard, collective.MaxRanks}, {"--threads", c.Threads, shard.MaxThreads},
		{"--max-input-length", c.MaxInputLength, math.MaxInt32},
	} {
		if flag.value < 0 {
			return fmt.Errorf("%s must not be negative, got %d", flag.name, flag.value)
		} else if flag.value > flag.most {
			return fmt.Errorf("%s must be at most %d, got %d", flag.name, flag.most, flag.value)
		}
	}
	limits := c.groupLimits()
	var wrong *shard.LimitError
	if errors.As(limits.Validate(), &wrong) {
		return fmt.Errorf("--%s %s", strings.ReplaceAll(wrong.Setting, "_", "-"), wrong.Why)
	}
	if c.MaxTotalTokens != 0 && c.MaxInputLength >= c.MaxTotalTokens {
		return fmt.Errorf("--max-input-length (%d) must be < --max-total-tokens (%d)", c.MaxInputLength, c.MaxTotalTokens)
	}
	if err := c.chooseBackend(); err != nil {
		return err
	}
	if err := c.chooseShards(); err != nil {
		return err
	}
	if err := c.chooseGraphs(); err != nil {
		return err
	}
	switch traits := shard.TraitsOf(c.Backend); {
	case c.Numerics != "" && len(traits.Numerics) == 0:
		return fmt.Errorf("--numerics chooses how weights are computed with, and --backend %s has none: leave one of them out", c.Backend)
	case c.Numerics != "" && !slices.Contains(traits.Numerics, c.Numerics):
		return fmt.Errorf("--numerics %s is not for what computes here (%s), which has %s", c.Numerics, c.Backend,
			strings.Join(traits.Numerics, ", "))
	case c.Speculate < 0 || c.Speculate > shard.MaxSpeculate:
		return fmt.Errorf("--speculate must lie between 0 and %d, got %d", shard.MaxSpeculate, c.Speculate)
	case c.Speculate > 0 && traits.Cards:
		return errors.New("--speculate guesses tokens on CPUs only: a card's steps are planned before the tokens of the step before are " +
			"known. Leave it out, or give --kernels cpu")
	case c.KVCacheDtype != "auto" && traits.Cards:
		return errors.New("--kv-cache-dtype is of the CPU's KV cache, and that of cards has numbers as --numerics says: leave it out, or " +
			"give --kernels cpu")
	case c.StepModel != "" && !traits.StepModel:
		return errors.New("--step-model tells how long the steps of --backend sim take, and another backend's take what they take")
	case c.Quantize != "" && !traits.Weights:
		return fmt.Errorf("--quantize is of weights, and --backend %s has none: leave one of them out", c.Backend)
	}
	if c.KVCacheDtype != "auto" && !slices.Contains(shard.KVCaches(), c.KVCacheDtype) {
		return fmt.Errorf("--kv-cache-dtype %s is not served; auto, %s are", c.KVCacheDtype, strings.Join(shard.KVCaches(), ", "))
	}
	if err := c.readAdapters(); err != nil {
		return fmt.Errorf("--lora-adapters: %w", err)
	}
	if _, err := sim.ParseStepModel(c.StepModel); err != nil {
		return fmt.Errorf("--step-model: %w", err)
	}
	if err := c.checkParsers(); err != nil {
		return err
	}
	if err := c.readChatTemplate(); err != nil {
		return err
	}
	return checkModelPath(c.ModelID)
}

// readAdapters reads NAME=PATH, or a path that is the name too, as TGI does. A path may have an equals sign itself: the first one
// parts the two.
func (c *command) readAdapters() error {
	c.adapters = nil
	for _, text := range c.LoraAdapters {
		name, path, named := strings.Cut(text, "=")
		if !named {
			path = name
		}
		c.adapters = append(c.adapters, shard.Adapter{Name: strings.TrimSpace(name), Path: strings.TrimSpace(path)})
	}
	if err := shard.CheckAdapters(c.adapters, c.Backend); err != nil {
		return err
	}
	for _, a := range c.adapters {
		if a.Path == "" {
			return fmt.Errorf("%q has no path: want NAME=PATH", a.Name+"=")
		}
		if !shard.TraitsOf(c.Backend).Weights {
			continue
		}
		if _, err := os.Stat(filepath.Join(a.Path, "adapter_config.json")); err != nil {
			return fmt.Errorf("%s: it is no directory with an adapter_config.json. Lockstep fetches no adapters by name: give a "+
				"directory in PEFT's format", a.Path)
		}
	}
	return nil
}

// groupLimits are the limits of the node's group.
func (c *command) groupLimits() shard.Limits {
	limits := shard.DefaultLimits()
	limits.MaxSequences, limits.PrefillTokens, limits.CacheTokens = c.MaxBatchSize, c.MaxBatchPrefillToken, c.MaxBatchTotalTokens
	limits.CacheMemoryFraction, limits.MaxSequenceTokens, limits.MaxPromptTokens = c.CPUMemoryFraction, c.MaxTotalTokens, c.MaxInputLength
	return limits
}

// maxTemplateBytes bounds a chat template's file; the longest of known models have some 30 KB.
const maxTemplateBytes = 128 << 10

// checkParsers refuses names of parsers that nobody has.
func (c *command) checkParsers() error {
	if c.ToolCallParser != router.ParserAuto && c.ToolCallParser != "" {
		if _, err := calls.Named(c.ToolCallParser); err != nil {
			return fmt.Errorf("--tool-call-parser: %w", err)
		}
	}
	if c.ReasoningParser != router.ParserAuto && c.ReasoningParser != "" {
		if _, err := calls.NamedReasoning(c.ReasoningParser); err != nil {
			return fmt.Errorf("--reasoning-parser: %w", err)
		}
	}
	return nil
}

// readChatTemplate puts the content of a file in the place of its name, and refuses what is no template.
func (c *command) readChatTemplate() error {
	if c.ChatTemplate == "" {
		return nil
	}
	if !strings.Contains(c.ChatTemplate, "{{") && !strings.Contains(c.ChatTemplate, "{%") {
		data, err := regular.Read(c.ChatTemplate, maxTemplateBytes)
		if err != nil {
			return fmt.Errorf("--chat-template is neither a Jinja text nor a file that can be read: %w", err)
		}
		c.ChatTemplate = string(data)
	}
	if _, err := chat.New(c.ChatTemplate, nil); err != nil {
		return fmt.Errorf("--chat-template: %w", err)
	}
	return nil
}

// checkModelPath finds out before anything is started that there is no such model.
func checkModelPath(path string) error {
	if path == "" || path == demo.ModelID {
		return nil
	}
	info, err := os.Stat(path)
	_, missing := os.Lstat(path)
	switch {
	case errors.Is(err, os.ErrNotExist) && missing == nil:
		return fmt.Errorf("--model-id %s: this is a link to a file that is not there: fetch the model anew, or name another", path)
	case errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("--model-id %s: no such file or directory. Lockstep fetches no models by name yet: give a directory in "+
			"Hugging Face format or a .gguf file", path)
	case err != nil:
		return fmt.Errorf("--model-id: %w", err)
	case !info.IsDir() && !info.Mode().IsRegular():
		return fmt.Errorf("--model-id %s: this is a device, pipe or socket: give a directory or a .gguf file", path)
	case !info.IsDir() && !strings.HasSuffix(strings.ToLower(path), ".gguf"):
		return fmt.Errorf("--model-id %s: neither a directory nor a .gguf file", path)
	case info.IsDir():
		if _, err := os.Lstat(filepath.Join(path, "config.json")); err == nil {
			return nil // be it a link to nothing: whoever opens the model says so
		}
		if files, err := filepath.Glob(filepath.Join(path, "*.gguf")); err == nil && len(files) > 0 {
			return fmt.Errorf("--model-id %s: the directory has no config.json: to serve a GGUF file, name it: %s", path, files[0])
		}
		return fmt.Errorf("--model-id %s: the directory has no config.json: give the one in Hugging Face format that holds it, or a "+
			".gguf file", path)
	}
	return nil
}

// maxQueueTimeout bounds --queue-timeout: a day, in seconds.
const maxQueueTimeout = 24 * 60 * 60

func (c *command) checkRouter() error {
	limits := c.limits()
	var wrong *request.LimitError
	switch {
	case errors.As(limits.Validate(), &wrong):
		return fmt.Errorf("--%s %s", strings.ReplaceAll(wrong.Setting, "_", "-"), wrong.Why())
	case c.Port < 0 || c.Port > 65535:
		return fmt.Errorf("--port must lie between 0 and 65535, got %d", c.Port)
	case c.MaxQueueSize < 1:
		return fmt.Errorf("--max-queue-size must be > 0, got %d", c.MaxQueueSize)
	case c.QueueTimeout < 0 || c.QueueTimeout > maxQueueTimeout:
		return fmt.Errorf("--queue-timeout must lie between 0 and %d seconds, got %v", maxQueueTimeout, c.QueueTimeout)
	case c.MaxWaitingTokens < 0 || c.WaitingServedRatio < 0:
		return errors.New("--max-waiting-tokens and --waiting-served-ratio must not be negative")
	case c.MaxConnections < 1:
		return fmt.Errorf("--max-connections must be > 0, got %d", c.MaxConnections)
	}
	return c.secureRouter(&c.guard)
}

func (c *command) checkNode() error {
	level, known := logLevel(c.LogLevel)
	if !known && !strings.Contains(c.LogLevel, "=") {
		c.warnings = append(c.warnings, fmt.Sprintf("log level %q is none of trace, debug, info, warn, error, off: info is taken",
			c.LogLevel))
	}
	c.LogLevel = level
	c.warnings = append(c.warnings, openSecrets(append(append([]string{c.ClusterKey}, c.NATSURL...), c.APIKey...))...)
	if err := c.readSecrets(); err != nil {
		return err
	}
	if c.Hostname == "localhost" {
		c.Hostname = "127.0.0.1"
	}
	if net.ParseIP(c.Hostname) == nil {
		return fmt.Errorf("--hostname %q is not an IP address", c.Hostname)
	}
	switch {
	case c.Graceful < 0:
		return fmt.Errorf("--graceful-termination-timeout must not be negative, got %d", c.Graceful)
	case c.NATSPort < 0 || c.NATSPort > 65535:
		return fmt.Errorf("--nats-port must lie between 0 and 65535, got %d", c.NATSPort)
	case len(c.NATSURL) > 0 && (c.NATSPort != 0 || len(c.Join) > 0 || c.GossipAddress != ""):
		return errors.New("--nats-url replaces the embedded NATS server: --nats-port, --join and --gossip-address have no use with it")
	case c.role == "router" && len(c.NATSURL) == 0 && len(c.Join) == 0 && c.GossipAddress == "":
		return errors.New("a router finds its nodes by --join HOST[:PORT] or --nats-url URL: give one of them")
	}
	if c.GossipAddress == "" && (len(c.Join) > 0 || c.role == "node") && len(c.NATSURL) == 0 {
		c.GossipAddress = net.JoinHostPort(c.Hostname, strconv.Itoa(membership.DefaultPort))
	}
	if err := c.checkCluster(); err != nil {
		return err
	}
	if c.NodeName == "" {
		c.NodeName = c.defaultName()
	}
	if !protocol.ValidToken(c.NodeName) {
		return fmt.Errorf("--node-name %q: want 1 to 64 letters, digits, '-' or '_'", c.NodeName)
	}
	return nil
}

// minClusterKey is how long a cluster key must be: who sees a handshake can try keys for as long as he likes.
const minClusterKey = 16

// checkCluster refuses to work with other machines without a secret.
func (c *command) checkCluster() error {
	host, port, err := c.gossip()
	if err != nil {
		return err
	}
	const way = "give all nodes the same --cluster-key (`openssl rand -hex 32` makes one), or --insecure where nobody else reaches " +
		"these ports"
	if c.ClusterKey != "" {
		if err := checkClusterKey(c.ClusterKey); err != nil {
			return err
		}
	} else if port != 0 && !isLoopback(host) && !c.Insecure {
		return fmt.Errorf("--gossip-address %s is open to other machines and nothing guards it: %s", c.GossipAddress, way)
	}
	for _, text := range c.NATSURL {
		address, err := url.Parse(text)
		if err != nil {
			return err // it was parsed before
		}
		if c.ClusterKey == "" && !c.Insecure && address.User.Username() == "" && !isLoopback(address.Hostname()) {
			return fmt.Errorf("--nats-url %s has no credentials: %s; or put a user into the URL", address.Host, way)
		}
	}
	return nil
}

func checkClusterKey(key string) error {
	if len(key) < minClusterKey {
		return fmt.Errorf("--cluster-key has %d characters, want at least %d: `openssl rand -hex 32` makes a good one", len(key),
			minClusterKey)
	}
	return nil
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// gossip is the address for membership; port 0 means none.
func (c *command) gossip() (host string, port int, err error) {
	if c.GossipAddress == "" {
		return "", 0, nil
	}
	host, text, err := net.SplitHostPort(c.GossipAddress)
	if err == nil {
		port, err = strconv.Atoi(text)
	}
	if err != nil || port < 1 || port > 65535 || net.ParseIP(host) == nil {
		return "", 0, fmt.Errorf("--gossip-address %q: want ADDRESS:PORT with an IP address", c.GossipAddress)
	}
	return host, port, nil
}

// defaultName is the machine's name; several nodes on loopback addresses of one machine differ by the address.
func (c *command) defaultName() string {
	name, err := os.Hostname()
	if err != nil {
		name = "node"
	}
	if host, port, _ := c.gossip(); port != 0 && net.ParseIP(host).IsLoopback() {
		name += "-" + host
	}
	name = strings.Map(func(r rune) rune {
		if r < 128 && protocol.ValidToken(string(r)) {
			return r
		}
		return '-'
	}, name)
	return name[:min(len(name), 64)]
}

// kvCache is the type of numbers in the KV cache as shards have it.
func (c *command) kvCache() string {
	if c.KVCacheDtype == "auto" {
		return ""
	}
	return c.KVCacheDtype
}
