package wire_test

import (
	"math"
	"net/netip"
	"strings"
	"testing"

	"lockstep/router/api/wire"
)

func TestClient(t *testing.T) {
	for given, want := range map[string]string{"10.0.0.1": "10.0.0.1", "::ffff:10.0.0.1": "10.0.0.1",
		"2001:db8:1:2:3:4:5:6": "2001:db8:1:2::", "::1": "::"} {
		if got := wire.Client(netip.MustParseAddr(given)).String(); got != want {
			t.Errorf("%s: got %s, want %s", given, got, want)
		}
	}
}

func TestFloats(t *testing.T) {
	for value, want := range map[float32]string{
		0: "0.0", 1: "1.0", -0.34: "-0.34", 1e-6: "0.000001", 1e-7: "1e-7", 1.5e-10: "1.5e-10", 1e12: "1000000000000.0",
		1e13: "1e13", 3.4e38: "3.4e38", 16777216: "16777216.0", float32(math.Inf(1)): "null", 0.1: "0.1",
	} {
		if got := string(wire.AppendFloat(nil, value)); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func TestTexts(t *testing.T) {
	in := "a\"\\\b\f\n\r\t\x00\x1f\x7fé😀</script>"
	want := `"a\"\\\b\f\n\r\t\u0000\u001f` + "\x7fé😀</script>\""
	if got := string(wire.AppendText(nil, in)); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestQuoted(t *testing.T) {
	if got, want := wire.Quoted(strings.Repeat("x", 99)+"é"), strings.Repeat("x", 99)+"…"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
