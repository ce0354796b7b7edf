package protocol

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
)

// Finish says whether and why a request ended with this token.
type Finish uint8

const (
	FinishNone     Finish = iota
	FinishLength          // max_new_tokens reached, or no position left
	FinishEOS             // the model's end-of-sequence token
	FinishError           // the group gave the request up; Token is -1
	FinishStop            // the generated tokens end with one of StopTokens
	FinishGuide           // the request's guide could not go on; Token is -1
	finishBoundary        // first value that a decoder refuses
)

// Frame is what one step of a group produced for one router, as columns: row i of every column belongs to Request[i].
//
// The row of a Score request carries the score where others have their token's log-probability.
//
// Bytes, little-endian:
//
//	 0  4  magic "LKSF"
//	 4  2  version
//	 6  2  length of the group's name
//	 8  8  incarnation
//	16  8  number: counts the frames of this incarnation to this router from 0; a gap is a loss
//	24  8  step of the group
//	32 20  the group's load after the step: tokens held, tokens cached, running, waiting, parked (4 each)
//	52  4  n, rows
//	56 16  the router's account: requests, tokens (4 each), cancels (8)
//	72 24  m, prompt parts; k, prompt log-probabilities; b, begun requests; a, alternatives; t, those of prompts; 0 (4 each)
//	96     group's name, then padding to 8
//	     8n request   4n position   4n token   4n logprob   n finish   n alternatives of the row, then padding to 8
//	     8m request   4m start      4m count   4k logprob   4t token   4t logprob   k alternatives, then padding to 8
//	     8b request   4b tokens     4b cached
//	     4a token     4a logprob
type Frame struct {
	Group  GroupRef
	Number uint64
	Step   uint64
	Load   Load
	// Account is what the group holds of this router behind the frame's rows.
	Account Account

	Request  []uint64
	Position []uint32 // index of the token among the generated ones
	Token    []int32
	Logprob  []float32
	Finish   []Finish
	// Alternatives is how many of TopToken and TopLogprob, which hold those of all rows in turn, belong to the row.
	Alternatives []uint8

	Prompt []PromptPart
	Begun  []Begun

	TopToken   []int32
	TopLogprob []float32
}

// Begun tells of a request that has begun to be computed, or does again after it was parked: how many tokens of it were
// known, and how many of them the prefix cache had.
type Begun struct {
	Request        uint64
	Tokens, Cached uint32
}

// PromptPart carries log-probabilities of prompt tokens Start, Start+1, … of a request; the first prompt token has none,
// so Start is at least 1.
type PromptPart struct {
	Request uint64
	Start   uint32
	Logprob []float32
	// Alternatives is, for each of Logprob, how many of TopToken and TopLogprob belong to it; nil when there are none.
	Alternatives []uint8
	TopToken     []int32
	TopLogprob   []float32
}

const (
	frameMagic       = "LKSF"
	frameHeaderBytes = 96
	rowBytes         = 8 + 4 + 4 + 4 + 1 + 1
	partBytes        = 16
	begunBytes       = 16
	alternativeBytes = 8
)

// Reset empties the frame's rows and keeps their storage.
func (f *Frame) Reset() {
	f.Request, f.Position, f.Token = f.Request[:0], f.Position[:0], f.Token[:0]
	f.Logprob, f.Finish, f.Prompt = f.Logprob[:0], f.Finish[:0], f.Prompt[:0]
	f.Alternatives, f.Begun, f.TopToken, f.TopLogprob = f.Alternatives[:0], f.Begun[:0], f.TopToken[:0], f.TopLogprob[:0]
}

// Add appends one row without alternatives.
func (f *Frame) Add(request uint64, position int, token int32, logprob float32, finish Finish) {
	f.Request = append(f.Request, request)
	f.Position = append(f.Position, uint32(position))
	f.Token = append(f.Token, token)
	f.Logprob = append(f.Logprob, logprob)
	f.Finish = append(f.Finish, finish)
	f.Alternatives = append(f.Alternatives, 0)
}

