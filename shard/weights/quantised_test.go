package weights_test

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lockstep/protocol/outside"
	"lockstep/shard/weights"
)

// weightsCheck are values of some tensors of a reference checkpoint.
type weightsCheck struct {
	Tensors []struct {
		Name   string    `json:"name"`
		Shape  []int     `json:"shape"`
		First  []float32 `json:"first16"`
		Last   []float32 `json:"last16"`
		Sum    float64   `json:"sum"`
		AbsSum float64   `json:"abs_sum"`
	} `json:"tensors"`
}

// Every published format of quantised safetensors gives the weights that its own library makes of it, exactly.
func TestQuantisedGolden(t *testing.T) {
	paths, err := filepath.Glob(filepath.Join(outside.Shared(t, "golden", "quant"), "*", "weights_check.json"))
	if err != nil || len(paths) < 20 {
		t.Fatalf("got %d checkpoints, %v", len(paths), err)
	}
	for _, path := range paths {
		dir := filepath.Dir(path)
		t.Run(filepath.Base(dir), func(t *testing.T) {
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			var want weightsCheck
			if err := json.Unmarshal(data, &want); err != nil {
				t.Fatal(err)
			}
			files, err := weights.Open(dir)
			if err != nil {
				t.Fatal(err)
			}
			defer files.Close()
			for _, tensor := range want.Tensors {
				rows := 1
				for _, size := range tensor.Shape[:len(tensor.Shape)-1] {
					rows *= size
				}
				columns := tensor.Shape[len(tensor.Shape)-1]
				got, err := files.Tensor(tensor.Name, rows, columns)
				if err != nil {
					t.Fatal(err)
				}
				var all []float32
				sum, absSum := 0.0, 0.0
				for row := range rows {
					all = append(all, got.Floats(row, nil)...)
				}
				for _, v := range all {
					sum, absSum = sum+float64(v), absSum+math.Abs(float64(v))
				}
				for i, v := range tensor.First {
					near(t, tensor.Name+" begins", all[i], v)
				}
				for i, v := range tensor.Last {
					near(t, tensor.Name+" ends", all[len(all)-len(tensor.Last)+i], v)
				}
				if math.Abs(sum-tensor.Sum) > 1e-8*tensor.AbsSum || math.Abs(absSum-tensor.AbsSum) > 1e-8*tensor.AbsSum {
					t.Errorf("%s: the sums are %v and %v, want %v and %v", tensor.Name, sum, absSum, tensor.Sum, tensor.AbsSum)
				}
			}
			for _, name := range files.Names() {
				for _, part := range []string{"qweight", "scale", "zero", "g_idx", "packed", "shape", "blocks"} {
					if strings.Contains(name, part) {
						t.Errorf("%s is listed, and is a part of a matrix", name)
					}
				}
			}
		})
	}
}

// near compares with a number that is written with 9 digits.
func near(t *testing.T, what string, got, want float32) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}
