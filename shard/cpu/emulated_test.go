//go:build amd64 && !purego

package cpu

import (
	"reflect"
	"runtime"
	"strings"
	"testing"
	"unsafe"

	"lockstep/shard/codes"
)

func pointer(v unsafe.Pointer) word { return word{base: v} }
func float(v *float32) word         { return pointer(unsafe.Pointer(v)) }

// name returns a function's name in its file.
func name(f any) string {
	full := runtime.FuncForPC(reflect.ValueOf(f).Pointer()).Name()
	return full[strings.LastIndex(full, ".")+1:]
}

// wrapCodes is wrap for the functions of codes.
func (e *emulator) wrapCodes(p *primitives) {
	for at := range 2 * len(p.gemvCodes) {
		table := &p.gemvCodes[at/2]
		if at%2 == 1 {
			table = &p.gemvMixed[at/2]
		}
		for i, kernel := range table {
			if kernel == nil {
				continue
			}
			name := name(kernel)
			table[i] = func(out, x *float32, w *byte, panelBytes int, scales, offsets *float32, scaleStride int, index *int32,
				base, k int) {
				e.run(name, float(out), float(x), pointer(unsafe.Pointer(w)), word{n: panelBytes}, float(scales), float(offsets),
					word{n: scaleStride}, pointer(unsafe.Pointer(index)), word{n: base}, word{n: k})
			}
		}
	}
	for _, table := range []*[codes.E4M3 + 1]codesFunc{&p.codes, &p.mixed} {
		for kind, kernel := range table {
			if kernel == nil {
				continue
			}
			name := name(kernel)
			table[kind] = func(dst *float32, w *byte, scales, offsets *float32, index *int32, base, k int) {
				e.run(name, float(dst), pointer(unsafe.Pointer(w)), float(scales), float(offsets), pointer(unsafe.Pointer(index)),
					word{n: base}, word{n: k})
			}
		}
	}
}

// wrap returns the kernels of a table with every function that has its own
// code in the file replaced by its interpretation.
func (e *emulator) wrap(p primitives) *Kernels {
	ref := genericPrimitives()
	p.squares, p.scale, p.add, p.rowMax, p.rowExpSum = ref.squares, ref.scale, ref.add, ref.rowMax, ref.rowExpSum
	tile := func(f tileFunc) tileFunc {
		if f == nil {
			return nil
		}
		name := name(f)
		return func(c, x *float32, w *byte, k, cStride, wStride, fresh int, ahead *byte, aheadStride int) {
			e.run(name, float(c), float(x), pointer(unsafe.Pointer(w)), word{n: k}, word{n: cStride}, word{n: wStride},
				word{n: fresh}, pointer(unsafe.Pointer(ahead)), word{n: aheadStride})
		}
	}
	for f := range formats {
		for i, kernel := range p.gemv[f] {
			if name := name(kernel); kernel != nil {
				p.gemv[f][i] = func(out, x *float32, w *byte, panelBytes, k int) {
					e.run(name, float(out), float(x), pointer(unsafe.Pointer(w)), word{n: panelBytes}, word{n: k})
				}
			}
		}
		if kernel := p.dequant[f]; kernel != nil {
			name := name(kernel)
			p.dequant[f] = func(dst *float32, w *byte, k int) {
				e.run(name, float(dst), pointer(unsafe.Pointer(w)), word{n: k})
			}
		}
		for wide := range p.tile[f] {
			for rows, kernel := range p.tile[f][wide] {
				p.tile[f][wide][rows] = tile(kernel)
			}
		}
	}
	e.wrapCodes(&p)
	for form := range p.integerTile {
		for wide := range p.integerTile[form] {
			for rows, kernel := range p.integerTile[form][wide] {
				p.integerTile[form][wide][rows] = tile(kernel)
			}
		}
		if kernel := p.widenIntegers[form]; kernel != nil {
			name := name(kernel)
			p.widenIntegers[form] = func(dst, w *byte, k int) {
				e.run(name, pointer(unsafe.Pointer(dst)), pointer(unsafe.Pointer(w)), word{n: k})
			}
		}
	}
	for rows := 1; rows <= p.tileRows; rows++ {
		for t := range cacheTypes {
			scores := name(p.scores[t][rows])
			p.scores[t][rows] = func(dst, q *float32, keys *byte, blocks *int32, count, stride, k, beside int) {
				e.run(scores, float(dst), float(q), pointer(unsafe.Pointer(keys)), pointer(unsafe.Pointer(blocks)), word{n: count},
					word{n: stride}, word{n: k}, word{n: beside})
			}
			for panels := range p.values[t] {
				if p.values[t][panels][rows] == nil {
					continue
				}
				values := name(p.values[t][panels][rows])
				p.values[t][panels][rows] = func(c, p *float32, data *byte, blocks *int32, count, stride int) {
					e.run(values, float(c), float(p), pointer(unsafe.Pointer(data)), pointer(unsafe.Pointer(blocks)), word{n: count},
						word{n: stride})
				}
			}
		}
	}
	return &Kernels{name: "emulated", primitives: p}
}

