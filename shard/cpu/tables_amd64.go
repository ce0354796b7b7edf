//go:build amd64 && !purego

package cpu

import "lockstep/shard/codes"

// vectorPrimitives returns the functions over one row, which AVX2 and AVX-512
// share.
func vectorPrimitives() primitives {
	return primitives{
		squares: squaresAVX2, scale: scaleAVX2, add: addAVX2, siluMul: siluMulAVX2, geluMul: geluMulAVX2, exp: expAVX2,
		rotate: rotateAVX2, rowMax: rowMaxAVX2, rowExpSum: rowExpSumAVX2, stream: streamAVX2,
	}
}

// avx2Primitives returns the table of the AVX2 functions.
func avx2Primitives() primitives {
	p := vectorPrimitives()
	p.tileRows, p.blockK, p.peak = 6, 256, peakAVX2
	p.gemv = [formats][maxPanels + 1]gemvFunc{
		F32:  {nil, gemv1F32AVX2, gemv2F32AVX2, nil, gemv4F32AVX2},
		F16:  {nil, gemv1F16AVX2, gemv2F16AVX2, nil, gemv4F16AVX2},
		BF16: {nil, gemv1BF16AVX2, gemv2BF16AVX2, nil, gemv4BF16AVX2},
		Q8_0: {nil, gemv1Q80AVX2, gemv2Q80AVX2},
		Q4_0: {nil, gemv1Q40AVX2, gemv2Q40AVX2},
		Q4_1: {nil, gemv1Q41AVX2, gemv2Q41AVX2},
	}
	p.dequant = [formats]dequantFunc{
		F16:  dequantF16AVX2,
		BF16: dequantBF16AVX2,
		Q8_0: dequantQ80AVX2,
		Q4_0: dequantQ40AVX2,
		Q4_1: dequantQ41AVX2,
	}
	p.codesAVX2()
	p.tile = [2][maxTileRows + 1]tileFunc{
		{3: tile3x1AVX2, tile4x1AVX2, tile5x1AVX2, tile6x1AVX2},
	}
	p.direct = [formats][2][maxTileRows + 1]tileFunc{
		F32: {
			{nil, nil, direct2x1F32AVX2, direct3x1F32AVX2, direct4x1F32AVX2, direct5x1F32AVX2, direct6x1F32AVX2},
			{nil, nil, direct2x2F32AVX2, direct3x2F32AVX2},
		},
		F16: {
			{nil, nil, direct2x1F16AVX2, direct3x1F16AVX2, direct4x1F16AVX2, direct5x1F16AVX2, direct6x1F16AVX2},
			{nil, nil, direct2x2F16AVX2, direct3x2F16AVX2},
		},
		BF16: {
			{nil, nil, direct2x1BF16AVX2, direct3x1BF16AVX2, direct4x1BF16AVX2, direct5x1BF16AVX2, direct6x1BF16AVX2},
			{nil, nil, direct2x2BF16AVX2, direct3x2BF16AVX2},
		},
		Q8_0: {
			{nil, nil, direct2x1Q80AVX2, direct3x1Q80AVX2, direct4x1Q80AVX2},
		},
		Q4_0: {
			{nil, nil, direct2x1Q40AVX2, direct3x1Q40AVX2, direct4x1Q40AVX2},
		},
		Q4_1: {
			{nil, nil, direct2x1Q41AVX2, direct3x1Q41AVX2, direct4x1Q41AVX2},
		},
	}
	p.scores = [cacheTypes][maxTileRows + 1]scoresFunc{
		CacheF32:  {nil, scores1AVX2, scores2AVX2, scores3AVX2, scores4AVX2, scores5AVX2, scores6AVX2},
		CacheF16:  {nil, scores1F16AVX2, scores2F16AVX2, scores3F16AVX2, scores4F16AVX2, scores5F16AVX2, scores6F16AVX2},
		CacheBF16: {nil, scores1BF16AVX2, scores2BF16AVX2, scores3BF16AVX2, scores4BF16AVX2, scores5BF16AVX2, scores6BF16AVX2},
	}
	p.values = [cacheTypes][maxTileRows + 1]valuesFunc{
		CacheF32:  {nil, values1AVX2, values2AVX2, values3AVX2, values4AVX2, values5AVX2, values6AVX2},
		CacheF16:  {nil, values1F16AVX2, values2F16AVX2, values3F16AVX2, values4F16AVX2, values5F16AVX2, values6F16AVX2},
		CacheBF16: {nil, values1BF16AVX2, values2BF16AVX2, values3BF16AVX2, values4BF16AVX2, values5BF16AVX2, values6BF16AVX2},
	}
	return p
}

