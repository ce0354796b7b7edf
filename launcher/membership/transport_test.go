package membership_test

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"runtime"
	"testing"
	"time"
)

// Strangers who open streams and send much have a bound, together and each, and members meet beside them.
func TestStreamsOfStrangersAreBounded(t *testing.T) {
	port := freePort(t, "127.0.0.11")
	first := open(t, "first", "127.0.0.11", port)
	defer first.Close()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	length := 19 << 20
	head := append([]byte{244, 8}, "lockstep"...) // a label, and an encrypted message of so many bytes
	head = binary.BigEndian.AppendUint32(append(head, 10), uint32(length))
	closed := make(chan error, 64)
	for i := range 64 {
		dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(i/8))}}
		conn, err := dialer.Dial("tcp", fmt.Sprintf("127.0.0.11:%d", port))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		go func() {
			conn.SetDeadline(time.Now().Add(20 * time.Second))
			conn.Write(head)
			piece := make([]byte, 64<<10)
			for sent := 0; sent < length; sent += len(piece) {
				if _, err := conn.Write(piece); err != nil {
					break
				}
			}
			_, err := io.ReadAll(conn)
			closed <- err
		}()
	}
	second := open(t, "second", "127.0.0.12", port, fmt.Sprintf("127.0.0.11:%d", port))
	defer second.Close()
	eventually(t, "members meet", func() bool { _, ok := first.sees("second"); return ok })
	for range 64 {
		if err, ok := (<-closed).(net.Error); ok && err.Timeout() {
			t.Error("a stream that is too long stays open")
		}
	}
	runtime.ReadMemStats(&after)
	if got := (after.TotalAlloc - before.TotalAlloc) >> 20; got > 1000 { // without bounds it is several times as much
		t.Errorf("%d MiB were taken for strangers", got)
	}
}
