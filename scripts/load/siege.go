package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// siegeTest is what those can do to a server who have no part in it. All of it stays on this machine.
type siegeTest struct {
	bodies, connections int
	only                string
}

const (
	apiKey = "the key of the siege"
	// bodyBytes of each body; all but the last byte is sent.
	bodyBytes = 1_900_000
	// spoken is how many requests are made of a server whose log nobody reads.
	spoken = 2000
	// listening is how long a foreign NATS server listens.
	listening = 5 * time.Second
)

func (s *siegeTest) run() error {
	fmt.Println("| siege | result |")
	fmt.Println("|---|---|")
	for _, part := range []struct {
		name string
		do   func() (string, error)
	}{
		{fmt.Sprintf("%d bodies of %.1f MB without a key", s.bodies, bodyBytes/1e6), func() (string, error) { return s.crowdBodies("") }},
		{fmt.Sprintf("%d bodies of %.1f MB with the key", s.bodies, bodyBytes/1e6),
			func() (string, error) { return s.crowdBodies(apiKey) }},
		{"a log that nobody reads", s.unreadLog},
		{"a foreign NATS server on loopback, no cluster key", func() (string, error) { return s.foreignRoute("") }},
		{"a foreign NATS server on loopback, a cluster key", func() (string, error) { return s.foreignRoute(clusterKey) }},
		{fmt.Sprintf("%d idle connections and a newcomer", s.connections), s.idle},
	} {
		if !strings.Contains(part.name, s.only) {
			continue
		}
		result, err := part.do()
		if err != nil {
			result = "not measured: " + strings.Join(strings.Fields(err.Error()), " ")
		}
		fmt.Printf("| %s | %s |\n", part.name, result)
	}
	return nil
}

// crowdBodies sends all of each body but its last byte and waits; then it looks at the router's memory.
func (s *siegeTest) crowdBodies(key string) (string, error) {
	server, err := start("--num-shard", "1", "--threads", "1", "--max-batch-total-tokens", "8192", "--log-level", "error", "--api-key",
		apiKey)
	if err != nil {
		return "", err
	}
	defer server.Stop()
	before := server.residentBytes()["router"]
	address := strings.TrimPrefix(server.URL, "http://")
	head := fmt.Sprintf("POST /generate HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n", bodyBytes)
	if key != "" {
		head += "Authorization: Bearer " + key + "\r\n"
	}
	message := append([]byte(head+"\r\n"), bytes.Repeat([]byte(" "), bodyBytes-1)...)
	answers := make(chan string, s.bodies)
	var open []net.Conn
	for range s.bodies {
		connection, err := net.Dial("tcp", address)
		if err != nil {
			return "", err
		}
		open = append(open, connection)
		go func() {
			connection.SetDeadline(time.Now().Add(8 * time.Second))
			go connection.Write(message)
			line := make([]byte, 12)
			if _, err := io.ReadFull(connection, line); err != nil {
				line = []byte("no answer yet")
			}
			answers <- string(line)
		}()
	}
	counts, most := map[string]int{}, before
	for done := 0; done < s.bodies; {
		select {
		case answer := <-answers:
			counts[answer]++
			done++
		case <-time.After(50 * time.Millisecond):
		}
		most = max(most, server.residentBytes()["router"])
	}
	for _, connection := range open {
		connection.Close()
	}
	return fmt.Sprintf("router %d MiB before, %d MiB at most; answers %v", before>>20, most>>20, counts), nil
}

// unreadLog talks to a server whose standard error is a pipe that nobody reads.
func (s *siegeTest) unreadLog() (string, error) {
	read, write, err := os.Pipe()
	if err != nil {
		return "", err
	}
	defer read.Close()
	command := exec.Command(binary, "serve", "--hostname", "127.0.0.1", "--port", "0", "--num-shard", "1", "--threads", "1",
		"--max-batch-total-tokens", "8192")
	command.Stderr = write
	out, err := command.StdoutPipe()
	if err != nil {
		return "", err
	}
	if err := command.Start(); err != nil {
		return "", err
	}
	write.Close()
	defer command.Process.Kill()
	buffer := make([]byte, 4096)
	n, err := out.Read(buffer)
	if err != nil {
		return "", err
	}
	base := regexp.MustCompile(`http://[0-9.:]+`).FindString(string(buffer[:n]))
	client := http.Client{Timeout: 5 * time.Second}
	answered := 0
	for range spoken {
		response, err := client.Post(base+"/generate", "application/json", strings.NewReader(`{"inputs":"Once","parameters":{"max_new_tokens":1}}`))
		if err != nil {
			break
		}
		io.Copy(io.Discard, response.Body)
		response.Body.Close()
		answered++
	}
	begin := time.Now()
	command.Process.Signal(syscall.SIGTERM)
	done := make(chan error, 1)
	go func() { done <- command.Wait() }()
	ended := "no end within 20 s of SIGTERM"
	select {
	case <-done:
		ended = fmt.Sprintf("ended %v after SIGTERM", time.Since(begin).Round(time.Millisecond))
	case <-time.After(20 * time.Second):
	}
	return fmt.Sprintf("%d of %d requests answered; %s", answered, spoken, ended), nil
}

