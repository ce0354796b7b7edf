package simulate

import (
	"bufio"
	"compress/gzip"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"sort"
	"strconv"
	"strings"
	"time"
)

// Request is one line of a trace.
type Request struct {
	Arrival      float64 // seconds since the first one
	PromptTokens int
	OutputTokens int // at least 1
	// Hashes name the content of the prompt's pieces of HashTokens tokens and of all before each; nil: all differ.
	Hashes []uint32
}

// HashTokens is the size of the pieces that Mooncake's hash_ids name.
const HashTokens = 512

// maxTraceRequests bounds a trace; longer ones are refused.
const maxTraceRequests = 50_000_000

// ReadTrace reads a trace in the form of Azure (CSV with TIMESTAMP, ContextTokens, GeneratedTokens) or of Mooncake (a line
// of JSON for each request), which its first byte tells; .gz files are unpacked, and - is standard input. "uniform:A-B:C-D" makes count
// requests up with prompts of A to B and outputs of C to D tokens, all equally likely, that arrive at random moments, one
// a second on average.
func ReadTrace(path string, count int, seed uint64) ([]Request, error) {
	if form, ok := strings.CutPrefix(path, "uniform:"); ok {
		return uniformTrace(form, count, seed)
	}
	file := os.Stdin
	if path != "-" {
		var err error
		if file, err = os.Open(path); err != nil {
			return nil, err
		}
		defer file.Close()
	}
	var reader io.Reader = file
	switch {
	case strings.HasSuffix(path, ".xz"):
		return nil, fmt.Errorf("%s: unpack it on the way: xz -dc %s | lockstep simulate --trace - …", path, path)
	case strings.HasSuffix(path, ".gz"):
		unpacked, err := gzip.NewReader(file)
		if err != nil {
			return nil, fmt.Errorf("unpack %s: %w", path, err)
		}
		reader = unpacked
	}
	requests, err := parseTrace(bufio.NewReader(reader))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return requests, nil
}

func parseTrace(reader *bufio.Reader) (requests []Request, err error) {
	first, err := reader.Peek(1)
	if err != nil {
		return nil, errors.New("the trace is empty")
	}
	if first[0] == '{' {
		requests, err = parseMooncake(reader)
	} else {
		requests, err = parseAzure(reader)
	}
	switch {
	case err != nil:
		return nil, err
	case len(requests) == 0:
		return nil, errors.New("the trace has no requests")
	}
	sort.SliceStable(requests, func(i, j int) bool { return requests[i].Arrival < requests[j].Arrival })
	start := requests[0].Arrival
	for i := range requests {
		requests[i].Arrival -= start
	}
	return requests, nil
}

func (r *Request) check(line int) error {
	if r.PromptTokens < 1 || r.OutputTokens < 1 || r.PromptTokens > 1<<30 || r.OutputTokens > 1<<30 {
		return fmt.Errorf("line %d: a prompt of %d and an output of %d tokens", line, r.PromptTokens, r.OutputTokens)
	}
	if line > maxTraceRequests {
		return fmt.Errorf("more than %d requests", maxTraceRequests)
	}
	return nil
}

func parseMooncake(reader io.Reader) ([]Request, error) {
	var requests []Request
	decoder := json.NewDecoder(reader)
	for line := 1; ; line++ {
		var entry struct {
			Timestamp    float64  `json:"timestamp"` // milliseconds
			InputLength  int      `json:"input_length"`
			OutputLength int      `json:"output_length"`
			HashIDs      []uint32 `json:"hash_ids"`
		}
		if err := decoder.Decode(&entry); errors.Is(err, io.EOF) {
			return requests, nil
		} else if err != nil {
			return nil, fmt.Errorf("line %d: %w", line, err)
		}
		r := Request{Arrival: entry.Timestamp / 1000, PromptTokens: entry.InputLength, OutputTokens: max(entry.OutputLength, 1),
			Hashes: entry.HashIDs}
		if err := r.check(line); err != nil {
			return nil, err
		}
		requests = append(requests, r)
	}
}

func parseAzure(reader io.Reader) ([]Request, error) {
	rows := csv.NewReader(reader)
	rows.FieldsPerRecord, rows.ReuseRecord = 3, true
	var requests []Request
	for line := 0; ; line++ {
		row, err := rows.Read()
		switch {
		case errors.Is(err, io.EOF):
			return requests, nil
		case err != nil:
			return nil, err
		case line == 0 && row[0] == "TIMESTAMP":
			continue
		}
		moment, err := time.Parse("2006-01-02 15:04:05.9999999", row[0])
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", line+1, err)
		}
		r := Request{Arrival: float64(moment.UnixNano()) / 1e9}
		r.PromptTokens, err = strconv.Atoi(row[1])
		if err == nil {
			r.OutputTokens, err = strconv.Atoi(strings.TrimSpace(row[2]))
		}
		if err == nil {
			err = r.check(line)
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", line+1, err)
		}
		requests = append(requests, r)
	}
}

func uniformTrace(form string, count int, seed uint64) ([]Request, error) {
	var inFrom, inTo, outFrom, outTo int
	if n, err := fmt.Sscanf(form, "%d-%d:%d-%d", &inFrom, &inTo, &outFrom, &outTo); n != 4 || err != nil || inFrom < 1 || inTo < inFrom ||
		outFrom < 1 || outTo < outFrom {
		return nil, fmt.Errorf("uniform:%s: want uniform:A-B:C-D with prompts of A to B and outputs of C to D tokens", form)
	}
	if count < 1 || count > maxTraceRequests {
		return nil, fmt.Errorf("%d requests of a made trace: want 1 to %d", count, maxTraceRequests)
	}
	random := rand.New(rand.NewPCG(seed, 11))
	requests, now := make([]Request, count), 0.0
	for i := range requests {
		requests[i] = Request{Arrival: now, PromptTokens: inFrom + random.IntN(inTo-inFrom+1),
			OutputTokens: outFrom + random.IntN(outTo-outFrom+1)}
		now += random.ExpFloat64()
	}
	return requests, nil
}

// Stretch repeats a trace, or cuts it, to count requests (0: leaves them) and scales its time to rate requests a second
// (0: leaves it). A repetition continues the trace's rhythm; its prompts share nothing with those before it.
func Stretch(trace []Request, count int, rate float64) []Request {
	if count == 0 {
		count = len(trace)
	}
	span := trace[len(trace)-1].Arrival * float64(len(trace)) / float64(max(len(trace)-1, 1))
	scale := 1.0
	if own := float64(len(trace)) / span; rate > 0 && span > 0 {
		scale = own / rate
	}
	largest := uint32(0)
	for i := range trace {
		for _, hash := range trace[i].Hashes {
			largest = max(largest, hash)
		}
	}
	out := make([]Request, count)
	for i := range out {
		round := i / len(trace)
		r := trace[i%len(trace)]
		r.Arrival = (r.Arrival + float64(round)*span) * scale
		if round > 0 && r.Hashes != nil {
			shifted := make([]uint32, len(r.Hashes))
			for j, hash := range r.Hashes {
				shifted[j] = hash + uint32(round)*(largest+1)
			}
			r.Hashes = shifted
		}
		out[i] = r
	}
	return out
}
