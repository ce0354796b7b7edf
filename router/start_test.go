package router_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"lockstep/protocol"
	"lockstep/router"
	"lockstep/router/api/tgi"
	"lockstep/router/fleettest"
)

// freePort returns a port that nobody listens at now.
func freePort(t testing.TB) int {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port
}

// A router may come up before everything else: it is not healthy, and a request waits for the first group.
func TestStartsBeforeEverythingElse(t *testing.T) {
	port, natsPort := freePort(t), freePort(t)
	url := fmt.Sprintf("http://127.0.0.1:%d", port)
	config := settings(func(c *router.Config) {
		c.Name, c.NATSURLs, c.Hostname, c.Port = "early", []string{fmt.Sprintf("nats://127.0.0.1:%d", natsPort)}, "127.0.0.1", port
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- router.Run(ctx, config, nopLog, router.Signs{}) }()
	health := func() int {
		response, err := http.Get(url + "/health")
		if err != nil {
			return 0
		}
		response.Body.Close()
		return response.StatusCode
	}
	eventually(t, "it listens", func() bool { return health() != 0 })
	if got := health(); got != 503 {
		t.Errorf("health is %d, want 503", got)
	}
	waiting := make(chan string, 1)
	go func() {
		_, answer := post(t, url+"/generate", body("first", 5))
		waiting <- answer
	}()
	broker := startBroker(t, natsPort)
	fleettest.Start(t, broker.ClientURL(), fleettest.Options{})
	first := <-waiting
	if _, again := post(t, url+"/generate", body("first", 5)); first != again || !strings.HasPrefix(first, `{"generated_text":`) {
		t.Errorf("got %s, and once all is there %s", first, again)
	}
	if got := health(); got != 200 {
		t.Errorf("health is %d, want 200", got)
	}
	var info struct {
		MaxInputLength int `json:"max_input_length"`
		MaxTotalTokens int `json:"max_total_tokens"`
		tgi.Fleet
	}
	response, err := http.Get(url + "/info")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if err := json.NewDecoder(response.Body).Decode(&info); err != nil || info.MaxTotalTokens != 2048 || info.MaxInputLength != 2047 {
		t.Errorf("limits from the group: got %+v, %v", info, err)
	}
	want := tgi.Group{Group: "group-1", Node: "test", ModelID: "demo", Serves: true, State: "ready", Shards: 1, DeviceType: "sim",
		Device: "simulated (1ms)", Numerics: "sim.1", CapacityTokens: 16384}
	if len(info.Groups) == 1 {
		g := &info.Groups[0]
		if g.FreeBytes <= 0 || g.FreeBytes >= 64<<30 { // of the simulated device, whose KV cache is taken
			t.Errorf("%d bytes are free", g.FreeBytes)
		}
		g.FreeBytes, g.HeldTokens, g.CachedTokens, g.Running = 0, 0, 0, 0 // the requests may not have left yet
	}
	if info.Numerics != "sim.1" || !slices.Equal(info.Groups, []tgi.Group{want}) {
		t.Errorf("got the fleet %+v, want the group %+v", info.Fleet, want)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// Whatever is published on the router's subjects, it goes on serving.
func TestForeignMessages(t *testing.T) {
	natsURL := startNATS(t)
	group := fleettest.Start(t, natsURL, fleettest.Options{Incarnation: 7})
	url, _ := startRouter(t, natsURL, defaults)
	conn, err := nats.Connect(natsURL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for _, message := range []string{
		"", "{", "null", `{"version":99,"group":"x"}`, `{"version":1,"group":"../x"}`,
		`{"version":1,"group":"huge","incarnation":1,"card_digest":"aa","card_bytes":999999999999}`,
		`{"version":1,"group":"silent","incarnation":1,"card_digest":"bb","card_bytes":10,"limits":{"capacity_tokens":-1}}`,
		fmt.Sprintf(`{"version":1,"group":%q,"incarnation":3,"card_digest":"old"}`, group.Ref().Group),
	} {
		conn.Publish(protocol.AnnounceSubject("x"), []byte(message))
		conn.Publish(protocol.DownSubject("x"), []byte(message))
	}
	conn.Flush()
	calm(t, url, "after noise", 20)
}

// Each event of a stream is on the wire before the next step: nothing is held back.
func TestEventsAreFlushed(t *testing.T) {
	natsURL := startNATS(t)
	fleettest.Start(t, natsURL, fleettest.Options{StepTime: 300 * time.Millisecond})
	url, _ := startRouter(t, natsURL, defaults)
	response, err := http.Post(url+"/generate_stream", "application/json", strings.NewReader(body("slowly", 4)))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	lines := bufio.NewScanner(response.Body)
	var times []time.Time
	for lines.Scan() {
		if lines.Text() != "" {
			times = append(times, time.Now())
		}
	}
	if len(times) != 4 || times[3].Sub(times[0]) < 600*time.Millisecond {
		t.Errorf("got %d events within %v", len(times), times[len(times)-1].Sub(times[0]))
	}
}