// foreignRoute joins a NATS server that has no key to a node's mesh, listens, and says that the group has died.
func (s *siegeTest) foreignRoute(key string) (string, error) {
	arguments := []string{"--num-shard", "1", "--threads", "1", "--max-batch-total-tokens", "8192", "--log-level", "debug",
		"--gossip-address", "127.0.0.1:" + gossipPort, "--node-name", "besieged"}
	if key != "" {
		arguments = append(arguments, "--cluster-key", key)
	}
	server, err := start(arguments...)
	if err != nil {
		return "", err
	}
	defer server.Stop()
	port := regexp.MustCompile(`route connections on [0-9.]+:(\d+)`).FindStringSubmatch(server.Log.String())
	if port == nil {
		return "", errors.New("the log does not name the port of routes")
	}
	route, _ := url.Parse("nats://127.0.0.1:" + port[1])
	account := natsserver.NewAccount("LOCKSTEP") // that of the nodes; older builds have the global one
	foreign, err := natsserver.NewServer(&natsserver.Options{ServerName: "foreign", Host: "127.0.0.1", Port: -1,
		NoSigs: true, NoLog: true, NoSystemAccount: true,
		Accounts: []*natsserver.Account{account}, Users: []*natsserver.User{{Username: "in", Account: account}, {Username: "global"}},
		Cluster: natsserver.ClusterOpts{Name: "lockstep", Host: "127.0.0.1", Port: -1}, Routes: []*url.URL{route}})
	if err != nil {
		return "", err
	}
	foreign.Start()
	defer foreign.Shutdown()
	var forgers []*nats.Conn
	messages := make(chan *nats.Msg, 1<<16)
	for _, user := range []string{"in", "global"} {
		connection, err := nats.Connect(foreign.ClientURL(), nats.UserInfo(user, ""))
		if err != nil {
			return "", err
		}
		defer connection.Close()
		if _, err := connection.ChanSubscribe("lockstep.>", messages); err != nil {
			return "", err
		}
		forgers = append(forgers, connection)
	}
	for begin := time.Now(); time.Since(begin) < listening; {
		if _, err := server.generate("Once upon a time", parameters{MaxNewTokens: 20}, 0); err != nil {
			return "", err
		}
	}
	heard := len(messages)
	for _, forger := range forgers {
		down := []byte(`{"group":"besieged","incarnation":18446744073709551615,"reason":"forged"}`)
		forger.Publish("lockstep.down", down)
		forger.Publish("lockstep.down.besieged", down)
		if err := forger.Flush(); err != nil {
			return "", err
		}
	}
	answer := "serves on"
	time.Sleep(200 * time.Millisecond) // what was forged has come by then
	if a, err := server.generate("Once upon a time", parameters{MaxNewTokens: 5}, 2*time.Second); err != nil || a.status != http.StatusOK {
		answer = "serves no more"
	}
	return fmt.Sprintf("%d routes; %d messages heard; after a forged Down the server %s", foreign.NumRoutes(), heard, answer), nil
}

// idle takes all connections and asks for one more.
func (s *siegeTest) idle() (string, error) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return "", err
	}
	limit.Cur = limit.Max
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return "", err
	}
	server, err := start("--num-shard", "1", "--threads", "1", "--max-batch-total-tokens", "8192", "--log-level", "error")
	if err != nil {
		return "", err
	}
	defer server.Stop()
	address := strings.TrimPrefix(server.URL, "http://")
	opened := 0
	for i := range s.connections {
		// From many addresses: those of loopback.
		dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, byte(1+i/256%16), byte(i%256))}, Timeout: 2 * time.Second}
		connection, err := dialer.Dial("tcp", address)
		if err != nil {
			break
		}
		defer connection.Close()
		opened++
		if i%2 == 0 { // half of them have been of use once
			io.WriteString(connection, "GET /info HTTP/1.1\r\nHost: x\r\n\r\n")
		}
	}
	begin := time.Now()
	client := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{}}
	response, err := client.Get(server.URL + "/info")
	if err != nil {
		return fmt.Sprintf("%d opened; the newcomer got nothing within 10 s", opened), nil
	}
	response.Body.Close()
	return fmt.Sprintf("%d opened; the newcomer was answered after %v", opened, time.Since(begin).Round(time.Millisecond)), nil
}
