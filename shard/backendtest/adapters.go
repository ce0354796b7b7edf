package backendtest

import (
	"os"
	"path/filepath"
	"testing"

	"lockstep/shard/model"
	"lockstep/shard/model/modeltest"
)

// Adapters opens the reference adapters in a folder, with their cases.
func Adapters(t testing.TB, dir string) (adapters []*model.Adapter, cases [][]Golden) {
	t.Helper()
	folders, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, folder := range folders {
		files := modeltest.Unpacked(t, filepath.Join(dir, folder.Name()))
		opened, err := model.OpenAdapterFS(folder.Name(), files)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(opened.Close)
		adapters = append(adapters, opened)
		cases = append(cases, modeltest.Cases[Golden](t, files["golden.jsonl"].Data))
	}
	return adapters, cases
}