// AddAlternative appends an alternative of the last row; more than MaxTopLogprobs are left out.
func (f *Frame) AddAlternative(token int32, logprob float32) {
	if row := &f.Alternatives[len(f.Alternatives)-1]; *row < MaxTopLogprobs {
		*row++
		f.TopToken, f.TopLogprob = append(f.TopToken, token), append(f.TopLogprob, logprob)
	}
}

func padded(n int) int { return (n + 7) &^ 7 }

// AppendTo appends the frame's bytes to dst.
func (f *Frame) AppendTo(dst []byte) []byte {
	base := len(dst)
	le := binary.LittleEndian
	logprobs, promptTop := 0, 0
	for _, part := range f.Prompt {
		logprobs, promptTop = logprobs+len(part.Logprob), promptTop+len(part.TopToken)
	}
	dst = append(dst, frameMagic...)
	dst = le.AppendUint16(dst, Version)
	dst = le.AppendUint16(dst, uint16(len(f.Group.Group)))
	dst = le.AppendUint64(dst, f.Group.Incarnation)
	dst = le.AppendUint64(dst, f.Number)
	dst = le.AppendUint64(dst, f.Step)
	counts := func(values ...int) {
		for _, value := range values {
			dst = le.AppendUint32(dst, uint32(value))
		}
	}
	counts(f.Load.HeldTokens, f.Load.CachedTokens, f.Load.Running, f.Load.Waiting, f.Load.Parked, len(f.Request), f.Account.Requests,
		f.Account.Tokens)
	dst = le.AppendUint64(dst, f.Account.Cancels)
	counts(len(f.Prompt), logprobs, len(f.Begun), len(f.TopToken), promptTop, 0)
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
	dst = appendColumn(dst, f.Position)
	dst = appendColumn(dst, f.Token)
	dst = appendFloats(dst, f.Logprob)
	for _, v := range f.Finish {
		dst = append(dst, byte(v))
	}
	dst = append(dst, f.Alternatives...)
	pad()
	dst = appendPromptParts(dst, f.Prompt)
	pad()
	for _, b := range f.Begun {
		dst = le.AppendUint64(dst, b.Request)
	}
	for _, b := range f.Begun {
		dst = le.AppendUint32(dst, b.Tokens)
	}
	for _, b := range f.Begun {
		dst = le.AppendUint32(dst, b.Cached)
	}
	dst = appendColumn(dst, f.TopToken)
	return appendFloats(dst, f.TopLogprob)
}

func appendColumn[T int32 | uint32](dst []byte, values []T) []byte {
	for _, v := range values {
		dst = binary.LittleEndian.AppendUint32(dst, uint32(v))
	}
	return dst
}

func appendFloats(dst []byte, values []float32) []byte {
	for _, v := range values {
		dst = binary.LittleEndian.AppendUint32(dst, math.Float32bits(v))
	}
	return dst
}

