//go:build cuda && linux

package driver_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"lockstep/shard/gpu"
	"lockstep/shard/gpu/driver"
	"lockstep/shard/gpu/driver/drivertest"
)

// imitate scripts an imitation of the driver, by pairs NAME=VALUE without CUDA_FAKE_, and returns how to see what it was told.
func imitate(t *testing.T, script ...string) (library string, log func() string) {
	t.Helper()
	library, path := drivertest.Library(t), filepath.Join(t.TempDir(), "log")
	t.Setenv("CUDA_FAKE_LOG", path)
	for _, pair := range script {
		name, value, _ := strings.Cut(pair, "=")
		t.Setenv("CUDA_FAKE_"+name, value)
	}
	return library, func() string {
		text, _ := os.ReadFile(path)
		return string(text)
	}
}

func uuid(index int) string {
	digits := fmt.Sprintf("%02x", 0x10+index)
	repeat := func(n int) string { return strings.Repeat(digits, n) }
	return "GPU-" + strings.Join([]string{repeat(4), repeat(2), repeat(2), repeat(2), repeat(6)}, "-")
}

func openFirst(t *testing.T, library string) gpu.Device {
	t.Helper()
	device, err := driver.Open(driver.Options{Library: library, UUID: uuid(0)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { device.Close() })
	return device
}

func TestCards(t *testing.T) {
	library, log := imitate(t, "CARDS=One:9.0:2048:0;Two:8.6:1024:0")
	cards, err := driver.Cards(library)
	want := []driver.Card{{Index: 0, Name: "One", UUID: uuid(0), Memory: 2 << 30, Major: 9},
		{Index: 1, Name: "Two", UUID: uuid(1), Memory: 1 << 30, Major: 8, Minor: 6}}
	if err != nil || fmt.Sprint(cards) != fmt.Sprint(want) || cards[0] != want[0] || cards[1] != want[1] {
		t.Errorf("got %+v, %v", cards, err)
	}
	if strings.Contains(log(), "context") {
		t.Errorf("listing takes a context: %s", log())
	}
}

func TestVisibleDevicesAreHonoured(t *testing.T) {
	library, _ := imitate(t, "CARDS=One:9.0:2048:0;Two:9.0:1024:0")
	t.Setenv("CUDA_VISIBLE_DEVICES", uuid(1))
	cards, err := driver.Cards(library)
	if err != nil || len(cards) != 1 || cards[0].Name != "Two" || cards[0].Index != 0 {
		t.Errorf("got %+v, %v", cards, err)
	}
	if _, err := driver.Open(driver.Options{Library: library, UUID: uuid(0)}); err == nil ||
		!strings.Contains(err.Error(), "not there any more, or not for this process; the driver shows 0: Two") {
		t.Errorf("got %v", err)
	}
}

func TestDescribe(t *testing.T) {
	for capability, want := range map[string]gpu.Description{"9.0": {Class: "h", Capability: 90}, "12.0": {Class: "h", Capability: 120},
		"8.9": {Class: "a", Capability: 89}, "12.1": {Class: "h", Capability: 80}} { // the last runs what is for 8.0
		library, _ := imitate(t, "CARDS=One:"+capability+":2048:0")
		d := openFirst(t, library).Describe()
		if d.Name != "One" || d.Type != "cuda" || d.Class != want.Class || d.Capability != want.Capability || d.Processors != 132 ||
			d.Shared < 100_000 || !d.OwnMemory {
			t.Errorf("%s: got %+v", capability, d)
		}
	}
}

// A card gets the code that is for it; the imitation refuses cubins as a card does.
func TestModules(t *testing.T) {
	for capability, want := range map[string]string{"8.0": "sm_80", "8.6": "sm_86", "8.7": "ptx", "8.9": "sm_89", "9.0": "sm_90a",
		"10.0": "sm_100a", "10.3": "ptx", "12.0": "sm_120a", "12.1": "ptx"} {
		library, log := imitate(t, "CARDS=One:"+capability+":2048:0")
		openFirst(t, library)
		for line := range strings.Lines(log()) {
			if strings.HasPrefix(line, "module") && line != "module "+want+"\n" {
				t.Errorf("%s: got %s", capability, line)
			}
		}
		if strings.Count(log(), "module "+want) < 4 {
			t.Errorf("%s: got %s", capability, log())
		}
	}
}

// What goes up comes down, in pieces of all sizes, more than fit into the staging memory, while copies are done late.
func TestCopies(t *testing.T) {
	for _, busy := range []string{"0", "3"} {
		library, _ := imitate(t, "BUSY="+busy)
		device := openFirst(t, library)
		random := rand.New(rand.NewPCG(1, 2))
		data := make([]byte, 40<<20)
		for i := range data {
			data[i] = byte(random.Uint32())
		}
		at, err := device.Alloc(len(data))
		if err != nil {
			t.Fatal(err)
		}
		for from := 0; from < len(data); {
			n := min(1+random.IntN(1<<(3+random.IntN(22))), len(data)-from)
			piece := bytes.Clone(data[from:][:n])
			if err := device.Upload(at+gpu.Address(from), piece); err != nil {
				t.Fatal(err)
			}
			clear(piece)
			from += n
		}
		got := make([]byte, len(data))
		if err := device.Download(got, at); err != nil || !bytes.Equal(got, data) {
			t.Errorf("busy %s: what came down is not what went up (%v)", busy, err)
		}
		if err := device.Upload(at+1<<20, got[:len(data)]); err == nil {
			t.Error("an upload beyond the end of its memory succeeds")
		}
	}
}

// What is fetched is what was there, though it is overwritten before anybody waits for it.
func TestFetch(t *testing.T) {
	for _, busy := range []string{"0", "3"} {
		library, _ := imitate(t, "BUSY="+busy)
		device := openFirst(t, library).(gpu.Fetcher)
		at, err := device.Alloc(1 << 20)
		if err != nil {
			t.Fatal(err)
		}
		var got [5][2][]byte
		for i := range got {
			got[i] = [2][]byte{make([]byte, 1000), make([]byte, 4)}
			if err := errors.Join(device.Upload(at, bytes.Repeat([]byte{byte(i)}, 1<<20)),
				device.Fetch(gpu.Read{To: got[i][0], From: at}, gpu.Read{To: got[i][1], From: at + 5000})); err != nil {
				t.Fatal(err)
			}
			if i == 0 {
				continue
			}
			if err := device.Await(); err != nil {
				t.Fatal(err)
			}
			if got := slices.Concat(got[i-1][:]...); !bytes.Equal(got, bytes.Repeat([]byte{byte(i - 1)}, 1004)) {
				t.Errorf("busy %s, fetch %d: got %v", busy, i-1, got)
			}
		}
		if err := device.Fetch(); err != nil {
			t.Error(err)
		}
		if device.Fetch() == nil || device.Await() != nil || device.Fetch(gpu.Read{To: make([]byte, gpu.MaxFetch+1), From: at}) == nil {
			t.Error("a third fetch begins, or one of too much")
		}
	}
}

func TestLaunch(t *testing.T) {
	library, log := imitate(t)
	device := openFirst(t, library)
	launch := &gpu.Launch{Kernel: "clear", Grid: [3]int{2, 3, 4}, Threads: [3]int{256, 1, 1},
		Args: []any{gpu.Address(0x123456789abcdef0), gpu.Address(1), uint64(1) << 40, int32(-2)}}
	if err := device.Launch(launch); err != nil {
		t.Fatal(err)
	}
	launch.Shared = 100_000
	if err := device.Launch(launch); err != nil {
		t.Fatal(err)
	}
	finish := &gpu.Launch{Kernel: "finish", Grid: [3]int{1, 1, 1}, Threads: [3]int{32, 1, 1},
		Args: []any{gpu.Address(1), gpu.Address(2), gpu.Address(3), int32(4), int32(5), float32(1.5)}}
	if err := device.Launch(finish); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"launch clear grid 2,3,4 threads 256,1,1 shared 0: 123456789abcdef0 1 10000000000 fffffffe overlapping\n",
		"shared clear 100000\n", "shared 100000: 123456789abcdef0",
		"launch finish grid 1,1,1 threads 32,1,1 shared 0: 1 2 3 4 5 3fc00000 overlapping\n"} {
		if !strings.Contains(log(), want) {
			t.Errorf("%q is not in %s", want, log())
		}
	}
	for _, c := range []struct {
		change func(l *gpu.Launch)
		want   string
	}{
		{func(l *gpu.Launch) { l.Kernel = "nobody" }, "there is no kernel nobody"},
		{func(l *gpu.Launch) { l.Args = l.Args[1:] }, "launch of clear, [2 3 4] blocks of [256 1 1] threads: cuLaunchKernelEx"},
		{func(l *gpu.Launch) { l.Args = append(l.Args[:3:3], uint64(1)<<32) }, "CUDA_ERROR_INVALID_VALUE"},
		{func(l *gpu.Launch) { l.Args = append(l.Args[:3:3], 7) }, "argument 3 is a int"},
		{func(l *gpu.Launch) { l.Args = make([]any, 33) }, "33 arguments, at most 32"},
		{func(l *gpu.Launch) { l.Shared = 232448 }, "233472 bytes of shared memory, and a block of card 0 (Fake H100) has 232448"},
		{func(l *gpu.Launch) { l.Grid[1] = 1 << 16 }, "CUDA_ERROR_INVALID_VALUE"},
	} {
		l := *launch
		c.change(&l)
		if err := device.Launch(&l); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("got %v, want %q", err, c.want)
		}
	}
	if err := device.Launch(launch); err != nil {
		t.Errorf("after launches that were refused: %v", err)
	}
}

