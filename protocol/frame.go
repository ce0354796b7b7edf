package protocol

import (
	"encoding/binary"
	"fmt"
	"math"
)

// Finish says whether and why a request ended with this token.
type Finish uint8

const (
	FinishNone     Finish = iota
	FinishLength          // max_new_tokens reached, or no position left
	FinishEOS             // the model's end-of-sequence token
	FinishError           // the group gave the request up; Token is -1
	finishBoundary        // first value that a decoder refuses
)

// Frame is what one step of a group produced for one router, as columns: row i of every column belongs to Request[i].
//
// Bytes, little-endian:
//
//	 0  4  magic "LKSF"
//	 4  2  version
//	 6  2  length of the group's name
//	 8  8  incarnation
//	16  8  number: counts the frames of this incarnation to this router from 0; a gap is a loss
//	24  8  step of the group
//	32  4  tokens held   36 4 running   40 4 waiting (the group's load after the step)
//	44  4  n, rows       48 4 m, prompt parts   52 4 k, prompt log-probabilities
//	56     group's name, then padding to 8
//	     8n request   4n position   4n token   4n logprob   n finish, then padding to 8
//	     8m request   4m start      4m count   4k logprob
type Frame struct {
	Group  GroupRef
	Number uint64
	Step   uint64
	Load   Load

	Request  []uint64
	Position []uint32 // index of the token among the generated ones
	Token    []int32
	Logprob  []float32
	Finish   []Finish

	Prompt []PromptPart
}

// PromptPart carries log-probabilities of prompt tokens Start, Start+1, … of a request; the first prompt token has none,
// so Start is at least 1.
type PromptPart struct {
	Request uint64
	Start   uint32
	Logprob []float32
}

const (
	frameMagic       = "LKSF"
	frameHeaderBytes = 56
	rowBytes         = 8 + 4 + 4 + 4 + 1
	partBytes        = 16
)

// Reset empties the frame's rows and keeps their storage.
func (f *Frame) Reset() {
	f.Request, f.Position, f.Token = f.Request[:0], f.Position[:0], f.Token[:0]
	f.Logprob, f.Finish, f.Prompt = f.Logprob[:0], f.Finish[:0], f.Prompt[:0]
}

// Add appends one row.
func (f *Frame) Add(request uint64, position int, token int32, logprob float32, finish Finish) {
	f.Request = append(f.Request, request)
	f.Position = append(f.Position, uint32(position))
	f.Token = append(f.Token, token)
	f.Logprob = append(f.Logprob, logprob)
	f.Finish = append(f.Finish, finish)
}

func padded(n int) int { return (n + 7) &^ 7 }

// AppendTo appends the frame's bytes to dst.
func (f *Frame) AppendTo(dst []byte) []byte {
	base := len(dst)
	le := binary.LittleEndian
	logprobs := 0
	for _, part := range f.Prompt {
		logprobs += len(part.Logprob)
	}
	dst = append(dst, frameMagic...)
	dst = le.AppendUint16(dst, Version)
	dst = le.AppendUint16(dst, uint16(len(f.Group.Group)))
	dst = le.AppendUint64(dst, f.Group.Incarnation)
	dst = le.AppendUint64(dst, f.Number)
	dst = le.AppendUint64(dst, f.Step)
	for _, count := range []int{f.Load.HeldTokens, f.Load.Running, f.Load.Waiting, len(f.Request), len(f.Prompt), logprobs} {
		dst = le.AppendUint32(dst, uint32(count))
	}
	pad := func() {
		for (len(dst)-base)%8 != 0 {
			dst = append(dst, 0)
		}
	}
	dst = append(dst, f.Group.Group...)
	pad()
	for _, v := range f.Request {
		dst = le.AppendUint64(dst, v)
	}
	for _, v := range f.Position {
		dst = le.AppendUint32(dst, v)
	}
	for _, v := range f.Token {
		dst = le.AppendUint32(dst, uint32(v))
	}
	for _, v := range f.Logprob {
		dst = le.AppendUint32(dst, math.Float32bits(v))
	}
	for _, v := range f.Finish {
		dst = append(dst, byte(v))
	}
	pad()
	for _, part := range f.Prompt {
		dst = le.AppendUint64(dst, part.Request)
	}
	for _, part := range f.Prompt {
		dst = le.AppendUint32(dst, part.Start)
	}
	for _, part := range f.Prompt {
		dst = le.AppendUint32(dst, uint32(len(part.Logprob)))
	}
	for _, part := range f.Prompt {
		for _, v := range part.Logprob {
			dst = le.AppendUint32(dst, math.Float32bits(v))
		}
	}
	return dst
}

