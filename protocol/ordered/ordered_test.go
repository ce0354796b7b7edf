package ordered_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"lockstep/protocol/ordered"
)

const maxDepth = 50

// read builds what encoding/json builds, so that the two can be compared.
func read(r *ordered.Reader) (any, error) {
	switch r.Next() {
	case '{':
		object := map[string]any{}
		return object, r.Object(func(name string) error {
			value, err := read(r)
			object[name] = value
			return err
		})
	case '[':
		list := []any{}
		err := r.Array(func() error {
			value, err := read(r)
			list = append(list, value)
			return err
		})
		return list, err
	case '"':
		return r.Text()
	}
	raw, err := r.Raw()
	switch raw {
	case "null":
		return nil, err
	case "true", "false":
		return raw == "true", err
	}
	return json.Number(raw), err
}

func whole(data string) (any, error) {
	r := ordered.NewReader(data, maxDepth)
	value, err := read(r)
	if err == nil {
		err = r.End()
	}
	return value, err
}

// check compares a reading with encoding/json's, and passing over the data with reading it.
func check(t *testing.T, data string) {
	t.Helper()
	got, err := whole(data)
	r := ordered.NewReader(data, maxDepth)
	raw, rawErr := r.Raw()
	if rawErr == nil {
		rawErr = r.End()
	}
	if fmt.Sprint(rawErr) != fmt.Sprint(err) && !errors.Is(err, ordered.ErrDepth) {
		t.Errorf("%q: read with error %v, passed over with %v", data, err, rawErr)
	}
	if errors.Is(err, ordered.ErrDepth) {
		return
	}
	decoder := json.NewDecoder(strings.NewReader(data))
	decoder.UseNumber()
	var want any
	if valid := json.Valid([]byte(data)); valid != (err == nil) {
		t.Errorf("%q: got error %v, is valid for encoding/json: %t", data, err, valid)
	} else if valid {
		decoder.Decode(&want)
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%q: got %#v, want %#v", data, got, want)
		}
		if strings.Trim(data, " \t\r\n") != raw {
			t.Errorf("%q: got %q raw", data, raw)
		}
	}
}

var cases = []string{
	` {"a" : [ true , false , null ] , "":{}, "a":1 } `, `[1, -0, 1.0, -0.5, 1e2, 1E-7, 1e+7, 12345678901234567890]`,
	`"\u00e9\ud83d\ude00\"\\\/\b\f\n\r\t"`, `"\ud800x"`, `"\ud800\u0041"`, `"\ud800\ud83d\ude00"`,
	"\"\xff\xfe\"", "\"a\xff\\n\"", `"日本"`, `"\u00E9"`,
	``, ` `, `{`, `[`, `"`, `"\`, `"\u`, `[1,]`, `[,1]`,
	`{"a":1,}`, `{"a"}`, `{"a":}`, `{a:1}`, `{1:2}`,
	`01`, `-01`, `1.`, `.5`, `+1`, `-`, `1e`, `1e+`, `tru`, `truex`,
	`nul`, `NaN`, `[1 2]`, `1 2`, "\"\n\"", `"\x"`, `"\u12"`, `"\u12g4"`,
	`'a'`, `[}`, `{]`, `{"a":1]`, "\x00", "1\x00", `[[[[]]]]`, `[{"a":[{}]}]`,
}

func TestAgainstEncodingJSON(t *testing.T) {
	for _, data := range cases {
		check(t, data)
	}
}

func FuzzAgainstEncodingJSON(f *testing.F) {
	for _, data := range cases {
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data string) { check(t, data) })
}

func TestErrors(t *testing.T) {
	for data, want := range map[string]string{
		`{"a" 1}`:  "JSON at byte 5: a colon is due",
		`[1 2]`:    "JSON at byte 3: a comma is due",
		`[1,`:      "JSON at byte 3: a value is due",
		`{} x`:     "JSON at byte 3: the end is due",
		"[\"a\tb":  "JSON at byte 3: a control character within a text",
		`"\u00x0"`: "JSON at byte 5: a hexadecimal digit is due",
		`[1.x]`:    "JSON at byte 3: a digit is due",
		`[-x]`:     "JSON at byte 2: a number is due",
	} {
		if _, err := whole(data); err == nil || err.Error() != want {
			t.Errorf("%s: got error %v, want %s", data, err, want)
		}
	}
	r := ordered.NewReader("[]", maxDepth)
	if err := r.Object(nil); err == nil || err.Error() != "JSON at byte 0: an object is due" {
		t.Errorf("an array as an object: got error %v", err)
	}
}

func TestDepth(t *testing.T) {
	nested := func(depth int) string { return strings.Repeat(`[{"a":`, depth/2) + "1" + strings.Repeat("}]", depth/2) }
	if _, err := whole(nested(maxDepth)); err != nil {
		t.Errorf("as deep as allowed: got error %v", err)
	}
	if _, err := whole(nested(maxDepth + 2)); !errors.Is(err, ordered.ErrDepth) {
		t.Errorf("deeper: got error %v", err)
	}
	if _, err := ordered.NewReader(strings.Repeat("[", 1<<20), maxDepth).Raw(); !errors.Is(err, ordered.ErrDepth) {
		t.Errorf("passing over: got error %v", err)
	}
	shallow := "[" + strings.Repeat("[],", 1000) + "{}]"
	if _, err := whole(shallow); err != nil {
		t.Errorf("many beside one another: got error %v", err)
	}
}

func TestTextsShareTheData(t *testing.T) {
	data := `["` + strings.Repeat("é", 1000) + `"]`
	if count := testing.AllocsPerRun(10, func() {
		r := ordered.NewReader(data, maxDepth)
		r.Array(func() error { _, err := r.Text(); return err })
	}); count > 3 {
		t.Errorf("got %v allocations", count)
	}
}

func TestMembers(t *testing.T) {
	got, err := ordered.Members([]byte(` {"b": 1, "a":[2 ,3],"b":{"c":4} } `), maxDepth)
	want := []ordered.Member{{"b", json.RawMessage(`{"c":4}`)}, {"a", json.RawMessage(`[2 ,3]`)}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %q and error %v, want %q", got, err, want)
	}
	if got, err := ordered.Members([]byte("{}"), maxDepth); err != nil || got == nil || len(got) != 0 {
		t.Errorf("nothing in it: got %v and error %v", got, err)
	}
	for _, data := range []string{``, `null`, `[]`, `{"a":1}{}`, `{"a":1`, `{"a":01}`, `{"a":tru}`} {
		if got, err := ordered.Members([]byte(data), maxDepth); err == nil {
			t.Errorf("%s: got %v, want an error", data, got)
		}
	}
}
