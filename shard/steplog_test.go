package shard

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"
)

// A log that cannot be written is told of once and is no trouble after that.
func TestStepLogThatCannotBeWritten(t *testing.T) {
	var out bytes.Buffer
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := openStepLog(pipe, zerolog.Nop()); err == nil {
		t.Error("a pipe that nobody reads was opened")
	}
	reader, err := os.OpenFile(pipe, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	for _, path := range []string{"/dev/full", pipe} {
		out.Reset()
		log, err := openStepLog(path, zerolog.New(&out))
		if err != nil {
			t.Fatal(err)
		}
		for range 5000 { // more than a pipe holds
			log.write(StepRecord{Step: 1})
		}
		log.flush()
		log.close()
		if got := strings.Count(out.String(), "the server goes on"); got != 1 {
			t.Errorf("%s: told %d times: %s", path, got, out.String())
		}
	}
}
