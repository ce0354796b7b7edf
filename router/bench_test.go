package router_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"lockstep/router/fleettest"
)

// BenchmarkStreams measures 128 streams of 200 tokens through router, broker and client in one process, and a simulated
// group in another; the processor time is that of the three.
func BenchmarkStreams(b *testing.B) {
	natsURL := startNATS(b)
	fleettest.Start(b, natsURL, fleettest.Options{StepTime: 5 * time.Millisecond, CacheTokens: 1 << 15}) // for all streams at once
	url, _ := startRouter(b, natsURL, defaults)
	const streams, tokens = 128, 200
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: streams}}
	defer client.CloseIdleConnections()
	var before, after syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &before)
	b.ResetTimer()
	for range b.N {
		var readers sync.WaitGroup
		for i := range streams {
			readers.Go(func() {
				response, err := client.Post(url+"/generate_stream", "application/json",
					strings.NewReader(body(fmt.Sprint("story ", i), tokens)))
				if err != nil {
					b.Error(err)
					return
				}
				io.Copy(io.Discard, response.Body)
				response.Body.Close()
			})
		}
		readers.Wait()
	}
	b.StopTimer()
	syscall.Getrusage(syscall.RUSAGE_SELF, &after)
	used := time.Duration(after.Utime.Nano() + after.Stime.Nano() - before.Utime.Nano() - before.Stime.Nano())
	count := float64(b.N) * streams * tokens
	b.ReportMetric(count/b.Elapsed().Seconds(), "tokens/s")
	b.ReportMetric(used.Seconds()/count*1e6, "cpu-s/Mtoken")
}