// Kernels begin before the last one has ended where their code waits for it, unless that is not wanted.
func TestOverlaps(t *testing.T) {
	for _, c := range []struct {
		capability      string
		serial, overlap bool
	}{{"8.6", false, false}, {"9.0", false, true}, {"9.0", true, false}, {"10.0", false, true}, {"12.1", false, false}} {
		library, log := imitate(t, "CARDS=One:"+c.capability+":64:0")
		device := openFirst(t, library)
		err := device.Launch(&gpu.Launch{Kernel: "clear", Grid: [3]int{1, 1, 1}, Threads: [3]int{256, 1, 1}, Serial: c.serial,
			Args: []any{gpu.Address(1), gpu.Address(1), uint64(0), int32(0)}})
		if err != nil || strings.Contains(log(), "overlapping") != c.overlap {
			t.Errorf("%+v: %v, %s", c, err, log())
		}
	}
}

// What is captured runs when it is replayed, as often as that is.
func TestGraphs(t *testing.T) {
	library, log := imitate(t)
	device := openFirst(t, library).(gpu.Grapher)
	at, err := device.Alloc(1 << 10)
	if err != nil {
		t.Fatal(err)
	}
	launch := &gpu.Launch{Kernel: "clear", Grid: [3]int{2, 1, 1}, Threads: [3]int{256, 1, 1}, Args: []any{at, at, uint64(0), int32(0)}}
	both := func() error { return errors.Join(device.Launch(launch), device.Launch(launch)) }
	graph, err := device.Capture(both)
	if err != nil {
		t.Fatal(err)
	}
	if got := log(); strings.Count(got, "captured\n") != 2 {
		t.Errorf("got %s", got)
	}
	for range 2 {
		if err := errors.Join(device.Upload(at, make([]byte, 4)), device.Replay(graph)); err != nil {
			t.Fatal(err)
		}
	}
	if err := device.Download(make([]byte, 4), at); err != nil || strings.Count(log(), "graph of 2\n") != 2 {
		t.Errorf("%v, %s", err, log())
	}
	for what, f := range map[string]func() error{
		"upload":   func() error { return device.Upload(at, make([]byte, 4)) },
		"download": func() error { return device.Download(make([]byte, 4), at) },
		"error":    func() error { return errEnough },
	} {
		if _, err := device.Capture(f); err == nil {
			t.Errorf("a graph of an %s is made", what)
		}
	}
	if err := both(); err != nil {
		t.Errorf("after graphs that were not made: %v", err)
	}
}

