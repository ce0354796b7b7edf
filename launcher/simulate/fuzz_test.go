package simulate

import (
	"bufio"
	"slices"
	"strings"
	"testing"
)

// Whatever a trace holds, it is refused with an error or becomes requests that the simulator can run: counts in range,
// in the order of their arrival, the first at 0.
func FuzzParseTrace(f *testing.F) {
	for _, seed := range []string{
		"", "{", "{}", "[]", "\n", "TIMESTAMP,ContextTokens,GeneratedTokens\n",
		"TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03.9799600,4808,10\n2023-11-16 18:17:03.1,3180, 8\n",
		"9999-12-31 23:59:59.9999999,1,1\n0000-01-01 00:00:00,1,1\n",
		"2023-11-16 18:17:03,1073741825,1\n", "2023-11-16 18:17:03,\"1\n\",1\n",
		`{"timestamp": 27482, "input_length": 6955, "output_length": 52, "hash_ids": [46, 47, 2353]}` + "\n" +
			`{"timestamp": 0, "input_length": 1, "output_length": 0, "hash_ids": null}`,
		`{"timestamp": -1.7e308, "input_length": 1, "output_length": 1}{"timestamp": 1.7e308, "input_length": 1, "output_length": 1}`,
		`{"timestamp": 1, "input_length": 0, "output_length": 1}`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, trace string) {
		requests, err := parseTrace(bufio.NewReader(strings.NewReader(trace)))
		if err != nil {
			return
		}
		if len(requests) == 0 || requests[0].Arrival != 0 {
			t.Fatalf("got %d requests, want some and the first at 0: %+v", len(requests), requests)
		}
		for i := range requests {
			if err := requests[i].check(i + 1); err != nil {
				t.Errorf("request %d: got %v, want what check takes", i, err)
			}
		}
		byArrival := func(a, b Request) int {
			switch {
			case a.Arrival < b.Arrival:
				return -1
			case a.Arrival == b.Arrival:
				return 0
			}
			return 1 // also NaN, which has no place in an order
		}
		if !slices.IsSortedFunc(requests, byArrival) {
			t.Errorf("got arrivals out of order: %+v", requests)
		}
	})
}
