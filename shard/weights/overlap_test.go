package weights_test

import (
	"fmt"
	"strings"
	"testing"

	"lockstep/shard/weights"
	"lockstep/shard/weights/weightstest"
)

// Tensors of a file never share bytes; those without any may lie anywhere.
func TestTensorsLieApart(t *testing.T) {
	entry := func(name string, from, to int) string {
		return fmt.Sprintf(`%q:{"dtype":"F32","shape":[%d],"data_offsets":[%d,%d]}`, name, (to-from)/4, from, to)
	}
	for header, want := range map[string]string{
		entry("b", 8, 16) + "," + entry("a", 0, 8):                          "",
		entry("a", 0, 8) + "," + entry("b", 4, 16):                          "tensors a and b lie in the same bytes",
		entry("a", 0, 16) + "," + entry("b", 4, 8):                          "tensors a and b lie in the same bytes",
		entry("a", 0, 16) + "," + entry("b", 0, 16):                         "tensors a and b lie in the same bytes",
		entry("c", 8, 8) + "," + entry("a", 0, 8) + "," + entry("b", 8, 16): "",
	} {
		files, err := weights.OpenFS(weightstest.Directory(weightstest.Config, map[string][]byte{
			"model.safetensors": weightstest.Safetensors("{"+header+"}", 16)}))
		if err == nil {
			files.Close()
		}
		if (want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got error %v, want %q", header, err, want)
		}
	}
}

// The same bytes are other weights where the configuration says so, and the fingerprint tells.
func TestFingerprintCoversQuantisation(t *testing.T) {
	header := `"a.qweight":{"dtype":"I32","shape":[4,8],"data_offsets":[0,128]},` +
		`"a.qzeros":{"dtype":"I32","shape":[1,1],"data_offsets":[128,132]},` +
		`"a.scales":{"dtype":"F16","shape":[1,8],"data_offsets":[132,148]},"a.g_idx":{"dtype":"I32","shape":[32],"data_offsets":[148,276]}`
	prints := map[string]bool{}
	for _, format := range []string{"gptq", "gptq_v2"} {
		config := strings.Replace(weightstest.Config, `"vocab_size"`,
			`"quantization_config":{"quant_method":"gptq","bits":4,"group_size":32,"checkpoint_format":"`+format+`"},"vocab_size"`, 1)
		files, err := weights.OpenFS(weightstest.Directory(config, map[string][]byte{
			"model.safetensors": weightstest.Safetensors("{"+header+"}", 276)}))
		if err != nil {
			t.Fatal(err)
		}
		prints[files.Fingerprint(nil)] = true
		files.Close()
	}
	if len(prints) != 2 {
		t.Errorf("got %d fingerprints, want 2", len(prints))
	}
}
