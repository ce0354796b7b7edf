// Activations, by the numbers that shard/gpu has for them.
#define SILU 0
#define GELU 1
#define GELU_ERF 2
#define CLAMPED_SWIGLU 3
#define RELU 4

static __device__ float activated(int activation, float v) {
	switch (activation) {
	case SILU: return v * sigmoid(v);
	case RELU: return fmaxf(v, 0.0f);
	case GELU: return 0.5f * v * (1.0f + hyperbolicTangent(0.7978845608f * fmaf(0.044715f * v * v, v, v)));
	}
	return 0.5f * v * (1.0f + errorFunction(v * 0.7071067812f));
}

// gated is activation(gate) x up.
static __device__ float gated(int activation, float gate, float up) {
	if (activation != CLAMPED_SWIGLU) return activated(activation, gate) * up;
	gate = fminf(gate, 7.0f);
	return gate * sigmoid(1.702f * gate) * (fmaxf(fminf(up, 7.0f), -7.0f) + 1.0f);
}