// DecodeFrame reads a frame from data into f, reusing f's storage; nothing of f points into data afterwards. Every
// length is checked against data and the limits before anything is allocated. Errors wrap ErrFrame.
func DecodeFrame(f *Frame, data []byte) error {
	fail := func(format string, args ...any) error {
		return fmt.Errorf("%w: %s", ErrFrame, fmt.Sprintf(format, args...))
	}
	if len(data) < frameHeaderBytes || string(data[:4]) != frameMagic {
		return fail("no header")
	}
	le := binary.LittleEndian
	if version := le.Uint16(data[4:]); version != Version {
		return fail("version %d, want %d", version, Version)
	}
	nameBytes := int(le.Uint16(data[6:]))
	count := func(offset int) int { return int(le.Uint32(data[offset:])) }
	n, m, k := count(44), count(48), count(52)
	if n > MaxFrameTokens || m > MaxFrameTokens || k > MaxFramePromptLogprobs {
		return fail("%d rows, %d parts, %d log-probabilities exceed the limits", n, m, k)
	}
	rows := padded(frameHeaderBytes + nameBytes)
	parts := rows + padded(n*rowBytes)
	if want := parts + m*partBytes + 4*k; len(data) != want {
		return fail("%d bytes, want %d", len(data), want)
	}
	f.Reset()
	name := data[frameHeaderBytes : frameHeaderBytes+nameBytes]
	if f.Group.Group != string(name) {
		if !ValidToken(string(name)) {
			return fail("bad group name")
		}
		f.Group.Group = string(name)
	}
	f.Group.Incarnation = le.Uint64(data[8:])
	f.Number, f.Step = le.Uint64(data[16:]), le.Uint64(data[24:])
	f.Load = Load{HeldTokens: count(32), Running: count(36), Waiting: count(40)}

	columns := data[rows:]
	for i := range n {
		finish := Finish(columns[20*n+i])
		if finish >= finishBoundary {
			return fail("finish code %d", finish)
		}
		f.Request = append(f.Request, le.Uint64(columns[8*i:]))
		f.Position = append(f.Position, le.Uint32(columns[8*n+4*i:]))
		f.Token = append(f.Token, int32(le.Uint32(columns[12*n+4*i:])))
		f.Logprob = append(f.Logprob, math.Float32frombits(le.Uint32(columns[16*n+4*i:])))
		f.Finish = append(f.Finish, finish)
	}
	return decodePromptParts(f, data[parts:], m, k)
}

func decodePromptParts(f *Frame, columns []byte, m, k int) error {
	le := binary.LittleEndian
	values := columns[m*partBytes:]
	used := 0
	for i := range m {
		length := int(le.Uint32(columns[12*m+4*i:]))
		if length > k-used {
			return fmt.Errorf("%w: prompt parts hold more than %d log-probabilities", ErrFrame, k)
		}
		part := PromptPart{Request: le.Uint64(columns[8*i:]), Start: le.Uint32(columns[8*m+4*i:]), Logprob: make([]float32, length)}
		for j := range part.Logprob {
			part.Logprob[j] = math.Float32frombits(le.Uint32(values[4*(used+j):]))
		}
		used += length
		f.Prompt = append(f.Prompt, part)
	}
	if used != k {
		return fmt.Errorf("%w: prompt parts hold %d log-probabilities, header says %d", ErrFrame, used, k)
	}
	return nil
}
