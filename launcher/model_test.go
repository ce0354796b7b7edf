package main_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// demoDirectory is the demo model as a directory, with files changed, or taken away where change returns nil.
func demoDirectory(t *testing.T, change map[string]func(content []byte) []byte) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"} {
		content, err := os.ReadFile(filepath.Join("demo", "model", name))
		if err != nil {
			t.Fatal(err)
		}
		if change[name] != nil {
			content = change[name](content)
		}
		if content == nil {
			continue
		}
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// with replaces a text that must be there.
func with(t *testing.T, old, new string) func([]byte) []byte {
	return func(content []byte) []byte {
		if !bytes.Contains(content, []byte(old)) {
			t.Fatalf("there is no %s", old)
		}
		return bytes.Replace(content, []byte(old), []byte(new), 1)
	}
}

// What can never become ready ends the start with an error that names file and cause.
func TestModelsThatNoRouterTakes(t *testing.T) {
	for name, c := range map[string]struct {
		tokenizer func([]byte) []byte
		want      string
	}{
		"other kind of tokenizer": {with(t, `"BPE"`, `"Unigram"`), "Unigram"},
		"other normalizer":        {with(t, `"normalizer":null`, `"normalizer":{"type":"Telepathy"}`), "Telepathy"},
		"tokens with one id":      {with(t, `"id":1,`, `"id":0,`), "has the ids 1 and 0"},
		"merges of no tokens": {func(content []byte) []byte {
			var file map[string]any
			json.Unmarshal(content, &file)
			file["model"].(map[string]any)["merges"] = []string{"no tokens"}
			content, _ = json.Marshal(file)
			return content
		}, "not in the vocabulary"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := demoDirectory(t, map[string]func([]byte) []byte{"tokenizer.json": compact(c.tokenizer)})
			for _, role := range []string{"serve", "node"} {
				s, _ := launch(t, role, "--hostname", "127.0.0.1", "--num-shard", "1", "--max-batch-total-tokens", "1024", "--model-id",
					dir,
					"--gossip-address", "127.0.0.1:"+strconv.Itoa(freePort(t)))
				go func() { s.done <- s.command.Wait() }()
				if code := s.exit(); code != 1 || !strings.Contains(s.logged(), c.want) || !strings.Contains(s.logged(), dir) ||
					!strings.Contains(s.logged(), "tokenizer.json") {
					t.Errorf("%s: exit code %d, want 1 and %q in:\n%s", role, code, c.want, s.logged())
				}
			}
		})
	}
}

// compact writes JSON without spaces before change sees it.
func compact(change func([]byte) []byte) func([]byte) []byte {
	return func(content []byte) []byte {
		var out bytes.Buffer
		if err := json.Compact(&out, content); err != nil {
			panic(err)
		}
		return change(out.Bytes())
	}
}

// A chat template that cannot be used keeps nobody from the rest, and the log says so at the start.
func TestUnusableChatTemplate(t *testing.T) {
	dir := demoDirectory(t, map[string]func([]byte) []byte{"tokenizer_config.json": with(t, "{% endfor %}", "{% endfor %}{% nonsense %}")})
	s := serve(t, "serve", "--hostname", "127.0.0.1", "--port", strconv.Itoa(freePort(t)), "--num-shard", "1", "--max-batch-total-tokens",
		"1024", "--model-id", dir)
	s.mustGenerate("Once upon a time", 3)
	eventually(t, "the log warns", func() bool { return strings.Contains(s.logged(), "the model's chat template cannot be used") })
}

// Without its NATS the server waits, says so, and stops when it is told to.
func TestNATSThatIsNotThere(t *testing.T) {
	for _, arguments := range [][]string{{"serve", "--port", "0", "--max-batch-total-tokens", "1024"}, {"router", "--port", "0"},
		{"node", "--max-batch-total-tokens", "1024"}} {
		s, _ := launch(t, append(arguments, "--hostname", "127.0.0.1", "--nats-url",
			"nats://user:hush-hush@127.0.0.1:"+strconv.Itoa(freePort(t)))...)
		go func() { s.done <- s.command.Wait() }()
		eventually(t, "the log warns", func() bool { return strings.Contains(s.logged(), "NATS cannot be reached") })
		s.command.Process.Signal(syscall.SIGTERM)
		if code := s.exit(); code != 0 || strings.Contains(s.logged(), "hush-hush") {
			t.Errorf("%v: exit code %d, want 0 and no password in:\n%s", arguments, code, s.logged())
		}
	}
}
