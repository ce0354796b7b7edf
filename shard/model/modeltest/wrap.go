package modeltest

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"lockstep/shard/weights/weightstest"
)

// Renamed writes the tensors of a directory under other names into one file, with further ones of a few bytes.
func Renamed(t testing.TB, dir fstest.MapFS, rename func(name string) string, more ...string) {
	t.Helper()
	all := map[string]tensor{}
	for name, x := range tensorsOf(t, dir) {
		all[rename(name)] = x
	}
	for _, name := range more {
		all[name] = tensor{"BF16", []int{2, 3}, 2, make([]byte, 12)}
	}
	var entries []string
	var payload []byte
	for _, name := range slices.Sorted(maps.Keys(all)) {
		x := all[name]
		shape, err := json.Marshal(x.shape)
		if err != nil {
			t.Fatal(err)
		}
		entries = append(entries, fmt.Sprintf(`%q:{"dtype":%q,"shape":%s,"data_offsets":[%d,%d]}`, name, x.kind, shape, len(payload),
			len(payload)+len(x.data)))
		payload = append(payload, x.data...)
	}
	for name := range dir {
		if strings.Contains(name, ".safetensors") {
			delete(dir, name)
		}
	}
	file := weightstest.Safetensors("{"+strings.Join(entries, ",")+"}", 0)
	dir["model.safetensors"] = &fstest.MapFile{Data: append(file, payload...)}
}
