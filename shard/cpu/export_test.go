package cpu

// FMA32 is the reference fused multiply-add, for tests.
var FMA32 = fma32

// SelfTest is what an AVX-512 implementation must pass before it is used.
var SelfTest = selfTest
