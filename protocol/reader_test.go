package protocol

import (
	"bytes"
	"errors"
	"io"
	"reflect"
	"runtime"
	"testing"
	"testing/iotest"
)

// A stream of packets comes out as those packets, however it was cut.
func TestReaderStream(t *testing.T) {
	cuts := map[string]func(io.Reader) io.Reader{
		"whole":       func(r io.Reader) io.Reader { return r },
		"bytes":       iotest.OneByteReader,
		"halves":      iotest.HalfReader,
		"end at once": iotest.DataErrReader,
	}
	for name, cut := range cuts {
		for _, v := range []Version{V31, V311, V5} {
			t.Run(name+" "+v.String(), func(t *testing.T) {
				var stream []byte
				var want []Packet
				for _, r := range accepted {
					if r.v != v {
						continue
					}
					stream = append(stream, wire(t, r.wire)...)
					want = append(want, r.want)
				}
				rd := NewReader(cut(bytes.NewReader(stream)), 0)
				for _, w := range want {
					at := v
					if w.Type() == CONNECT {
						at = 0
					}
					got, err := rd.ReadPacket(at)
					if err != nil || !reflect.DeepEqual(got, w) {
						t.Fatalf("got %#v, %v\nwant %#v", got, err, w)
					}
				}
				if _, err := rd.ReadPacket(v); err != io.EOF {
					t.Errorf("at the end: %v, want io.EOF", err)
				}
			})
		}
	}
}

func TestReaderErrors(t *testing.T) {
	broken := errors.New("broken")
	long, err := (&Publish{Topic: []byte("a"), Payload: make([]byte, 3*firstBody)}).Append(nil, V5)
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		r    io.Reader
		want error
	}{
		{"nothing", bytes.NewReader(nil), io.EOF},
		{"ends behind the first byte", bytes.NewReader([]byte{0x30}), io.ErrUnexpectedEOF},
		{"ends in the header", bytes.NewReader([]byte{0x30, 0x80}), io.ErrUnexpectedEOF},
		{"ends before the body", bytes.NewReader([]byte{0x30, 5}), io.ErrUnexpectedEOF},
		{"ends in the body", bytes.NewReader([]byte{0x30, 5, 0}), io.ErrUnexpectedEOF},
		{"ends in a long body", bytes.NewReader(long[:len(long)-1]), io.ErrUnexpectedEOF},
		{"breaks in the header", io.MultiReader(bytes.NewReader(long[:1]), iotest.ErrReader(broken)), broken},
		{"breaks in a long body", io.MultiReader(bytes.NewReader(long[:2*firstBody]), iotest.ErrReader(broken)), broken},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if p, err := NewReader(tt.r, 0).ReadPacket(V5); err != tt.want {
				t.Errorf("%v, %v; want %v", p, err, tt.want)
			}
		})
	}
	for name, tt := range map[string]struct {
		wire string
		code ReasonCode
	}{
		"over the limit":  {`30 [ "a" 00 (100*78) ]`, PacketTooLarge},
		"not a packet":    {`00 00`, MalformedPacket},
		"malformed":       {`30 [ 0005 ]`, MalformedPacket},
		"protocol error":  {`82 [ 0001 [] ]`, ProtocolError},
		"under the limit": {`30 [ "a" 00 (94*78) ]`, Success},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := NewReader(bytes.NewReader(wire(t, tt.wire)), 100).ReadPacket(V5)
			if tt.code == Success {
				if err != nil {
					t.Fatal(err)
				}
			} else if err == nil || codeOf(t, err) != tt.code {
				t.Errorf("%v, want %v", err, tt.code)
			}
		})
	}
}

func TestReaderLongBody(t *testing.T) {
	want := &Publish{Topic: []byte("a"), Payload: bytes.Repeat([]byte("0123456789"), firstBody)}
	b, err := want.Append(nil, V311)
	if err != nil {
		t.Fatal(err)
	}
	got, err := NewReader(bytes.NewReader(b), uint32(len(b))).ReadPacket(V311)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("long packet came out changed: %v", err)
	}
}

// Memory follows the bytes that came, not the length that was declared.
func TestReaderMemory(t *testing.T) {
	stream := append([]byte{0x10, 0xFF, 0xFF, 0xFF, 0x7F}, make([]byte, 1024)...)
	before := allocated()
	for range 100 {
		if _, err := NewReader(bytes.NewReader(stream), 0).ReadPacket(0); err != io.ErrUnexpectedEOF {
			t.Fatal(err)
		}
	}
	if each := (allocated() - before) / 100; each > 4*firstBody {
		t.Errorf("%d bytes for a packet of which 1 KiB came", each)
	}
}

// allocated is how many bytes were allocated since the program started.
func allocated() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.TotalAlloc
}
