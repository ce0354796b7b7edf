package modeltest

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"lockstep/shard/codes"
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
	write(t, dir, all)
}

// PlainExperts writes experts in MXFP4 in BF16, which holds their numbers exactly, each as [inputs][outputs], as transformers does
// where they are not quantised.
func PlainExperts(t testing.TB, dir fstest.MapFS) {
	t.Helper()
	all := tensorsOf(t, dir)
	for name, blocks := range tensorsOf(t, dir) {
		stem, ok := strings.CutSuffix(name, "_blocks")
		if !ok {
			continue
		}
		experts, rows, columns := blocks.shape[0], blocks.shape[1], blocks.shape[2]*32
		plain := tensor{"BF16", []int{experts, columns, rows}, 2, make([]byte, experts*columns*rows*2)}
		for i := range experts * rows * columns {
			code := blocks.data[i/2] >> (i % 2 * 4) & 15
			value := float64(codes.FP4.Level(code)) / 2 * math.Exp2(float64(all[stem+"_scales"].data[i/32])-127)
			expert, row, column := i/columns/rows, i/columns%rows, i%columns
			at := (expert*columns+column)*rows + row
			binary.LittleEndian.PutUint16(plain.data[2*at:], uint16(math.Float32bits(float32(value))>>16))
		}
		all[stem] = plain
		delete(all, name)
		delete(all, stem+"_scales")
	}
	write(t, dir, all)
}

// write replaces a directory's tensors.
func write(t testing.TB, dir fstest.MapFS, all map[string]tensor) {
	t.Helper()
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
