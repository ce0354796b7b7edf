package core_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lockstep/router/fleet/core"
	"lockstep/router/request"
)

var seed = flag.Uint64("seed", 0, "of TestFaultsChangeNothing; 0: a new one")

// Whatever happens to groups, messages and the router, and in whatever order: a stream has each token once, in order, and none
// is missing; every call ends at last; then ledger and groups are empty; and the ledger never differs from the account of a
// group, unless it has forgotten the router.
func TestFaultsChangeNothing(t *testing.T) {
	first := *seed
	if first == 0 {
		first = rand.Uint64()
	}
	t.Logf("-seed %d", first)
	for i := range uint64(150) {
		w := newWorld(t, core.Config{Admission: policy, ResumeTimeout: 30 * time.Second})
		c := &chaos{t: t, w: w, random: rand.New(rand.NewPCG(first, i)), incarnations: map[string]int{}, forgetful: i%2 == 1}
		if c.adapters = i%3 == 0; c.adapters {
			c.do("model m numerics=n guides=%d", i%2)
			c.do("model lora numerics=n guides=1 adapters=x:1,y:2")
		}
		for range 250 {
			c.event()
		}
		c.heal()
		c.finish()
		if t.Failed() {
			path := filepath.Join(os.TempDir(), "fleet_chaos.txt")
			err := os.WriteFile(path, []byte("fleet resume-timeout=30s\n"+strings.Join(c.script, "\n")+"\n"), 0o644)
			t.Fatalf("seed %d, world %d; its script is in %s (%v)", first, i, path, err)
		}
	}
}

// chaos plays a script that it makes up.
type chaos struct {
	t            *testing.T
	w            *world
	random       *rand.Rand
	incarnations map[string]int // the last of each group
	forgetful    bool           // groups may forget the router, which the ledger then cannot know
	adapters     bool           // b and c have some, which some clients ask for, and can follow guides, as a can in half of the worlds
	script       []string
}

func (c *chaos) do(format string, arguments ...any) {
	line := fmt.Sprintf(format, arguments...)
	c.script = append(c.script, line)
	c.w.do(line)
}

func (c *chaos) living(name string) bool {
	for ref := range c.w.members {
		if ref.Group == name {
			return true
		}
	}
	return false
}

func (c *chaos) event() {
	name := string("abc"[c.random.IntN(3)])
	switch n := c.random.IntN(100); {
	case n < 22:
		more := ""
		if c.adapters && c.random.IntN(2) == 0 {
			more = []string{" card=lora", " card=lora adapter=x", " card=lora adapter=y"}[c.random.IntN(3)]
		}
		if c.adapters && c.random.IntN(4) == 0 {
			more += " guide"
		}
		c.do("submit %d prompt=%d new=%d%s", len(c.w.clients)+1, 1+c.random.IntN(40), 1+c.random.IntN(30), more)
	case n < 40:
		c.do("wait %dms", 50+50*c.random.IntN(30))
	case n < 48:
		c.client()
	case n < 50:
		c.router()
	case !c.living(name):
		c.restart(name)
	case n < 85:
		c.do("step %s %d%s", name, 1+c.random.IntN(3), []string{"", "", "", " lost"}[c.random.IntN(4)])
	default:
		c.fault(name)
	}
}

// client leaves, or has enough.
func (c *chaos) client() {
	for _, client := range c.w.clients {
		if !client.ended() && c.random.IntN(4) == 0 {
			c.do("%s %d", []string{"leave", "done"}[c.random.IntN(2)], client.number)
			return
		}
	}
	c.do("examine m")
}

// router is what happens to the router itself.
func (c *chaos) router() {
	switch c.random.IntN(4) {
	case 0:
		c.do("absent %dms", 100*c.random.IntN(40))
	case 1:
		c.do("link down")
		c.do("wait 3s")
		c.do("link up")
	case 2:
		c.do("cards held")
	default:
		c.do("cards good")
	}
}

func (c *chaos) restart(name string) {
	if old := c.incarnations[name]; old > 0 && c.random.IntN(2) == 0 {
		c.do("%s %s incarnation=%d%s", []string{"announce", "down"}[c.random.IntN(2)], name, old, c.card(name))
		return
	}
	c.incarnations[name]++
	kinds := map[string]string{"a": "", "b": "sequences=2", "c": "keep=2 requests=3 chunks=2"}
	c.do("group %s incarnation=%d %s%s", name, c.incarnations[name], kinds[name], c.card(name))
}

// card says which model a group has.
func (c *chaos) card(name string) string {
	if c.adapters && name != "a" {
		return " card=lora"
	}
	return ""
}

// fault is what may befall a group.
func (c *chaos) fault(name string) {
	off := []string{"", " off"}[c.random.IntN(2)]
	switch c.random.IntN(12) {
	case 0:
		c.do("kill %s", name)
		if c.random.IntN(2) == 0 {
			c.do("down %s incarnation=%d back=1s", name, c.incarnations[name])
		}
	case 1, 2:
		c.do("hold %s%s", name, off)
	case 3:
		c.do("silence %s%s", name, off)
	case 4, 5:
		c.do("lose %s%s", name, off)
	case 6:
		c.do("swallow %s", name)
	case 7, 8:
		c.do("answer %s", name)
	case 9:
		c.do("refuse %s %s", name, []string{"full", "draining", "none", "none"}[c.random.IntN(4)])
	case 10:
		c.do("say %s %s", name, []string{"ready", "stalled", "draining"}[c.random.IntN(3)])
	default:
		if c.forgetful {
			c.do("forget %s", name)
		}
	}
}

// heal ends all that is wrong.
func (c *chaos) heal() {
	c.do("cards good")
	for _, name := range []string{"a", "b", "c"} {
		if !c.living(name) {
			c.incarnations[name]++
			c.do("group %s incarnation=%d%s", name, c.incarnations[name], c.card(name))
		}
		for _, what := range []string{"hold %s off", "silence %s off", "lose %s off", "answer %s", "refuse %s none", "say %s ready"} {
			c.do(what, name)
		}
	}
}

// finish lets the groups compute until all is done, and looks at what is left.
func (c *chaos) finish() {
	for round := 0; ; round++ {
		running := 0
		for _, client := range c.w.clients {
			if !client.ended() {
				running++
			}
		}
		if running == 0 {
			break
		}
		if round > 400 {
			c.t.Errorf("%d calls do not end", running)
			return
		}
		c.compute()
	}
	for range 100 { // until the last answer that never comes is given up
		c.compute()
	}
	for _, client := range c.w.clients {
		err := client.err
		if err != nil && err.Class != request.Unavailable && !strings.HasSuffix(err.Message, "no shard group is available") {
			c.t.Errorf("client %d failed: %v", client.number, err)
		}
	}
	for i, load := range c.w.snapshot.Load.Groups {
		if load.Requests != 0 || load.LedgerTokens != 0 || c.w.snapshot.Load.Queued != 0 {
			c.t.Errorf("%s is left with %+v", c.w.snapshot.Groups[i].Ref, load)
		}
	}
	for _, m := range c.w.members {
		if len(m.requests) != 0 {
			c.t.Errorf("%s, for nobody", m)
		}
	}
	if got := c.w.snapshot.Load.Totals.LedgerMismatches; got != 0 && !c.forgetful {
		c.t.Errorf("the ledger differed %d times", got)
	}
}

func (c *chaos) compute() {
	for _, name := range []string{"a", "b", "c"} {
		c.do("step %s", name)
	}
	c.do("wait 250ms")
}
