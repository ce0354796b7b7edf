package main

import (
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

// documents are those with commands for users.
func documents(t *testing.T) map[string]string {
	t.Helper()
	texts := map[string]string{}
	for _, pattern := range []string{"../README.md", "../docs/*.md", "../docs/api/*.md"} {
		paths, err := filepath.Glob(pattern)
		if err != nil || len(paths) == 0 {
			t.Fatal(pattern, err)
		}
		for _, path := range paths {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			texts[path] = string(text)
		}
	}
	return texts
}

var (
	serverCommand = regexp.MustCompile(`(?m)^(?:bin/)?lockstep +(.*?)(?: +#.*| > .*)?$`)
	longFlag      = regexp.MustCompile(`[ \x60(]--([a-z][a-z0-9-]*[a-z0-9])(?:[^a-z0-9-]|$)`)
	makeTargets   = regexp.MustCompile(`\bmake ([a-z-]+(?: [a-z-]+)*)\x60|\bmake ([a-z-]+(?: [a-z-]+)*) &&|(?m)^make ([a-z-]+)`)
	adapterPath   = regexp.MustCompile(`=[^,]+`)
	scriptPath    = regexp.MustCompile(`\bscripts/[a-z_./-]+[a-z]`)
)

// Every command of ours that a document shows is understood: its flags exist and go together.
func TestDocumentedCommandsAreUnderstood(t *testing.T) {
	withoutEnvironment(t)
	model, adapter, secret := t.TempDir(), t.TempDir(), filepath.Join(t.TempDir(), "secret")
	for path, content := range map[string]string{filepath.Join(model, "config.json"): "{}",
		filepath.Join(adapter, "adapter_config.json"): "{}", secret: "sixteen characters\n"} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	seen := 0
	for path, text := range documents(t) {
		for _, match := range serverCommand.FindAllStringSubmatch(text, -1) {
			arguments := strings.Fields(match[1])
			for i, argument := range arguments {
				switch {
				case i > 0 && arguments[i-1] == "--model-id":
					arguments[i] = model
				case i > 0 && arguments[i-1] == "--lora-adapters":
					arguments[i] = adapterPath.ReplaceAllString(argument, "="+adapter)
				case strings.HasPrefix(argument, "@"):
					arguments[i] = "@" + secret
				}
			}
			seen++
			if _, err := parse(arguments, io.Discard); err != nil {
				t.Errorf("%s: lockstep %s: %v", path, match[1], err)
			}
		}
	}
	if seen < 8 {
		t.Errorf("found only %d commands", seen)
	}
}

// foreignFlags are those of other programs that documents name.
var foreignFlags = []string{"build", "nkey", "config", "signal"} // docker-compose's, nats's and nats-server's

// Every flag, make target and script that a document names exists.
func TestDocumentedNamesExist(t *testing.T) {
	var line commandLine
	parser, err := kong.New(&line, flagVars(), kong.Exit(func(int) {}))
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{"help": true}
	_ = kong.Visit(parser.Model, func(node kong.Visitable, next kong.Next) error {
		if flag, ok := node.(*kong.Flag); ok {
			known[flag.Name] = true
		}
		return next(nil)
	})
	makefile, err := os.ReadFile("../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	for path, text := range documents(t) {
		for _, match := range longFlag.FindAllStringSubmatch(text, -1) {
			if !known[match[1]] && !slices.Contains(foreignFlags, match[1]) {
				t.Errorf("%s: there is no flag --%s", path, match[1])
			}
		}
		for _, match := range makeTargets.FindAllStringSubmatch(text, -1) {
			for _, target := range strings.Fields(match[1] + match[2] + match[3]) {
				if !strings.Contains(string(makefile), "\n"+target+":") {
					t.Errorf("%s: make %s: there is no such target", path, target)
				}
			}
		}
		for _, script := range scriptPath.FindAllString(text, -1) {
			if _, err := os.Stat(filepath.Join("..", script)); err != nil {
				t.Errorf("%s: %v", path, err)
			}
		}
	}
}