// A driver that cannot make graphs says so, and launches go on; a kernel that fails in a graph is told of.
func TestGraphsThatFail(t *testing.T) {
	for _, function := range []string{"cuStreamBeginCapture_v2", "cuStreamEndCapture", "cuGraphInstantiateWithFlags"} {
		library, _ := imitate(t, "FAIL="+function+":0:801")
		device := openFirst(t, library).(gpu.Grapher)
		launch := func() error {
			return device.Launch(&gpu.Launch{Kernel: "clear", Grid: [3]int{1, 1, 1}, Threads: [3]int{256, 1, 1},
				Args: []any{gpu.Address(1), gpu.Address(1), uint64(0), int32(0)}})
		}
		if _, err := device.Capture(launch); err == nil || !strings.Contains(err.Error(), function) {
			t.Errorf("%s fails: got %v", function, err)
		}
		if err := launch(); err != nil && function != "cuStreamEndCapture" {
			t.Errorf("%s fails: a launch behind it: %v", function, err)
		}
	}
	library, _ := imitate(t, "FAIL=kernel:1:700")
	device := openFirst(t, library).(gpu.Grapher)
	at, err := device.Alloc(16)
	if err != nil {
		t.Fatal(err)
	}
	launch := &gpu.Launch{Kernel: "clear", Grid: [3]int{1, 1, 1}, Threads: [3]int{256, 1, 1}, Args: []any{at, at, uint64(0), int32(0)}}
	graph, err := device.Capture(func() error { return errors.Join(device.Launch(launch), device.Launch(launch)) })
	if err == nil {
		err = device.Replay(graph)
	}
	if err != nil {
		t.Fatal(err)
	}
	err = device.Download(make([]byte, 16), at)
	if err == nil || !strings.Contains(err.Error(), "the last launch was a graph of 2 launches") {
		t.Errorf("got %v", err)
	}
}

