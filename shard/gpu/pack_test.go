package gpu

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"testing"
)

// A tile that is packed from the bytes of its rows is the one that is packed from their values, for chunks of any size and rows that are
// not there.
func TestPackBF16(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 100 {
		chunks := 1 << random.IntN(4)
		columns := chunks * (1 + random.IntN(70))
		m := &matrix{input: inputOf(columns, chunks), terms: 1}
		m.taken = m.steps
		var rows [16][]byte
		want, got := [][]byte{make([]byte, m.tileBytes())}, make([]byte, m.tileBytes())
		for output := range 1 + random.IntN(16) {
			values := make([]float32, columns)
			for i := range values {
				values[i] = widen(bf16(float32(random.NormFloat64())))
				rows[output] = binary.LittleEndian.AppendUint16(rows[output], bf16(values[i]))
			}
			m.packRow(want, output, values)
		}
		if m.packBF16(got, &rows); !slices.Equal(got, want[0]) {
			t.Fatalf("%d columns in %d chunks: another tile", columns, chunks)
		}
	}
}

func BenchmarkPackBF16(b *testing.B) {
	m := &matrix{input: inputOf(4096, 1), terms: 1}
	m.taken = m.steps
	var rows [16][]byte
	for i := range rows {
		rows[i] = make([]byte, 8192)
	}
	tile := make([]byte, m.tileBytes())
	b.SetBytes(int64(len(tile)))
	for b.Loop() {
		m.packBF16(tile, &rows)
	}
}

func BenchmarkPutCode(b *testing.B) {
	step := make([]byte, 32*6)
	b.SetBytes(256) // codes
	for b.Loop() {
		for i := range 256 {
			putCode(step, 6, i/8, i%8, byte(i&63))
		}
	}
}