func appendPromptParts(dst []byte, parts []PromptPart) []byte {
	le := binary.LittleEndian
	for _, part := range parts {
		dst = le.AppendUint64(dst, part.Request)
	}
	for _, part := range parts {
		dst = le.AppendUint32(dst, part.Start)
	}
	for _, part := range parts {
		dst = le.AppendUint32(dst, uint32(len(part.Logprob)))
	}
	for _, part := range parts {
		dst = appendFloats(dst, part.Logprob)
	}
	for _, part := range parts {
		dst = appendColumn(dst, part.TopToken)
	}
	for _, part := range parts {
		dst = appendFloats(dst, part.TopLogprob)
	}
	for _, part := range parts {
		if dst = append(dst, part.Alternatives...); part.Alternatives == nil {
			dst = append(dst, make([]byte, len(part.Logprob))...)
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
	n, m, k, b, a, t := count(52), count(72), count(76), count(80), count(84), count(88)
	if n > MaxFrameTokens || m > MaxFrameTokens || k > MaxFramePromptLogprobs || b > MaxFrameTokens || a > MaxFrameAlternatives ||
		t > MaxFrameAlternatives {
		return fail("%d rows, %d parts, %d log-probabilities, %d begun, %d and %d alternatives exceed the limits", n, m, k, b, a, t)
	}
	rows := padded(frameHeaderBytes + nameBytes)
	parts := rows + padded(n*rowBytes)
	begun := parts + padded(m*partBytes+5*k+alternativeBytes*t)
	alternatives := begun + b*begunBytes
	if want := alternatives + a*alternativeBytes; len(data) != want {
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
	f.Load = Load{HeldTokens: count(32), CachedTokens: count(36), Running: count(40), Waiting: count(44), Parked: count(48)}
	f.Account = Account{Requests: count(56), Tokens: count(60), Cancels: le.Uint64(data[64:])}
	if err := decodeRows(f, data[rows:], n, a); err != nil {
		return err
	}
	for i := range b {
		columns := data[begun:]
		f.Begun = append(f.Begun, Begun{Request: le.Uint64(columns[8*i:]), Tokens: le.Uint32(columns[8*b+4*i:]),
			Cached: le.Uint32(columns[12*b+4*i:])})
	}
	for i := range a {
		columns := data[alternatives:]
		f.TopToken = append(f.TopToken, int32(le.Uint32(columns[4*i:])))
		f.TopLogprob = append(f.TopLogprob, math.Float32frombits(le.Uint32(columns[4*a+4*i:])))
	}
	return decodePromptParts(f, data[parts:], m, k, t)
}

func decodeRows(f *Frame, columns []byte, n, alternatives int) error {
	le := binary.LittleEndian
	for i := range n {
		finish := Finish(columns[20*n+i])
		if finish >= finishBoundary {
			return fmt.Errorf("%w: finish code %d", ErrFrame, finish)
		}
		f.Request = append(f.Request, le.Uint64(columns[8*i:]))
		f.Position = append(f.Position, le.Uint32(columns[8*n+4*i:]))
		f.Token = append(f.Token, int32(le.Uint32(columns[12*n+4*i:])))
		f.Logprob = append(f.Logprob, math.Float32frombits(le.Uint32(columns[16*n+4*i:])))
		f.Finish = append(f.Finish, finish)
		f.Alternatives = append(f.Alternatives, columns[21*n+i])
		alternatives -= int(columns[21*n+i])
	}
	if alternatives != 0 {
		return fmt.Errorf("%w: the rows' alternatives are not as many as the header says", ErrFrame)
	}
	return nil
}

func decodePromptParts(f *Frame, columns []byte, m, k, t int) error {
	le := binary.LittleEndian
	values := columns[m*partBytes:]
	tokens, tops, counts := values[4*k:], values[4*(k+t):], values[4*(k+2*t):]
	used, usedTop := 0, 0
	for i := range m {
		length := int(le.Uint32(columns[12*m+4*i:]))
		if length > k-used {
			return fmt.Errorf("%w: prompt parts hold more than %d log-probabilities", ErrFrame, k)
		}
		part := PromptPart{Request: le.Uint64(columns[8*i:]), Start: le.Uint32(columns[8*m+4*i:]), Logprob: make([]float32, length)}
		top := 0
		for j := range part.Logprob {
			part.Logprob[j] = math.Float32frombits(le.Uint32(values[4*(used+j):]))
			top += int(counts[used+j])
		}
		if top > t-usedTop {
			return fmt.Errorf("%w: prompt parts hold more than %d alternatives", ErrFrame, t)
		}
		if top > 0 {
			part.Alternatives = slices.Clone(counts[used : used+length])
		}
		for j := usedTop; j < usedTop+top; j++ {
			part.TopToken = append(part.TopToken, int32(le.Uint32(tokens[4*j:])))
			part.TopLogprob = append(part.TopLogprob, math.Float32frombits(le.Uint32(tops[4*j:])))
		}
		used, usedTop = used+length, usedTop+top
		f.Prompt = append(f.Prompt, part)
	}
	if used != k || usedTop != t {
		return fmt.Errorf("%w: prompt parts hold %d log-probabilities and %d alternatives, header says %d and %d", ErrFrame, used, usedTop,
			k, t)
	}
	return nil
}
