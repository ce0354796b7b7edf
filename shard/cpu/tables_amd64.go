//go:build amd64 && !purego

package cpu

// vectorPrimitives returns the functions over one row, which AVX2 and AVX-512
// share.
func vectorPrimitives() primitives {
	return primitives{
		squares: squaresAVX2, scale: scaleAVX2, add: addAVX2, siluMul: siluMulAVX2, exp: expAVX2,
		rotate: rotateAVX2, rowMax: rowMaxAVX2, rowExpSum: rowExpSumAVX2, stream: streamAVX2,
	}
}

// avx2Primitives returns the table of the AVX2 functions.
func avx2Primitives() primitives {
	p := vectorPrimitives()
	p.tileRows, p.blockK, p.peak = 6, 256, peakAVX2
	p.gemv = [formats][maxPanels + 1]gemvFunc{
		F32:  {nil, gemvF32x1AVX2, gemvF32x2AVX2, nil, gemvF32x4AVX2},
		F16:  {nil, gemvF16x1AVX2, gemvF16x2AVX2, nil, gemvF16x4AVX2},
		BF16: {nil, gemvBF16x1AVX2, gemvBF16x2AVX2, nil, gemvBF16x4AVX2},
		Q8_0: {nil, gemvQ80x1AVX2, gemvQ80x2AVX2},
		Q4_0: {nil, gemvQ40x1AVX2, gemvQ40x2AVX2},
		Q4_1: {nil, gemvQ41x1AVX2, gemvQ41x2AVX2},
	}
	p.dequant = [formats]dequantFunc{
		F16:  dequantF16AVX2,
		BF16: dequantBF16AVX2,
		Q8_0: dequantQ80AVX2,
		Q4_0: dequantQ40AVX2,
		Q4_1: dequantQ41AVX2,
	}
	p.tile = [2][maxTileRows + 1]tileFunc{
		{nil, tile1x1AVX2, tile2x1AVX2, tile3x1AVX2, tile4x1AVX2, tile5x1AVX2, tile6x1AVX2},
		{nil, tile1x2AVX2, tile2x2AVX2, tile3x2AVX2},
	}
	p.direct = [formats][2][maxTileRows + 1]tileFunc{
		F32: {
			{nil, nil, directF322x1AVX2, directF323x1AVX2, directF324x1AVX2, directF325x1AVX2, directF326x1AVX2},
			{nil, nil, directF322x2AVX2, directF323x2AVX2},
		},
		F16: {
			{nil, nil, directF162x1AVX2, directF163x1AVX2, directF164x1AVX2, directF165x1AVX2, directF166x1AVX2},
			{nil, nil, directF162x2AVX2, directF163x2AVX2},
		},
		BF16: {
			{nil, nil, directBF162x1AVX2, directBF163x1AVX2, directBF164x1AVX2, directBF165x1AVX2, directBF166x1AVX2},
			{nil, nil, directBF162x2AVX2, directBF163x2AVX2},
		},
		Q8_0: {
			{nil, nil, directQ802x1AVX2, directQ803x1AVX2, directQ804x1AVX2},
		},
		Q4_0: {
			{nil, nil, directQ402x1AVX2, directQ403x1AVX2, directQ404x1AVX2},
		},
		Q4_1: {
			{nil, nil, directQ412x1AVX2, directQ413x1AVX2, directQ414x1AVX2},
		},
	}
	p.scores = [maxTileRows + 1]scoresFunc{nil, scores1AVX2, scores2AVX2, scores3AVX2, scores4AVX2, scores5AVX2, scores6AVX2}
	p.values = [maxTileRows + 1]valuesFunc{nil, values1AVX2, values2AVX2, values3AVX2, values4AVX2, values5AVX2, values6AVX2}
	return p
}