// avx512Primitives returns the table of the AVX512 functions.
func avx512Primitives() primitives {
	p := vectorPrimitives()
	p.tileRows, p.blockK, p.peak = 12, 128, peakAVX512
	p.gemv = [formats][maxPanels + 1]gemvFunc{
		F32:  {nil, gemv1F32AVX512, gemv2F32AVX512, nil, gemv4F32AVX512},
		F16:  {nil, gemv1F16AVX512, gemv2F16AVX512, nil, gemv4F16AVX512},
		BF16: {nil, gemv1BF16AVX512, gemv2BF16AVX512, nil, gemv4BF16AVX512},
		Q8_0: {nil, gemv1Q80AVX512, gemv2Q80AVX512, nil, gemv4Q80AVX512},
		Q4_0: {nil, gemv1Q40AVX512, gemv2Q40AVX512, nil, gemv4Q40AVX512},
		Q4_1: {nil, gemv1Q41AVX512, gemv2Q41AVX512, nil, gemv4Q41AVX512},
	}
	p.dequant = [formats]dequantFunc{
		F16:  dequantF16AVX512,
		BF16: dequantBF16AVX512,
		Q8_0: dequantQ80AVX512,
		Q4_0: dequantQ40AVX512,
		Q4_1: dequantQ41AVX512,
	}
	p.codesAVX512()
	p.tile = [2][maxTileRows + 1]tileFunc{
		{6: tile6x1AVX512, tile7x1AVX512, tile8x1AVX512, tile9x1AVX512, tile10x1AVX512, tile11x1AVX512, tile12x1AVX512},
		{6: tile6x2AVX512, tile7x2AVX512, tile8x2AVX512, tile9x2AVX512, tile10x2AVX512, tile11x2AVX512, tile12x2AVX512},
	}
	p.direct = [formats][2][maxTileRows + 1]tileFunc{
		F32: {
			{nil, nil, direct2x1F32AVX512, direct3x1F32AVX512, direct4x1F32AVX512, direct5x1F32AVX512, direct6x1F32AVX512},
			{nil, nil, direct2x2F32AVX512, direct3x2F32AVX512, direct4x2F32AVX512, direct5x2F32AVX512, direct6x2F32AVX512},
		},
		F16: {
			{nil, nil, direct2x1F16AVX512, direct3x1F16AVX512, direct4x1F16AVX512, direct5x1F16AVX512, direct6x1F16AVX512},
			{nil, nil, direct2x2F16AVX512, direct3x2F16AVX512, direct4x2F16AVX512, direct5x2F16AVX512, direct6x2F16AVX512},
		},
		BF16: {
			{nil, nil, direct2x1BF16AVX512, direct3x1BF16AVX512, direct4x1BF16AVX512, direct5x1BF16AVX512, direct6x1BF16AVX512},
			{nil, nil, direct2x2BF16AVX512, direct3x2BF16AVX512, direct4x2BF16AVX512, direct5x2BF16AVX512, direct6x2BF16AVX512},
		},
		Q8_0: {
			{nil, nil, direct2x1Q80AVX512, direct3x1Q80AVX512, direct4x1Q80AVX512, direct5x1Q80AVX512, direct6x1Q80AVX512},
			{nil, nil, direct2x2Q80AVX512, direct3x2Q80AVX512, direct4x2Q80AVX512, direct5x2Q80AVX512, direct6x2Q80AVX512},
		},
		Q4_0: {
			{nil, nil, direct2x1Q40AVX512, direct3x1Q40AVX512, direct4x1Q40AVX512, direct5x1Q40AVX512, direct6x1Q40AVX512},
			{nil, nil, direct2x2Q40AVX512, direct3x2Q40AVX512, direct4x2Q40AVX512, direct5x2Q40AVX512, direct6x2Q40AVX512},
		},
		Q4_1: {
			{nil, nil, direct2x1Q41AVX512, direct3x1Q41AVX512, direct4x1Q41AVX512, direct5x1Q41AVX512, direct6x1Q41AVX512},
			{nil, nil, direct2x2Q41AVX512, direct3x2Q41AVX512, direct4x2Q41AVX512, direct5x2Q41AVX512, direct6x2Q41AVX512},
		},
	}
	p.scores = [cacheTypes][maxTileRows + 1]scoresFunc{
		CacheF32: {nil, scores1AVX512, scores2AVX512, scores3AVX512, scores4AVX512, scores5AVX512, scores6AVX512,
			scores7AVX512, scores8AVX512, scores9AVX512, scores10AVX512, scores11AVX512, scores12AVX512},
		CacheF16: {nil, scores1F16AVX512, scores2F16AVX512, scores3F16AVX512, scores4F16AVX512, scores5F16AVX512, scores6F16AVX512,
			scores7F16AVX512, scores8F16AVX512, scores9F16AVX512, scores10F16AVX512, scores11F16AVX512, scores12F16AVX512},
		CacheBF16: {nil, scores1BF16AVX512, scores2BF16AVX512, scores3BF16AVX512, scores4BF16AVX512, scores5BF16AVX512, scores6BF16AVX512,
			scores7BF16AVX512, scores8BF16AVX512, scores9BF16AVX512, scores10BF16AVX512, scores11BF16AVX512, scores12BF16AVX512},
	}
	p.values = [cacheTypes][maxTileRows + 1]valuesFunc{
		CacheF32: {nil, values1AVX512, values2AVX512, values3AVX512, values4AVX512, values5AVX512, values6AVX512,
			values7AVX512, values8AVX512, values9AVX512, values10AVX512, values11AVX512, values12AVX512},
		CacheF16: {nil, values1F16AVX512, values2F16AVX512, values3F16AVX512, values4F16AVX512, values5F16AVX512, values6F16AVX512,
			values7F16AVX512, values8F16AVX512, values9F16AVX512, values10F16AVX512, values11F16AVX512, values12F16AVX512},
		CacheBF16: {nil, values1BF16AVX512, values2BF16AVX512, values3BF16AVX512, values4BF16AVX512, values5BF16AVX512, values6BF16AVX512,
			values7BF16AVX512, values8BF16AVX512, values9BF16AVX512, values10BF16AVX512, values11BF16AVX512, values12BF16AVX512},
	}
	return p
}

