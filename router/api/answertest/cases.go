package answertest

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	"lockstep/router/api"
)

// dialectCase is one line of a dialect's testdata/cases.jsonl, in the form of the recorded cases of TGI: a
// request and the bytes of the answer, of which `volatile` names values ("body:/json/pointer", "event:/json/pointer", '*'
// any index) of which only the type counts. They were written from the manuals' examples and from what is known of the
// originals.
type dialectCase struct {
	Name, Area, Profile string
	Request             struct {
		Method, Path string
		Headers      [][2]string
		Body         string
	}
	Response struct {
		Status  int
		Headers [][2]string // a null value: the header must be absent
		Body    string
		Events  []string // instead of Body: what stands between empty lines
	}
	Volatile []string
}

// ReplayCases serves a dialect for each profile, which changes the configuration, and replays the profile's cases of
// testdata/cases.jsonl.
func ReplayCases(t *testing.T, dialect string, profiles map[string]func(*api.Config)) {
	cases := readCases(t, "testdata/cases.jsonl", profiles)
	if len(cases) < 60 {
		t.Errorf("%d cases, want at least 60", len(cases))
	}
	for profile, change := range profiles {
		t.Run(profile, func(t *testing.T) {
			options := Options{}
			if profile == "default" {
				options = Options{MaxInputLength: 64, MaxTotalTokens: 128}
			}
			url := Serve(t, options, change, func(c *api.Config) { c.Dialect = dialect })
			for i := range cases {
				if cases[i].Profile == profile {
					t.Run(cases[i].Name, func(t *testing.T) { cases[i].replay(t, url) })
				}
			}
		})
	}
}

func readCases(t *testing.T, path string, profiles map[string]func(*api.Config)) (cases []dialectCase) {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	names := map[string]bool{}
	for lines := bufio.NewScanner(file); lines.Scan(); {
		c := dialectCase{Profile: "default"}
		decoder := json.NewDecoder(bytes.NewReader(lines.Bytes()))
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(&c); err != nil || names[c.Name] {
			t.Fatalf("%s: %q: %v, or its name comes twice", path, lines.Text(), err)
		}
		if _, known := profiles[c.Profile]; !known {
			t.Fatalf("%s: %s has the unknown profile %q", path, c.Name, c.Profile)
		}
		names[c.Name] = true
		cases = append(cases, c)
	}
	return cases
}

func (c *dialectCase) replay(t *testing.T, url string) {
	request, err := http.NewRequest(c.Request.Method, url+c.Request.Path, strings.NewReader(c.Request.Body))
	if err != nil {
		t.Fatal(err)
	}
	for _, header := range c.Request.Headers {
		request.Header.Set(header[0], header[1])
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	if response.StatusCode != c.Response.Status {
		t.Fatalf("got status %d, want %d: %s", response.StatusCode, c.Response.Status, body)
	}
	for _, header := range c.Response.Headers {
		got, present := response.Header[http.CanonicalHeaderKey(header[0])]
		if present = present || response.Header[header[0]] != nil; header[1] == "" && present {
			t.Errorf("header %s: got %q, want none", header[0], got)
		} else if header[1] != "" && header[1] != "*" && !slices.Contains(got, header[1]) || header[1] == "*" && !present {
			t.Errorf("header %s: got %q, want %q", header[0], got, header[1])
		}
	}
	want, got, prefix := []string{c.Response.Body}, []string{string(body)}, "body:"
	if c.Response.Events != nil {
		rest, ended := strings.CutSuffix(string(body), "\n\n")
		if want, got, prefix = c.Response.Events, strings.Split(rest, "\n\n"), "event:"; !ended {
			t.Errorf("the stream does not end with an empty line: %q", body)
		}
	}
	if len(got) != len(want) {
		t.Fatalf("got %d events, want %d: %s", len(got), len(want), body)
	}
	for i := range want {
		if g, w := c.normal(t, prefix, got[i]), c.normal(t, prefix, want[i]); g != w {
			t.Errorf("got\n%s\nwant\n%s", g, w)
		}
	}
}

// normal is a text whose volatile values are replaced by their types; all other bytes stay.
func (c *dialectCase) normal(t *testing.T, prefix, text string) string {
	start := strings.IndexAny(text, "{[")
	if start < 0 {
		return text
	}
	decoder := json.NewDecoder(strings.NewReader(text[start:]))
	decoder.UseNumber()
	out := text[:start]
	done := 0
	var walk func(path string)
	walk = func(path string) {
		token, err := decoder.Token()
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		switch delimiter, _ := token.(json.Delim); delimiter {
		case '{':
			for decoder.More() {
				key, err := decoder.Token()
				if err != nil {
					t.Fatalf("%q: %v", text, err)
				}
				walk(path + "/" + key.(string))
			}
			decoder.Token()
		case '[':
			for decoder.More() {
				walk(path + "/*")
			}
			decoder.Token()
		default:
			if !slices.Contains(c.Volatile, prefix+path) {
				return
			}
			end := int(decoder.InputOffset())
			raw := text[start:][done:end]
			value := valueStart(raw)
			out += raw[:value] + fmt.Sprintf("<%T>", token)
			done = end
		}
	}
	walk("")
	return out + text[start+done:]
}

// valueStart finds where the value begins that ends a piece of JSON: the longest end of it that is one.
func valueStart(raw string) int {
	for start := range raw {
		if c := raw[start]; c != ' ' && json.Valid([]byte(raw[start:])) {
			return start
		}
	}
	return len(raw)
}
