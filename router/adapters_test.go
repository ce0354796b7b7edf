package router_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"lockstep/router/fleettest"
	"lockstep/shard"
)

// Groups of one model with different adapters: each request goes, and goes on, where its adapter is; all of them are listed.
func TestAdaptersOfSeveralGroups(t *testing.T) {
	natsURL := startNATS(t)
	fleettest.Start(t, natsURL, fleettest.Options{Name: "a"})
	one := fleettest.Options{Name: "b", Adapters: []shard.Adapter{{Name: "one"}}, StepTime: 5 * time.Millisecond}
	first := fleettest.Start(t, natsURL, one)
	url, _ := startRouter(t, natsURL, defaults)
	models := func() string {
		_, answer := fetch(t, url+"/v1/models")
		return answer
	}
	eventually(t, "the adapter of the second group is listed", func() bool { return strings.Contains(models(), `"id":"one"`) })
	ask := func(model string, tokens int) string {
		t.Helper()
		status, answer := post(t, url+completions, fmt.Sprintf(`{"model":%q,"prompt":"Once","max_tokens":%d,"temperature":0}`, model, tokens))
		if status != http.StatusOK {
			t.Fatalf("%s: got %d %s", model, status, answer)
		}
		_, text, _ := strings.Cut(answer, `"choices":`)
		text, _, _ = strings.Cut(text, `"usage"`)
		return text
	}
	base, adapted := ask("demo", 150), ask("one", 150)
	if base == adapted {
		t.Errorf("the adapter changes nothing: %s", base)
	}
	if status, answer := post(t, url+completions, `{"model":"two","prompt":"Once"}`); status != http.StatusNotFound ||
		!strings.Contains(answer, "model_not_found") {
		t.Errorf("got %d %s for an adapter that no group has", status, answer)
	}
	before := first.Dispatched()
	var waits sync.WaitGroup
	waits.Go(func() {
		if got := ask("one", 150); got != adapted {
			t.Errorf("got  %s\nwant %s", got, adapted)
		}
	})
	eventually(t, "the request has begun", func() bool { return first.Dispatched() > before && first.Holds() > 0 })
	first.Kill(true)
	if !strings.Contains(models(), `"id":"one"`) {
		t.Error("the adapter is forgotten at once, though its group may restart")
	}
	one.Name, one.Adapters = "c", []shard.Adapter{{Name: "two"}, {Name: "one"}}
	second := fleettest.Start(t, natsURL, one)
	waits.Wait()
	if second.Dispatched() == 0 {
		t.Error("the request did not go on at the group that has its adapter now")
	}
	eventually(t, "the new adapter is listed", func() bool { return strings.Contains(models(), `"id":"two"`) })
	if ask("two", 20) == ask("one", 20) || ask("demo", 150) != base {
		t.Error("adapters do not answer apart")
	}
}
