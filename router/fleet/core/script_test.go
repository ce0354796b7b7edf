package core_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"lockstep/protocol"
	"lockstep/protocol/guide"
	"lockstep/router/fleet/core"
	"lockstep/router/request"
)

var update = flag.Bool("update", false, "write what is seen into the scripts")

// Each script in testdata says what happens, and behind each line what is seen of it, in virtual time. README.txt there says
// how to read and write them.
func TestScripts(t *testing.T) {
	paths, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(paths) < 10 {
		t.Fatalf("%d scripts, %v", len(paths), err)
	}
	for _, path := range paths {
		name := strings.TrimSuffix(filepath.Base(path), ".txt")
		if name == "README" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			want := string(data)
			got := play(t, want)
			if *update {
				if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			} else if got != want {
				t.Errorf("%s differs from what is seen; first line of each that does:\n%s", path, difference(got, want))
			}
		})
	}
}

func difference(got, want string) string {
	a, b := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return fmt.Sprintf("%d: got  %s\n%d: want %s", i+1, a[i], i+1, b[i])
		}
	}
	return "one is longer"
}

// play runs a script and returns it with what was seen.
func play(t *testing.T, script string) string {
	var out strings.Builder
	var w *world
	for line := range strings.Lines(script) {
		line = strings.TrimRight(line, "\n")
		if strings.HasPrefix(line, "  ") {
			continue // what was seen before
		}
		out.WriteString(line + "\n")
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if w == nil {
			w = newWorld(t, configured(t, line))
			continue
		}
		w.do(line)
		for _, seen := range w.seen {
			out.WriteString("  " + seen + "\n")
		}
	}
	return out.String()
}

// configured reads the first line of a script.
func configured(t *testing.T, line string) core.Config {
	words := strings.Fields(line)
	if words[0] != "fleet" {
		t.Fatalf("%q: a script begins with its fleet", line)
	}
	o := options{t, words[1:]}
	config := core.Config{Admission: policy, QueueTimeout: o.duration("queue-timeout", 0),
		ResumeTimeout: o.duration("resume-timeout", 10*time.Second), ModelID: o.text("model", "")}
	config.Admission.QueueLimit = o.number("queue", 0)
	return config
}

// options are words of the form NAME=VALUE.
type options struct {
	t     *testing.T
	words []string
}

func (o options) text(name, otherwise string) string {
	for _, word := range o.words {
		if value, ok := strings.CutPrefix(word, name+"="); ok {
			return value
		}
	}
	return otherwise
}

func (o options) number(name string, otherwise int) int {
	text := o.text(name, "")
	if text == "" {
		return otherwise
	}
	value, err := strconv.Atoi(text)
	if err != nil {
		o.t.Fatal(err)
	}
	return value
}

func (o options) duration(name string, otherwise time.Duration) time.Duration {
	text := o.text(name, "")
	if text == "" {
		return otherwise
	}
	value, err := time.ParseDuration(text)
	if err != nil {
		o.t.Fatal(err)
	}
	return value
}

// adapters reads adapters=NAME:DIGEST,…
func (o options) adapters() (adapters []protocol.Adapter) {
	for word := range strings.SplitSeq(o.text("adapters", ""), ",") {
		if name, digest, ok := strings.Cut(word, ":"); ok {
			adapters = append(adapters, protocol.Adapter{Name: name, Digest: digest})
		}
	}
	return adapters
}

// guide reads the word guide.
func (o options) guide() *guide.Source {
	if !slices.Contains(o.words, "guide") {
		return nil
	}
	return &guide.Source{Kind: guide.Regex, Text: "a*"}
}

// do plays one line and leaves in w.seen what was seen.
func (w *world) do(line string) {
	w.seen = nil
	words := strings.Fields(line)
	arguments := append(words[1:], "", "")
	o := options{w.t, words[1:]}
	switch {
	case w.time(words[0], arguments[0]):
	case w.clientSays(words[0], arguments[0], o):
	case w.groupDoes(words[0], arguments, o):
	case words[0] == "cards":
		w.cards = arguments[0]
	case words[0] == "model":
		w.models[digest(arguments[0])] = protocol.ModelCard{ModelID: arguments[0], NumericsID: o.text("numerics", ""),
			GuideVersion: o.number("guides", 0),
			Tokenizer:    protocol.TokenizerSource{GGUF: &protocol.GGUFTokenizer{Model: o.text("tokenizer", "")}}, Adapters: o.adapters()}
	case words[0] == "unknown": // the owner of models has forgotten a card
		w.unknown[digest(arguments[0])] = true
	case words[0] == "link":
		w.link = core.Link{Up: arguments[0] == "up", PayloadBytes: o.number("payload", 0)}
	case words[0] == "examine":
		w.fleet.Examine(w.now, digest(arguments[0]), func(err error) { w.see("health of %s: %v", arguments[0], err) })
	case words[0] == "load":
		w.showLoad()
	case words[0] == "totals":
		w.pass(tick)
		w.see("%+v", w.snapshot.Load.Totals)
	case words[0] == "stop":
		w.fleet.Stop()
	default:
		w.t.Fatalf("%q: no such line", line)
	}
	w.settle()
}