func TestEmulated(t *testing.T) {
	for _, c := range []struct {
		file   string
		tables []primitives
		beside []string // functions that are not products
	}{
		{"avx2_amd64.s", []primitives{avx2Primitives(), vnniPrimitives()}, []string{"quantiseAVX2", "roundPairsAVX2", "roundFloatsAVX2",
			"peakAVX2", "streamAVX2", "addAVX2", "siluMulAVX2", "geluMulAVX2", "expAVX2",
			"rotateAVX2", "scaleAVX2", "squaresAVX2", "rowMaxAVX2", "rowExpSumAVX2", "largestAVX2", "expSumAVX2",
			"halvesAVX2", "halvesApartAVX2"}},
		{"avx512_amd64.s", []primitives{avx512Primitives(), primitives512(true, true)}, []string{"peakAVX512"}},
	} {
		e := newEmulator(t, c.file)
		for i, table := range c.tables {
			k := e.wrap(table)
			e.checkDots(t, c.file, k)
			if i == 0 {
				e.check(t, c.file, k)
			}
		}
		for _, name := range c.beside {
			delete(e.missing, name)
		}
		if len(e.missing) > 0 {
			t.Errorf("%s: never called: %v", c.file, e.missing)
		}
	}
}

// checkDots holds wrapped kernels to plain Go in what has instructions of its own on some CPUs.
func (e *emulator) checkDots(t *testing.T, file string, k *Kernels) {
	seed, s := uint32(7), NewScratch()
	for i, f := range integerForms {
		rows := []int{1, 3}
		if k.integerTile[i][0][1] != nil {
			rows = []int{1, 2, 3, 4, 5, 6, 13}
		}
		for _, rows := range rows {
			for _, outputs := range []int{80, 32} {
				if !selfTestIntegers(k, f, rows, outputs, 64, &seed, s) {
					t.Fatalf("%s: integers of form %d, %d rows and %d outputs differ from plain Go", file, i, rows, outputs)
				}
			}
		}
	}
	e.checkFormat(t, file, k, BF16Dot, &seed, s)
}

func (e *emulator) checkFormat(t *testing.T, file string, k *Kernels, f Format, seed *uint32, s *Scratch) {
	columns := []int{1, 2, 7, 66, 133}
	if f.BlockColumns() == 32 {
		columns = []int{32, 160}
	}
	for _, n := range columns {
		for _, rows := range []int{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 49} {
			if !selfTestMatrix(k, f, rows, 100, n, seed, s) {
				t.Fatalf("%s: %v, %d rows of %d columns differ from plain Go", file, f, rows, n)
			}
		}
	}
}

// check holds wrapped kernels to plain Go in all else.
func (e *emulator) check(t *testing.T, file string, k *Kernels) {
	seed, s := uint32(7), NewScratch()
	for f := range BF16Dot {
		e.checkFormat(t, file, k, f, &seed, s)
	}
	for rows := 1; rows <= k.tileRows; rows++ {
		for c := range CacheType(cacheTypes) {
			if !selfTestAttention(k, c, rows, &seed, s) {
				t.Errorf("%s: attention of %d rows differs from plain Go", file, rows)
			}
		}
	}
	for i := range testSchemes {
		for _, n := range []int{31, 32, 160} {
			for _, rows := range []int{1, 2, 3, 5, 7, 13} {
				if !selfTestCodes(k, &testSchemes[i], rows, 100, n, &seed, s) {
					t.Fatalf("%s: scheme %d, %d rows of %d columns differ from plain Go", file, i, rows, n)
				}
			}
		}
	}
}
