package model

import (
	"strings"
	"testing"

	"lockstep/shard/weights"
	"lockstep/shard/weights/weightstest"
)

// What families may set beyond what those of today do stands in the stages: norms behind, scales, rotations by layer.
func TestDecoderOptions(t *testing.T) {
	config := strings.Replace(weightstest.Config, `"num_hidden_layers":1`, `"num_hidden_layers":2`, 1)
	tensors := weightstest.DecoderTensors(2)
	for _, layer := range []string{"0", "1"} {
		for _, name := range []string{"pre_attention", "post_attention", "pre_mlp", "post_mlp"} {
			tensors["model.layers."+layer+"."+name+".weight"] = []int{4}
		}
	}
	files, err := weights.OpenFS(weightstest.Directory(config, map[string][]byte{"model.safetensors": tensors.File()}))
	if err != nil {
		t.Fatal(err)
	}
	defer files.Close()
	_, c, err := huggingFace(files)
	if err != nil {
		t.Fatal(err)
	}
	d := decoder{names: llamaNames, tied: true, normPlusOne: true, embeddingScale: 2, attentionScale: 0.25,
		ropes: []Rope{c.Rope, {Type: "default", Theta: 7}}, ropeOf: func(layer int) int { return layer }}
	d.names.attentionNorm, d.names.attentionPartNorm, d.names.mlpNorm, d.names.mlpPartNorm = "pre_attention", "post_attention", "pre_mlp",
		"post_mlp"
	r := &recipe{Part: &Part{Config: c}, files: files, used: map[string]bool{}}
	r.Ranks = 1
	if d.write(r); r.err != nil {
		t.Fatal(r.err)
	}
	text := r.Describe()
	for _, want := range []string{`"Scale":2,"Norm":{"Tensor":"model.layers.0.pre_attention.weight"`, `"PlusOne":true`,
		`attend {"Layer":0,"Scale":0.25}`,
		`"PartNorm":{"Tensor":"model.layers.0.post_attention.weight"`, `"PartNorm":{"Tensor":"model.layers.1.post_mlp.weight"`,
		`"Norm":{"Tensor":"model.layers.1.pre_attention.weight"`, `"Rotation":1`} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
	if norm := r.Stages[0].(*Embed).Norm; norm.Weight[1] != 1 { // of a tensor of zeros
		t.Errorf("got weights %v, want ones", norm.Weight)
	}
	if len(r.Rotations) != 2 || r.Rotations[1].Theta != 7 {
		t.Errorf("got rotations %+v", r.Rotations)
	}
}