// avx512Primitives returns the table of the AVX512 functions.
func avx512Primitives() primitives {
	p := vectorPrimitives()
	p.tileRows, p.blockK, p.peak = 12, 128, peakAVX512
	p.gemv = [formats][maxPanels + 1]gemvFunc{
		F32:  {nil, gemvF32x1AVX512, gemvF32x2AVX512, nil, gemvF32x4AVX512},
		F16:  {nil, gemvF16x1AVX512, gemvF16x2AVX512, nil, gemvF16x4AVX512},
		BF16: {nil, gemvBF16x1AVX512, gemvBF16x2AVX512, nil, gemvBF16x4AVX512},
		Q8_0: {nil, gemvQ80x1AVX512, gemvQ80x2AVX512, nil, gemvQ80x4AVX512},
		Q4_0: {nil, gemvQ40x1AVX512, gemvQ40x2AVX512, nil, gemvQ40x4AVX512},
		Q4_1: {nil, gemvQ41x1AVX512, gemvQ41x2AVX512, nil, gemvQ41x4AVX512},
	}
	p.dequant = [formats]dequantFunc{
		F16:  dequantF16AVX512,
		BF16: dequantBF16AVX512,
		Q8_0: dequantQ80AVX512,
		Q4_0: dequantQ40AVX512,
		Q4_1: dequantQ41AVX512,
	}
	p.tile = [2][maxTileRows + 1]tileFunc{
		{nil, tile1x1AVX512, tile2x1AVX512, tile3x1AVX512, tile4x1AVX512, tile5x1AVX512, tile6x1AVX512, tile7x1AVX512, tile8x1AVX512, tile9x1AVX512, tile10x1AVX512, tile11x1AVX512, tile12x1AVX512},
		{nil, tile1x2AVX512, tile2x2AVX512, tile3x2AVX512, tile4x2AVX512, tile5x2AVX512, tile6x2AVX512, tile7x2AVX512, tile8x2AVX512, tile9x2AVX512, tile10x2AVX512, tile11x2AVX512, tile12x2AVX512},
	}
	p.direct = [formats][2][maxTileRows + 1]tileFunc{
		F32: {
			{nil, nil, directF322x1AVX512, directF323x1AVX512, directF324x1AVX512, directF325x1AVX512, directF326x1AVX512},
			{nil, nil, directF322x2AVX512, directF323x2AVX512, directF324x2AVX512, directF325x2AVX512, directF326x2AVX512},
		},
		F16: {
			{nil, nil, directF162x1AVX512, directF163x1AVX512, directF164x1AVX512, directF165x1AVX512, directF166x1AVX512},
			{nil, nil, directF162x2AVX512, directF163x2AVX512, directF164x2AVX512, directF165x2AVX512, directF166x2AVX512},
		},
		BF16: {
			{nil, nil, directBF162x1AVX512, directBF163x1AVX512, directBF164x1AVX512, directBF165x1AVX512, directBF166x1AVX512},
			{nil, nil, directBF162x2AVX512, directBF163x2AVX512, directBF164x2AVX512, directBF165x2AVX512, directBF166x2AVX512},
		},
		Q8_0: {
			{nil, nil, directQ802x1AVX512, directQ803x1AVX512, directQ804x1AVX512, directQ805x1AVX512, directQ806x1AVX512},
			{nil, nil, directQ802x2AVX512, directQ803x2AVX512, directQ804x2AVX512, directQ805x2AVX512, directQ806x2AVX512},
		},
		Q4_0: {
			{nil, nil, directQ402x1AVX512, directQ403x1AVX512, directQ404x1AVX512, directQ405x1AVX512, directQ406x1AVX512},
			{nil, nil, directQ402x2AVX512, directQ403x2AVX512, directQ404x2AVX512, directQ405x2AVX512, directQ406x2AVX512},
		},
		Q4_1: {
			{nil, nil, directQ412x1AVX512, directQ413x1AVX512, directQ414x1AVX512, directQ415x1AVX512, directQ416x1AVX512},
			{nil, nil, directQ412x2AVX512, directQ413x2AVX512, directQ414x2AVX512, directQ415x2AVX512, directQ416x2AVX512},
		},
	}
	p.scores = [maxTileRows + 1]scoresFunc{nil, scores1AVX512, scores2AVX512, scores3AVX512, scores4AVX512, scores5AVX512, scores6AVX512, scores7AVX512, scores8AVX512, scores9AVX512, scores10AVX512, scores11AVX512, scores12AVX512}
	p.values = [maxTileRows + 1]valuesFunc{nil, values1AVX512, values2AVX512, values3AVX512, values4AVX512, values5AVX512, values6AVX512, values7AVX512, values8AVX512, values9AVX512, values10AVX512, values11AVX512, values12AVX512}
	return p
}
