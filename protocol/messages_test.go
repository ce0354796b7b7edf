package protocol_test

import (
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"

	"lockstep/protocol"
)

func TestScoreRequests(t *testing.T) {
	good := protocol.Request{Prompt: []int32{3}, MaxNewTokens: 1, Score: true}
	if err := good.Validate(10); err != nil {
		t.Errorf("got %v", err)
	}
	for name, change := range map[string]func(r *protocol.Request){
		"two tokens":        func(r *protocol.Request) { r.MaxNewTokens = 2 },
		"resumed":           func(r *protocol.Request) { r.MaxNewTokens, r.Generated = 2, []int32{1} },
		"log-probabilities": func(r *protocol.Request) { r.PromptLogprobs = true },
		"alternatives":      func(r *protocol.Request) { r.TopLogprobs = 1 },
	} {
		r := good
		change(&r)
		if err := r.Validate(10); err == nil || !strings.Contains(err.Error(), "a score takes one new token") {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// What is known of a prompt's log-probabilities is of that prompt.
func TestKnownPromptLogprobs(t *testing.T) {
	for known, want := range map[int]bool{-1: false, 0: true, 1: true, 2: false} {
		r := protocol.Request{Prompt: []int32{1, 2}, MaxNewTokens: 1, PromptLogprobs: true, PromptLogprobsKnown: known}
		if got := r.Validate(10) == nil; got != want {
			t.Errorf("%d log-probabilities known: taken: %v", known, got)
		}
	}
}

// What others announce is reckoned with: nothing of it is believed that no group can be.
func TestAnnouncementValidate(t *testing.T) {
	good := func() protocol.Announcement {
		return protocol.Announcement{Version: protocol.Version, GroupRef: protocol.GroupRef{Group: "g", Incarnation: 1}, ModelID: "m",
			CardDigest: strings.Repeat("a", 64), CardBytes: 10, Shards: 1,
			Limits: protocol.Limits{MaxSequenceTokens: 10, CapacityTokens: 100, BlockTokens: 16, MaxRequests: 1, MaxSequences: 1}}
	}
	if a := good(); a.Validate() != nil {
		t.Fatal(a.Validate())
	}
	for _, spoil := range []func(*protocol.Announcement){
		func(a *protocol.Announcement) { a.Version-- },
		func(a *protocol.Announcement) { a.Group = "a.b" },
		func(a *protocol.Announcement) { a.ModelID = strings.Repeat("m", 5000) },
		func(a *protocol.Announcement) { a.Node = strings.Repeat("m", 5000) },
		func(a *protocol.Announcement) { a.CardDigest = "aa" },
		func(a *protocol.Announcement) { a.CardBytes = 0 },
		func(a *protocol.Announcement) { a.CardBytes = protocol.MaxCardBytes + 1 },
		func(a *protocol.Announcement) { a.Shards = 0 },
		func(a *protocol.Announcement) { a.Device.Name = strings.Repeat("d", protocol.MaxDeviceNameBytes+1) },
		func(a *protocol.Announcement) { a.Device.FreeBytes = -1 },
		func(a *protocol.Announcement) { a.Limits.BlockTokens = math.MaxInt64 },
		func(a *protocol.Announcement) { a.Limits.BlockTokens = 0 },
		func(a *protocol.Announcement) { a.Limits.CapacityTokens = math.MaxInt64 },
		func(a *protocol.Announcement) { a.Limits.CapacityTokens = -1 },
		func(a *protocol.Announcement) { a.Limits.MaxSequenceTokens = math.MinInt64 },
		func(a *protocol.Announcement) { a.Limits.MaxSequences = -1 },
		func(a *protocol.Announcement) { a.Limits.MaxRequests = math.MaxInt64 },
		func(a *protocol.Announcement) { a.Limits.PrefillTokens = -1 },
		func(a *protocol.Announcement) { a.Limits.PrefillTokens = protocol.MaxPrefillTokens + 1 },
		func(a *protocol.Announcement) { a.Load.HeldTokens = -1 },
		func(a *protocol.Announcement) { a.Load.CachedTokens = math.MaxInt64 },
		func(a *protocol.Announcement) { a.Load.Running = math.MaxInt64 },
		func(a *protocol.Announcement) { a.Load.Waiting = -1 },
		func(a *protocol.Announcement) { a.Load.Parked = -1 },
	} {
		a := good()
		if spoil(&a); a.Validate() == nil {
			t.Errorf("taken: %+v", a)
		}
	}
	r := protocol.Request{Prompt: []int32{1}, MaxNewTokens: math.MaxInt64}
	if r.Validate(10) == nil {
		t.Error("a request of endless length was taken")
	}
}

// A request with fields as long as they can be in JSON takes no more than it says: each field alone, and all at once.
func TestRequestJSONBytes(t *testing.T) {
	check := func(what string, r *protocol.Request) {
		data, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		if got, bound := len(data), r.JSONBytes(); got > bound {
			t.Errorf("%s: %d bytes, said to be at most %d", what, got, bound)
		}
	}
	for _, length := range []int{0, 1, 50, 5000} {
		var all protocol.Request
		fill(t, reflect.ValueOf(&all).Elem(), length)
		check(fmt.Sprintf("all of length %d", length), &all)
		for _, in := range []func(*protocol.Request) any{
			func(r *protocol.Request) any { return r },
			func(r *protocol.Request) any { return &r.Sampling },
		} {
			for i := range reflect.ValueOf(in(&all)).Elem().NumField() {
				var r protocol.Request
				part := reflect.ValueOf(in(&r)).Elem()
				fill(t, part.Field(i), length)
				check(fmt.Sprintf("%s of length %d", part.Type().Field(i).Name, length), &r)
			}
		}
	}
}

// fill sets all of a value to what is longest in JSON.
func fill(t *testing.T, value reflect.Value, length int) {
	switch value.Kind() {
	case reflect.Struct:
		for i := range value.NumField() {
			fill(t, value.Field(i), length)
		}
	case reflect.Pointer:
		value.Set(reflect.New(value.Type().Elem()))
		fill(t, value.Elem(), length)
	case reflect.Slice:
		value.Set(reflect.MakeSlice(value.Type(), length, length))
		for i := range length {
			fill(t, value.Index(i), min(length, 20))
		}
	case reflect.Int, reflect.Int32, reflect.Int64:
		value.SetInt(math.MinInt64 >> (64 - value.Type().Bits()))
	case reflect.Uint64:
		value.SetUint(math.MaxUint64)
	case reflect.Float32:
		value.SetFloat(-1.17549435e-38)
	case reflect.Bool:
		value.SetBool(true)
	case reflect.String:
		value.SetString(strings.Repeat("\x01", length))
	default:
		t.Fatalf("a field of kind %s: say here what is longest, and in JSONBytes what it takes", value.Kind())
	}
}
