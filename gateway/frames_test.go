package gateway

import (
	"bytes"
	"io"
	"net"
	"testing"
	"time"
)

// silentConn takes everything and answers nothing.
type silentConn struct {
	net.Conn
	wrote bytes.Buffer
}

func (s *silentConn) Write(p []byte) (int, error) { return s.wrote.Write(p) }
func (s *silentConn) Close() error                { return nil }

func (s *silentConn) SetWriteDeadline(time.Time) error { return nil }

// carried decodes wire in pieces of at most step bytes.
func carried(wire []byte, step int) (payload, answers []byte, err error) {
	var below silentConn
	c := &webSocketConn{Conn: &below}
	wire = bytes.Clone(wire)
	for len(wire) > 0 && err == nil {
		part := wire[:min(step, len(wire))]
		wire = wire[len(part):]
		var n int
		n, err = c.decode(part)
		payload = append(payload, part[:n]...)
	}
	return payload, below.wrote.Bytes(), err
}

// TestFrames: what frames carry is the same wherever reads cut them.
func TestFrames(t *testing.T) {
	long := bytes.Repeat([]byte("0123456789abc"), 10_000)
	tests := []struct {
		name             string
		wire             []byte
		payload, answers string
		err              error
	}{
		{"one", frame(frameBinary, []byte("hello")), "hello", "", nil},
		{"of nothing", frame(frameBinary, nil), "", "", nil},
		{"with 16 bits of length", frame(frameBinary, long[:126]), string(long[:126]), "", nil},
		{"with 64 bits of length", frame(frameBinary, long), string(long), "", nil},
		{"in parts, with a ping between", bytes.Join([][]byte{
			frame(frameOpen, []byte("he")), frame(framePing, []byte("p")), frame(frameContinue, []byte("ll")), frame(frameLast, []byte("o")),
		}, nil), "hello", "\x8a\x01p", nil},
		{"pong unasked", append(frame(framePong, []byte("p")), frame(frameBinary, []byte("x"))...), "x", "", nil},
		{"nothing after close", bytes.Join([][]byte{
			frame(frameBinary, []byte("x")), frame(frameClose, nil), frame(frameBinary, []byte("y")),
		}, nil), "x", "", io.EOF},
		{"close of an application", frame(frameClose, []byte("\x0f\xa0bye")), "", "", io.EOF},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, step := range []int{1, 2, 3, 7, 8, 9, 100, 1 << 20} {
				payload, answers, err := carried(tt.wire, step)
				if string(payload) != tt.payload || string(answers) != tt.answers || err != tt.err {
					t.Errorf("in steps of %d: %d bytes %.20q, answers %q, %v", step, len(payload), payload, answers, err)
				}
			}
		})
	}
}

// FuzzFrames: no bytes make it panic, give more than came, or depend on where
// reads cut them.
func FuzzFrames(f *testing.F) {
	f.Add(frame(frameBinary, []byte("hello")), byte(3))
	f.Add(append(frame(frameOpen, []byte("a")), frame(frameLast, []byte("b"))...), byte(1))
	f.Add(append(frame(framePing, []byte("ping")), frame(frameClose, []byte{3, 0xE8})...), byte(5))
	f.Add([]byte{frameBinary, 0xFF, 0x7F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 1, 2, 3, 4, 5}, byte(2))
	f.Fuzz(func(t *testing.T, wire []byte, step byte) {
		whole, answers, err := carried(wire, len(wire)+1)
		if len(whole) > len(wire) {
			t.Fatalf("%d bytes out of %d", len(whole), len(wire))
		}
		cut, cutAnswers, cutErr := carried(wire, int(step)+1)
		if !bytes.Equal(whole, cut) || !bytes.Equal(answers, cutAnswers) || (err == nil) != (cutErr == nil) {
			t.Errorf("%q, %q, %v in one piece; %q, %q, %v in steps of %d", whole, answers, err, cut, cutAnswers, cutErr, int(step)+1)
		}
	})
}
