package main

import (
	"errors"
	"fmt"
	"strings"
	"unsafe"

	"github.com/ebitengine/purego"
)

// nvrtc are the functions of the compiler (https://docs.nvidia.com/cuda/nvrtc). A result that is not 0 is an error.
type nvrtc struct {
	version        func(major, minor *int32) int32
	errorString    func(result int32) string
	createProgram  func(program *uintptr, source, name string, headers int32, texts, names unsafe.Pointer) int32
	compileProgram func(program uintptr, count int32, options unsafe.Pointer) int32
	destroyProgram func(program *uintptr) int32
	logSize        func(program uintptr, size *uintptr) int32
	log            func(program uintptr, log *byte) int32
	ptxSize        func(program uintptr, size *uintptr) int32
	ptx            func(program uintptr, ptx *byte) int32
	cubinSize      func(program uintptr, size *uintptr) int32
	cubin          func(program uintptr, cubin *byte) int32
}

func open(library string) (*nvrtc, error) {
	handle, err := purego.Dlopen(library, purego.RTLD_NOW|purego.RTLD_LOCAL)
	if err != nil {
		return nil, err
	}
	n := &nvrtc{}
	for name, function := range map[string]any{"nvrtcVersion": &n.version, "nvrtcGetErrorString": &n.errorString,
		"nvrtcCreateProgram": &n.createProgram, "nvrtcCompileProgram": &n.compileProgram, "nvrtcDestroyProgram": &n.destroyProgram,
		"nvrtcGetProgramLogSize": &n.logSize, "nvrtcGetProgramLog": &n.log, "nvrtcGetPTXSize": &n.ptxSize, "nvrtcGetPTX": &n.ptx,
		"nvrtcGetCUBINSize": &n.cubinSize, "nvrtcGetCUBIN": &n.cubin} {
		purego.RegisterLibFunc(function, handle, name)
	}
	return n, nil
}

func (n *nvrtc) versionText() string {
	var major, minor int32
	n.version(&major, &minor)
	return fmt.Sprintf("%d.%d", major, minor)
}

func (n *nvrtc) check(result int32) error {
	if result == 0 {
		return nil
	}
	return errors.New(n.errorString(result))
}

// compile compiles a source, which may include headers by their names, for a target: PTX for compute_…, a cubin for sm_….
func (n *nvrtc) compile(name, source string, headers map[string]string, target string) ([]byte, error) {
	var program uintptr
	var texts, names []*byte
	for header, text := range headers {
		texts, names = append(texts, cText(text)), append(names, cText(header))
	}
	err := n.check(n.createProgram(&program, source, name, int32(len(names)), unsafe.Pointer(&texts[0]), unsafe.Pointer(&names[0])))
	if err != nil {
		return nil, err
	}
	defer n.destroyProgram(&program)
	var options []*byte
	for _, option := range []string{"--gpu-architecture=" + target, "--std=c++17", "--fmad=false", "--device-as-default-execution-space"} {
		options = append(options, cText(option))
	}
	if err := n.check(n.compileProgram(program, int32(len(options)), unsafe.Pointer(&options[0]))); err != nil {
		log, _ := n.get(program, n.logSize, n.log)
		return nil, fmt.Errorf("%w\n%s", err, strings.TrimRight(string(log), "\x00\n"))
	}
	if strings.HasPrefix(target, "sm_") {
		return n.get(program, n.cubinSize, n.cubin)
	}
	code, err := n.get(program, n.ptxSize, n.ptx)
	return []byte(strings.TrimRight(string(code), "\x00")), err
}

func (n *nvrtc) get(program uintptr, size func(uintptr, *uintptr) int32, get func(uintptr, *byte) int32) ([]byte, error) {
	var bytes uintptr
	if err := n.check(size(program, &bytes)); err != nil || bytes == 0 {
		return nil, err
	}
	data := make([]byte, bytes)
	return data, n.check(get(program, &data[0]))
}

func cText(text string) *byte { return &append([]byte(text), 0)[0] }