// What a rank exports others open by its handle: in the same process it is the address, in another one it is CUDA's to open.
func TestPeers(t *testing.T) {
	library, _ := imitate(t, "CARDS=One:9.0:64:0")
	device := openFirst(t, library).(gpu.Peered)
	at, handle, err := device.Export(1 << 20)
	if err != nil {
		t.Fatal(err)
	}
	zero := make([]byte, 1<<20)
	zero[5] = 1
	if err := device.Download(zero, at); err != nil || bytes.ContainsFunc(zero, func(r rune) bool { return r != 0 }) {
		t.Errorf("exported memory is not zero, %v", err)
	}
	if got, err := device.Import(handle); err != nil || got != at {
		t.Errorf("in the same process: got %#x, %v, want %#x", got, err, at)
	}
	handle[0]++
	if _, err := device.Import(handle); err == nil || !strings.Contains(err.Error(), "card 0 (One) does not reach another rank's memory") {
		t.Errorf("of another process: got %v", err)
	}
	pages, err := unix.Mmap(-1, 0, 8192, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(pages)
	if got, err := device.Register(pages); err != nil || got == 0 {
		t.Errorf("pages: got %#x, %v", got, err)
	}
}

func TestMemory(t *testing.T) {
	library, log := imitate(t, "CARDS=Small:9.0:64:0")
	device := openFirst(t, library)
	at, err := device.Alloc(48 << 20)
	if err != nil {
		t.Fatal(err)
	}
	free, of, err := device.FreeBytes()
	if err != nil || free != 16<<20 || of != "card 0 (Small)" {
		t.Errorf("got %d of %s, %v", free, of, err)
	}
	_, err = device.Alloc(32 << 20)
	var lacking *driver.MemoryError
	if !errors.As(err, &lacking) || lacking.Bytes != 32<<20 || lacking.Free != 16<<20 ||
		err.Error() != "card 0 (Small) has no 0.03 GiB of memory left: 0.02 of 0.06 GiB are free" {
		t.Errorf("got %v", err)
	}
	device.Free(at)
	if _, err := device.Alloc(32 << 20); err != nil {
		t.Errorf("after Free: %v", err)
	}
	device.Close()
	if !strings.HasSuffix(log(), "context released\n") {
		t.Errorf("got %s", log())
	}
}

// Memory that somebody's end frees a moment later is waited for.
func TestAllocWaitsForTheDead(t *testing.T) {
	library, _ := imitate(t, "FAIL=cuMemAlloc_v2:0:2;cuMemAlloc_v2:1:2")
	if _, err := openFirst(t, library).Alloc(1 << 20); err != nil {
		t.Error(err)
	}
}

var errEnough = errors.New("enough")

func TestGiveUp(t *testing.T) {
	library, _ := imitate(t, "BUSY=1000000000")
	asked := 0
	device, err := driver.Open(driver.Options{Library: library, UUID: uuid(0), GiveUp: func() error {
		if asked++; asked > 100 {
			return errEnough
		}
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer device.Close()
	at, err := device.Alloc(16)
	if err != nil {
		t.Fatal(err)
	}
	if err := device.Download(make([]byte, 16), at); !errors.Is(err, errEnough) {
		t.Errorf("got %v", err)
	}
}

// A kernel's failure is told with what was launched last, by every call from then on.
func TestDeadContext(t *testing.T) {
	library, _ := imitate(t, "FAIL=kernel:1:700")
	device := openFirst(t, library)
	at, err := device.Alloc(16)
	if err != nil {
		t.Fatal(err)
	}
	launch := &gpu.Launch{Kernel: "clear", Grid: [3]int{2, 1, 1}, Threads: [3]int{256, 1, 1}, Args: []any{at, at, uint64(0), int32(0)}}
	for range 2 {
		if err := device.Launch(launch); err != nil {
			t.Fatal(err)
		}
	}
	err = device.Download(make([]byte, 16), at)
	want := "card 0 (Fake H100) has failed: cuStreamQuery: CUDA_ERROR_ILLEGAL_ADDRESS (700), an illegal memory access was encountered; " +
		"the last launch was clear on a grid of [2 1 1]"
	if err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("got %v, want %s", err, want)
	}
	_, allocated := device.Alloc(16)
	for _, again := range []error{device.Launch(launch), device.Upload(at, make([]byte, 16)), allocated} {
		if !errors.Is(again, err) {
			t.Errorf("got %v, want the first error", again)
		}
	}
	if err := device.Close(); err != nil {
		t.Error(err)
	}
}

// Whatever is wrong with a driver or a card is one sentence that says what to do.
func TestSentences(t *testing.T) {
	for _, c := range []struct{ script, want string }{
		{"VERSION=11080", "the NVIDIA driver is too old (it is for CUDA 11.8): the kernels need one for CUDA 12.0 (525.60.13) or later"},
		{"FAIL=cuInit:0:100", "the NVIDIA driver shows no card: there is none, or CUDA_VISIBLE_DEVICES or the container hides it"},
		{"FAIL=cuInit:0:803", "are of two versions: restart the machine"},
		{"FAIL=cuInit:0:802", "nvidia-fabricmanager must run"},
		{"FAIL=cuInit:0:34", "a toolkit's stub and no driver"},
		{"FAIL=cuInit:0:999", "the NVIDIA driver does not start: cuInit: CUDA_ERROR_UNKNOWN (999), unknown error"},
		{"FAIL=cuDeviceGetName:0:999", "card 0 does not answer"},
		{"CARDS=Old:7.5:1024:0", "card 0 (Old) has compute capability 7.5, and the kernels need 8.0 or later"},
		{"CARDS=Shy:9.0:1024:2", "its compute mode is prohibited"},
		{"FAIL=cuDevicePrimaryCtxRetain:0:46", "card 0 (Fake H100) is busy: choose another with --devices"},
		{"CARDS=Own:9.0:1024:3 FAIL=cuDevicePrimaryCtxRetain:0:46", "card 0 (Own) is in use: its compute mode is exclusive"},
		{"FAIL=cuDevicePrimaryCtxRetain:0:2", "has not even the memory to begin"},
		{"FAIL=cuDevicePrimaryCtxRetain:0:999", "card 0 (Fake H100) does not answer"},
		{"FAIL=cuMemHostAlloc:0:2", "16 MiB of memory of the machine for copies"},
		{"FAIL=cuModuleLoadDataEx:0:209", "card 0 (Fake H100) does not take the kernels for adapters (sm_90a)"},
		{"CARDS=New:10.3:1024:0 VERSION=12080", "the NVIDIA driver is too old (card 0 (New) needs its kernels translated"},
	} {
		t.Run(c.script, func(t *testing.T) {
			library, _ := imitate(t, strings.Fields(strings.ReplaceAll(c.script, "Fake H100", "Fake_H100"))...)
			device, err := driver.Open(driver.Options{Library: library, UUID: uuid(0)})
			if err == nil {
				device.Close()
				t.Fatal("it opens")
			}
			if !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
	if _, err := driver.Cards("libcuda-of-nobody.so.1"); err == nil || !strings.Contains(err.Error(), "--cuda-library cannot be opened: ") {
		t.Errorf("got %v", err)
	}
}
