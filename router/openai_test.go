package router_test

import (
	"bufio"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"lockstep/router"
	"lockstep/router/fleettest"
)

// Errors of the fleet have the right status before a stream's first token, and tell it in an event behind it.
func TestOpenAIStreamErrors(t *testing.T) {
	t.Parallel()
	natsURL := startNATS(t)
	group := fleettest.Start(t, natsURL, fleettest.Options{StepTime: 5 * time.Millisecond})
	url, _ := startRouter(t, natsURL, settings(func(c *router.Config) { c.MaxConcurrentRequests, c.GroupWaitTimeout = 2, 0.3 }))
	const long = `{"prompt":"a","max_tokens":2000,"temperature":0,"stream":true}`
	response, err := http.Post(url+completions, "application/json", strings.NewReader(strings.Replace(long, "{", `{"n":2,`, 1)))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	begun := bufio.NewReader(response.Body)
	if first, err := begun.ReadString('\n'); err != nil || response.StatusCode != 200 {
		t.Fatalf("the stream begins with %d %q, %v", response.StatusCode, first, err)
	}
	for _, body := range []string{long, `{"prompt":"a"}`} {
		status, answer := post(t, url+completions, body)
		if status != 429 || !strings.Contains(answer, `"type":"rate_limit_error","param":null,"code":"rate_limit_exceeded"`) {
			t.Errorf("overload: %d %s", status, answer)
		}
	}
	if status, answer := post(t, url+completions, `{"prompt":"a","n":3}`); status != 400 || !strings.Contains(answer, `"param":"n"`) {
		t.Errorf("more answers than there can ever be: %d %s", status, answer)
	}
	group.Kill(true)
	rest, err := io.ReadAll(begun)
	// 503 is that of the second answer, where it had not begun yet.
	end := regexp.MustCompile(`"type":"server_error".*"http_status_code":50[03]\}\}` + "\n\ndata: \\[DONE\\]\n\n$")
	if text := string(rest); err != nil || !end.MatchString(text) {
		t.Errorf("the stream ends with %q, %v", text[max(0, len(text)-300):], err)
	}
	if status, answer := post(t, url+completions, long); status != 503 || !strings.Contains(answer, `"code":"model_unavailable"`) {
		t.Errorf("without a group: %d %s", status, answer)
	}
}