// time plays what lets time pass.
func (w *world) time(verb, argument string) bool {
	if verb != "wait" && verb != "absent" {
		return false
	}
	d, err := time.ParseDuration(argument)
	if err != nil {
		w.t.Fatal(err)
	}
	w.waiting = w.now
	if verb == "wait" {
		w.pass(d)
	} else { // nobody ticks
		w.now = w.now.Add(d)
		w.tick()
	}
	w.waiting = time.Time{}
	return true
}

// clientSays plays what clients do.
func (w *world) clientSays(verb, argument string, o options) bool {
	if !slices.Contains([]string{"submit", "leave", "done"}, verb) {
		return false
	}
	number, err := strconv.Atoi(argument)
	if err != nil {
		w.t.Fatal(err)
	}
	switch verb {
	case "submit":
		prompt := slices.Repeat([]int32{int32(number)}, o.number("prompt", 10))
		w.submit(number, &request.Request{CardDigest: digest(o.text("card", "m")), Request: protocol.Request{Prompt: prompt,
			MaxNewTokens: o.number("new", 5), Adapter: o.text("adapter", ""), PromptLogprobs: slices.Contains(o.words, "echo"),
			Guide: o.guide()}})
	default:
		c := w.client(number)
		w.drain(c)
		c.left = true
		w.fleet.Cancel(w.now, c.id, verb == "done")
	}
	return true
}

// groupDoes plays what groups do, and what is done to them.
func (w *world) groupDoes(verb string, arguments []string, o options) bool {
	name, second := arguments[0], arguments[1]
	switch verb {
	case "group":
		w.start(name, o)
	case "announce": // an old one, of an incarnation that may be dead
		old := &member{ref: reference(name, o), card: o.text("card", "m"), limits: limits, state: protocol.StateReady}
		w.fleet.Announced(w.now, name, old.announcement())
	case "say":
		w.member(name).state = protocol.GroupState(second)
		w.fleet.Announced(w.now, name, w.member(name).announcement())
	case "down":
		w.fleet.Down(w.now, name, protocol.Down{GroupRef: reference(name, o), Reason: "by script",
			Stopped: slices.Contains(o.words, "stopped"), BackSeconds: o.duration("back", 0).Seconds()})
	case "kill":
		delete(w.members, w.member(name).ref)
	case "step":
		count := 1
		if value, err := strconv.Atoi(second); err == nil {
			count = value
		}
		for range count {
			w.member(name).compute(slices.Contains(o.words, "lost"))
			w.settle()
		}
	case "row":
		finish := protocol.FinishNone
		if slices.Contains(o.words, "error") {
			finish = protocol.FinishError
		} else if slices.Contains(o.words, "guide") {
			finish = protocol.FinishGuide
		}
		w.member(name).row(uint64(o.number("wire", 0)), o.number("position", 0), finish)
	case "answer":
		w.member(name).swallows = false
		w.member(name).answer()
	case "refuse":
		w.member(name).refuses = protocol.Code(strings.TrimPrefix(second, "none"))
	case "forget":
		w.member(name).forget()
	default:
		return w.groupIs(verb, name, second != "off")
	}
	return true
}

// groupIs plays what a group is from now on.
func (w *world) groupIs(verb, name string, on bool) bool {
	switch verb {
	case "hold":
		w.member(name).held = on
	case "silence":
		w.member(name).silent = on
	case "lose":
		w.member(name).lossy = on
	case "swallow":
		w.member(name).swallows = on
	case "miscount":
		w.member(name).miscounts = on
	default:
		return false
	}
	return true
}

func reference(name string, o options) protocol.GroupRef {
	return protocol.GroupRef{Group: name, Incarnation: uint64(o.number("incarnation", 1))}
}

// start starts a group, which announces itself.
func (w *world) start(name string, o options) {
	m := &member{world: w, ref: reference(name, o), card: o.text("card", "m"), limits: limits, state: protocol.StateReady,
		keep: o.number("keep", protocol.ReplayFrames), chunks: o.number("chunks", 0)}
	m.limits.MaxSequences = o.number("sequences", 0)
	m.limits.MaxRequests = o.number("requests", limits.MaxRequests)
	w.members[m.ref] = m
	w.fleet.Announced(w.now, name, m.announcement())
}

// showLoad shows the fleet as it is after a tick.
func (w *world) showLoad() {
	w.pass(tick)
	w.see("%d wait", w.snapshot.Load.Queued)
	for i, g := range w.snapshot.Groups {
		load := w.snapshot.Load.Groups[i]
		state := "open"
		if !g.Ready {
			state = "shut (" + string(load.State) + ")"
		}
		if load.Silent {
			state = "shut (silent)"
		}
		w.see("%s is %s: %d requests, ledger %d, error %d", g.Ref, state, load.Requests, load.LedgerTokens, load.ErrorTokens)
	}
}
