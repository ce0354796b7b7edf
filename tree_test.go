// Package lockstep_test checks the shape of the tree: who imports whom, what lies where, and how large things get.
package lockstep_test

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

const (
	maxFileLines     = 500
	maxLongFileLines = 1000 // with an entry in longFiles
	maxFunctionLines = 70
	maxColumns       = 140
	tabColumns       = 4
)

// longFiles may have up to maxLongFileLines, each for a reason.
var longFiles = map[string]string{}

// longFunctions, as FILE:NAME, may exceed maxFunctionLines, each for a reason.
var longFunctions = map[string]string{}

// topLevel is all that may lie in the root.
var topLevel = strings.Fields(`
	protocol router shard launcher scripts docs
	.ci .git .gitignore .dockerignore .golangci.yml bin Dockerfile LICENSE Makefile README.md go.mod go.sum tree_test.go
	docker-compose.yml docker-compose.local-nats.yml`)

func TestImports(t *testing.T) {
	output, err := exec.Command("go", "list", "-test", "-f", `{{.ImportPath}}{{range .Imports}} {{.}}{{end}}`, "./...").Output()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(output)) {
		fields := strings.Fields(line)
		importer := strings.TrimSuffix(fields[0], ".test")
		for _, imported := range fields[1:] {
			if strings.HasPrefix(imported, "[") || strings.HasSuffix(imported, "_test") {
				continue // go list's mark of a package built for a test, and the main package of a test
			}
			switch {
			case importer == "lockstep/router/fleettest" && within(imported, "shard"):
				// tests of the router need a real other side; an imitation of one would drift from it
			case imported == "lockstep/router/fleettest" && !strings.HasSuffix(importer, "_test"):
				t.Errorf("%s imports %s: it brings the shard, and is for the router's external tests only", importer, imported)
			case within(importer, "router") && within(imported, "shard"), within(importer, "shard") && within(imported, "router"):
				t.Errorf("%s imports %s: router and shard know each other by protocol only, so that each can change, run and be tested "+
					"without the other", importer, imported)
			case dialectOf(importer) != "" && dialectOf(imported) != "" && dialectOf(importer) != dialectOf(imported),
				slices.Contains(belowDialects, strings.TrimSuffix(importer, "_test")) && dialectOf(imported) != "":
				t.Errorf("%s imports %s: a dialect knows what all share and no other dialect, and what all share knows none, so that "+
					"each can come, change and go alone; router/api joins them", importer, imported)
			case importer == "lockstep/scripts/load" && imported == "lockstep/launcher/simulate":
				// a program that only measures puts the simulator beside the server; nothing imports it
			case !within(importer, "launcher") && within(imported, "launcher"):
				t.Errorf("%s imports %s: the launcher wires everything, so nothing may need it", importer, imported)
			case within(importer, "protocol") && foreign(imported) && !strings.HasSuffix(importer, "_test") &&
				!slices.Contains(protocolLibraries[importer], imported):
				t.Errorf("%s imports %s: protocol imports the standard library only, so that whatever speaks it needs nothing else",
					importer, imported)
			case within(importer, "protocol") && strings.HasPrefix(imported, "lockstep/") && !within(imported, "protocol"):
				t.Errorf("%s imports %s: protocol is the ground that all others stand on", importer, imported)
			}
		}
	}
}

// protocolLibraries are what packages below protocol may import beside the standard library, each for a reason.
var protocolLibraries = map[string][]string{
	"lockstep/protocol/bus": {"github.com/nats-io/nats.go"}, // router and shard connect alike
	"lockstep/protocol/text": {
		"github.com/dlclark/regexp2/v2",  // split patterns look ahead, which regexp does not
		"golang.org/x/text/unicode/norm", // normalizers compose characters
	},
}

// foreign reports whether a package belongs to neither the standard library nor this tree.
func foreign(path string) bool { return strings.Contains(strings.Split(path, "/")[0], ".") }

// belowDialects is what all dialects share.
var belowDialects = []string{"lockstep/router/api/answer", "lockstep/router/api/metrics", "lockstep/router/api/wire"}

// dialectOf names the dialect that a package is, "" if it is none: below router/api lie dialects, but for what they share and
// what serves their tests.
func dialectOf(path string) string {
	path = strings.TrimSuffix(path, "_test")
	name, ok := strings.CutPrefix(path, "lockstep/router/api/")
	if !ok || slices.Contains(belowDialects, path) || name == "answertest" {
		return ""
	}
	return name
}

func within(path, part string) bool {
	return path == "lockstep/"+part || strings.HasPrefix(path, "lockstep/"+part+"/")
}

func TestTopLevel(t *testing.T) {
	allowed := map[string]bool{}
	for _, name := range topLevel {
		allowed[name] = true
	}
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		name := entry.Name()
		ignored := exec.Command("git", "check-ignore", "--quiet", name).Run() == nil
		if !allowed[name] && !ignored {
			t.Errorf("%s: the top level is a table of contents; put it in a part, or add it to topLevel here with a line in README.md",
				name)
		}
		if entry.IsDir() && (name == "internal" || name == "pkg" || name == "util") {
			t.Errorf("%s: folders are named for their duty", name)
		}
	}
}