// codesAVX2 sets the functions of codes.
func (p *primitives) codesAVX2() {
	p.codes = [codes.E4M3 + 1]codesFunc{
		codes.Bits2:      codesBits2AVX2,
		codes.Bits3:      codesBits3AVX2,
		codes.Bits4:      codesBits4AVX2,
		codes.Bits5:      codesBits5AVX2,
		codes.Bits6:      codesBits6AVX2,
		codes.Bits8:      codesBits8AVX2,
		codes.NonLinear4: codesNonLinear4AVX2,
		codes.FP4:        codesFP4AVX2,
		codes.E4M3:       codesE4M3AVX2,
	}
	p.mixed = [codes.E4M3 + 1]codesFunc{codes.Bits4: mixedBits4AVX2, codes.Bits8: mixedBits8AVX2, codes.E4M3: mixedE4M3AVX2}
	p.gemvMixed = [codes.E4M3 + 1][3]gemvCodesFunc{
		codes.Bits4: {nil, gemvMixed1Bits4AVX2},
		codes.Bits8: {nil, gemvMixed1Bits8AVX2},
		codes.E4M3:  {nil, gemvMixed1E4M3AVX2},
	}
	p.gemvCodes = [codes.E4M3 + 1][3]gemvCodesFunc{
		codes.Bits2:      {nil, gemv1Bits2AVX2},
		codes.Bits3:      {nil, gemv1Bits3AVX2},
		codes.Bits4:      {nil, gemv1Bits4AVX2},
		codes.Bits5:      {nil, gemv1Bits5AVX2},
		codes.Bits6:      {nil, gemv1Bits6AVX2},
		codes.Bits8:      {nil, gemv1Bits8AVX2},
		codes.NonLinear4: {nil, gemv1NonLinear4AVX2},
		codes.FP4:        {nil, gemv1FP4AVX2},
		codes.E4M3:       {nil, gemv1E4M3AVX2},
	}
}

// codesAVX512 sets the functions of codes.
func (p *primitives) codesAVX512() {
	p.codes = [codes.E4M3 + 1]codesFunc{
		codes.Bits2:      codesBits2AVX512,
		codes.Bits3:      codesBits3AVX512,
		codes.Bits4:      codesBits4AVX512,
		codes.Bits5:      codesBits5AVX512,
		codes.Bits6:      codesBits6AVX512,
		codes.Bits8:      codesBits8AVX512,
		codes.NonLinear4: codesNonLinear4AVX512,
		codes.FP4:        codesFP4AVX512,
		codes.E4M3:       codesE4M3AVX512,
	}
	p.mixed = [codes.E4M3 + 1]codesFunc{codes.Bits4: mixedBits4AVX512, codes.Bits8: mixedBits8AVX512, codes.E4M3: mixedE4M3AVX512}
	p.gemvMixed = [codes.E4M3 + 1][3]gemvCodesFunc{
		codes.Bits4: {nil, gemvMixed1Bits4AVX512, gemvMixed2Bits4AVX512},
		codes.Bits8: {nil, gemvMixed1Bits8AVX512, gemvMixed2Bits8AVX512},
		codes.E4M3:  {nil, gemvMixed1E4M3AVX512, gemvMixed2E4M3AVX512},
	}
	p.gemvCodes = [codes.E4M3 + 1][3]gemvCodesFunc{
		codes.Bits2:      {nil, gemv1Bits2AVX512, gemv2Bits2AVX512},
		codes.Bits3:      {nil, gemv1Bits3AVX512, gemv2Bits3AVX512},
		codes.Bits4:      {nil, gemv1Bits4AVX512, gemv2Bits4AVX512},
		codes.Bits5:      {nil, gemv1Bits5AVX512, gemv2Bits5AVX512},
		codes.Bits6:      {nil, gemv1Bits6AVX512, gemv2Bits6AVX512},
		codes.Bits8:      {nil, gemv1Bits8AVX512, gemv2Bits8AVX512},
		codes.NonLinear4: {nil, gemv1NonLinear4AVX512, gemv2NonLinear4AVX512},
		codes.FP4:        {nil, gemv1FP4AVX512, gemv2FP4AVX512},
		codes.E4M3:       {nil, gemv1E4M3AVX512, gemv2E4M3AVX512},
	}
}
