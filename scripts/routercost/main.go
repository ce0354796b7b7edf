// Command routercost measures what a router costs for each token: it runs bin/lockstep router over a broker of its own and
// a shard group on the simulated backend, with many streams at once, and reads the router's CPU time from the kernel. Broker, group
// and clients run in this process and are not counted.
//
//	make build
//	go run ./scripts/routercost [-streams 128,1024] [-tokens 200] [-step 0] [-rounds 3] [-chat]
//
// The log-probability of each token tells when its frame was sent, so the time from there to the client's read is known. With
// -chat the streams are OpenAI's chats without log-probabilities, and it is not.
package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"lockstep/shard/sim"
)

func main() {
	streams := flag.String("streams", "128,1024", "streams at once")
	tokens := flag.Int("tokens", 200, "tokens of each stream")
	step := flag.Duration("step", 0, "time of a step of the group")
	rounds := flag.Int("rounds", 3, "rounds; each is printed")
	chat := flag.Bool("chat", false, "stream OpenAI's chats instead of TGI's generations")
	flag.Parse()
	log.SetFlags(0)
	if err := run(*streams, *tokens, *step, *rounds, *chat); err != nil {
		log.Fatal(err)
	}
}

func run(streams string, tokens int, step time.Duration, rounds int, chat bool) error {
	broker, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: -1, NoSigs: true, NoLog: true, MaxPayload: 8 << 20})
	if err != nil {
		return err
	}
	go broker.Start()
	defer broker.Shutdown()
	if !broker.ReadyForConnections(10 * time.Second) {
		return fmt.Errorf("the broker does not start")
	}
	g, err := startGroup(broker.ClientURL(), step)
	if err != nil {
		return err
	}
	defer g.stop()
	r, err := startRouter(broker.ClientURL())
	if err != nil {
		return err
	}
	defer r.stop()
	r.chat = chat
	fmt.Println("| streams | tokens/s | router CPU s per million tokens | router MiB | frame to client p50 | p99 |")
	fmt.Println("|---:|---:|---:|---:|---:|---:|")
	for _, text := range strings.Split(streams, ",") {
		count, err := strconv.Atoi(text)
		if err != nil || count < 1 {
			return fmt.Errorf("-streams %q", text)
		}
		for range rounds {
			if err := r.measure(count, tokens); err != nil {
				return err
			}
		}
	}
	return nil
}

// router is a running bin/lockstep router.
type router struct {
	command *exec.Cmd
	pid     int // of the process that serves
	url     string
	client  *http.Client
	chat    bool // streams are chats
}

func startRouter(natsURL string) (*router, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	address := listener.Addr().(*net.TCPAddr)
	listener.Close()
	r := &router{url: "http://" + address.String(), client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 4096}}}
	r.command = exec.Command("bin/lockstep", "router", "--nats-url", natsURL, "--hostname", "127.0.0.1", "--port",
		strconv.Itoa(address.Port),
		"--max-concurrent-requests", "4096", "--log-level", "error")
	r.command.Stderr = os.Stderr
	if err := r.command.Start(); err != nil {
		return nil, fmt.Errorf("%w (make build makes bin/lockstep)", err)
	}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if response, err := r.client.Get(r.url + "/health"); err == nil {
			response.Body.Close()
			if response.StatusCode == http.StatusOK {
				break
			}
		}
		if time.Now().After(deadline) {
			r.stop()
			return nil, fmt.Errorf("the router does not become healthy")
		}
	}
	if r.pid = childOf(r.command.Process.Pid); r.pid == 0 {
		r.stop()
		return nil, fmt.Errorf("no router process")
	}
	return r, nil
}

func (r *router) stop() {
	r.command.Process.Signal(syscall.SIGTERM)
	r.command.Wait()
}

// childOf returns the first child of a process.
func childOf(parent int) int {
	paths, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		fields := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
		if len(fields) > 1 && fields[1] == strconv.Itoa(parent) {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
			return pid
		}
	}
	return 0
}

// spent is the CPU time that the router has used, and its resident memory.
func (r *router) spent() (seconds float64, residentBytes int64, err error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", r.pid))
	if err != nil {
		return 0, 0, err
	}
	fields := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
	user, _ := strconv.ParseFloat(fields[11], 64)
	system, _ := strconv.ParseFloat(fields[12], 64)
	pages, _ := strconv.ParseInt(fields[21], 10, 64)
	const ticksPerSecond = 100
	return (user + system) / ticksPerSecond, pages * int64(os.Getpagesize()), nil
}

// measure runs so many streams at once, each on a connection of its own.
func (r *router) measure(streams, tokens int) error {
	before, _, err := r.spent()
	if err != nil {
		return err
	}
	delays := make([][]time.Duration, streams)
	failures := make([]error, streams)
	begin := time.Now()
	var group sync.WaitGroup
	for i := range streams {
		group.Go(func() { delays[i], failures[i] = r.stream(i, tokens) })
	}
	group.Wait()
	duration := time.Since(begin)
	after, resident, err := r.spent()
	if err != nil {
		return err
	}
	var all []time.Duration
	for i := range streams {
		if missing := tokens - len(delays[i]); failures[i] == nil && missing != 0 && !(r.chat && missing <= tokens/10) {
			failures[i] = fmt.Errorf("%d tokens, want %d", len(delays[i]), tokens)
		}
		if failures[i] != nil {
			return failures[i]
		}
		all = append(all, delays[i]...)
	}
	slices.Sort(all)
	count := float64(streams * tokens) // in chats a token that has no text of its own has no event
	fmt.Printf("| %d | %.0f | %.2f | %d | %v | %v |\n", streams, count/duration.Seconds(), (after-before)/count*1e6, resident>>20,
		all[len(all)/2].Round(10*time.Microsecond), all[len(all)*99/100].Round(10*time.Microsecond))
	return nil
}

var logprobMark, contentMark = []byte(`"logprob":`), []byte(`"delta":{"content":`)

// stream reads one generation, and for each token how long ago its frame was sent.
func (r *router) stream(number, tokens int) ([]time.Duration, error) {
	path, body := "/tgi/generate_stream", fmt.Sprintf(`{"inputs":"Once upon a time %d","parameters":{"max_new_tokens":%d}}`, number, tokens)
	if r.chat {
		path = "/v1/chat/completions"
		body = fmt.Sprintf(`{"messages":[{"role":"user","content":"Once upon a time %d"}],"max_tokens":%d,"temperature":0,"stream":true}`,
			number, tokens)
	}
	request, err := http.NewRequestWithContext(context.Background(), http.MethodPost, r.url+path, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := r.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	delays := make([]time.Duration, 0, tokens)
	for lines := bufio.NewReader(response.Body); ; {
		line, err := lines.ReadSlice('\n')
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) { // the last event is long
			return delays, nil
		}
		if r.chat {
			if bytes.Contains(line, contentMark) {
				delays = append(delays, 0)
			}
			continue
		}
		at := bytes.Index(line, logprobMark)
		if at < 0 {
			continue
		}
		value := line[at+len(logprobMark):]
		end := bytes.IndexByte(value, ',')
		sent, err := strconv.ParseFloat(string(value[:end]), 64)
		if err != nil {
			return nil, err
		}
		delays = append(delays, sim.SinceStamp(sent))
	}
}