// goFiles are the tree's Go files that people write.
func goFiles(t *testing.T) []string {
	var files []string
	err := filepath.WalkDir(".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && path != "." && (strings.HasPrefix(entry.Name(), ".") || entry.Name() == "testdata" || entry.Name() == "bin") {
			return filepath.SkipDir
		}
		if strings.HasSuffix(path, ".go") {
			files = append(files, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestSizesAndDocComments(t *testing.T) {
	documented, packages := map[string]bool{}, map[string]bool{}
	for _, path := range goFiles(t) {
		source, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		positions := token.NewFileSet()
		file, err := parser.ParseFile(positions, path, source, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasSuffix(path, "_test.go") {
			packages[filepath.Dir(path)] = true
		}
		if file.Doc != nil {
			documented[filepath.Dir(path)] = true
		}
		if ast.IsGenerated(file) {
			continue
		}
		checkColumns(t, positions, path, file, source)
		lines, limit := bytes.Count(source, []byte("\n")), maxFileLines
		if longFiles[path] != "" {
			limit = maxLongFileLines
		}
		if lines > limit {
			t.Errorf("%s has %d lines, the limit is %d: a file is read as a whole; split it by duty, or (to %d) add it to longFiles "+
				"with a reason", path, lines, limit, maxLongFileLines)
		}
		checkFunctions(t, positions, path, file)
	}
	for folder := range packages {
		if !documented[folder] {
			t.Errorf("package %s has no doc comment: it says what the package promises and to whom", folder)
		}
	}
}

// checkColumns wants lines that a screen shows whole, but for what raw literals quote: tags of fields, JSON, Python.
func checkColumns(t *testing.T, positions *token.FileSet, path string, file *ast.File, source []byte) {
	quoted := map[int]bool{} // lines
	ast.Inspect(file, func(node ast.Node) bool {
		if literal, ok := node.(*ast.BasicLit); ok && strings.HasPrefix(literal.Value, "`") {
			for line := positions.Position(literal.Pos()).Line; line <= positions.Position(literal.End()).Line; line++ {
				quoted[line] = true
			}
		}
		return true
	})
	number := 0
	for line := range strings.Lines(string(source)) {
		number++
		columns := utf8.RuneCountInString(strings.TrimRight(line, "\n")) + (tabColumns-1)*strings.Count(line, "\t")
		if columns > maxColumns && !quoted[number] {
			t.Errorf("%s:%d has %d columns, the limit is %d: break it where its parts part", path, number, columns, maxColumns)
		}
	}
}

func checkFunctions(t *testing.T, positions *token.FileSet, path string, file *ast.File) {
	for _, declaration := range file.Decls {
		function, ok := declaration.(*ast.FuncDecl)
		if !ok {
			continue
		}
		lines := positions.Position(function.End()).Line - positions.Position(function.Pos()).Line + 1
		limit := maxFunctionLines
		if path == "launcher/main.go" && function.Name.Name == "main" {
			limit = 50
		}
		if lines > limit && longFunctions[path+":"+function.Name.Name] == "" {
			t.Errorf("%s: %s has %d lines, the limit is %d: what does not fit a screen is not checked by eye; split it, or add it to "+
				"longFunctions with a reason", path, function.Name.Name, lines, limit)
		}
	}
}

// cores decide and do nothing else (law 2).
var cores = []string{"router/admission", "router/calls", "router/fleet/core", "shard/schedule", "shard/outbox", "shard/sample",
	"launcher/supervise"}

// coreImports are what cores may import beside each other: nothing of it reaches outside, but the clock of time, which is looked
// for below.
var coreImports = []string{"bytes", "cmp", "encoding/json", "errors", "fmt", "maps", "math", "math/bits", "slices", "sort", "strconv",
	"strings", "time", "unicode", "unicode/utf8", "lockstep/protocol", "lockstep/protocol/guide", "lockstep/router/request"}

// A core starts no goroutine, looks at no clock, draws nothing by itself and reaches nothing outside, so that a script in
// virtual time sees all that it does.
func TestCoresAreCores(t *testing.T) {
	for _, path := range goFiles(t) {
		if !slices.Contains(cores, filepath.Dir(path)) || strings.HasSuffix(path, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		clock := "" // what the file calls package time
		for _, imported := range file.Imports {
			name := strings.Trim(imported.Path.Value, `"`)
			if !slices.Contains(coreImports, name) && !slices.Contains(cores, strings.TrimPrefix(name, "lockstep/")) {
				t.Errorf("%s imports %s, which is not in coreImports", path, name)
			}
			if name == "time" {
				if clock = "time"; imported.Name != nil {
					clock = imported.Name.Name
				}
			}
		}
		ast.Inspect(file, func(node ast.Node) bool {
			switch node := node.(type) {
			case *ast.GoStmt:
				t.Errorf("%s starts a goroutine", path)
			case *ast.SelectorExpr:
				looks := []string{"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "NewTimer", "NewTicker", "Tick"}
				if from, ok := node.X.(*ast.Ident); ok && from.Name == clock && slices.Contains(looks, node.Sel.Name) {
					t.Errorf("%s looks at a clock: time.%s", path, node.Sel.Name)
				}
			}
			return true
		})
	}
}

// Every exception is still needed.
func TestExceptionsExist(t *testing.T) {
	for path := range longFiles {
		if _, err := os.Stat(path); err != nil {
			t.Errorf("longFiles: %v", err)
		}
	}
	for name := range longFunctions {
		path, _, _ := strings.Cut(name, ":")
		if _, err := os.Stat(path); err != nil {
			t.Errorf("longFunctions: %v", err)
		}
	}
}
