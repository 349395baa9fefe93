package backend_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/sluice-mqtt/sluice/backend"
)

// full has every field set.
func full() *backend.Message {
	return &backend.Message{
		Topic: "a/é", Payload: []byte{0, 1, 255}, Properties: []byte{0x26, 0, 1, 'k', 0, 1, 'v'}, Expires: 4102444800000,
		Publisher: "p", ID: backend.PublishID{Client: "c", Incarnation: 1<<64 - 1, PacketID: 65535, Generation: 1<<32 - 1}, QoS: 2, Retain: true,
	}
}

// envelopes are messages with their bytes: a change of the encoding that is
// not meant breaks what is already stored.
var envelopes = []struct {
	name    string
	message *backend.Message
	hex     string
}{
	{"least", &backend.Message{Topic: "t"}, "0100" + "01" + "74" + "00"},
	{"nothing at all", &backend.Message{}, "0100" + "00" + "00"},
	{"QoS 1, retained", &backend.Message{Topic: "t", Payload: []byte("p"), QoS: 1, Retain: true}, "0105" + "01" + "74" + "0170"},
	{"publisher", &backend.Message{Topic: "t", Publisher: "é"}, "0110" + "0102" + "74c3a9" + "00"},
	{"expires", &backend.Message{Topic: "t", Expires: 64}, "0108" + "0174" + "8001" + "00"},
	{"expired long ago", &backend.Message{Topic: "t", Expires: -1}, "0108" + "0174" + "01" + "00"},
	{"own identity", &backend.Message{Topic: "t", Publisher: "p", QoS: 2, ID: backend.PublishID{Client: "p", Incarnation: 1, PacketID: 2, Generation: 3}}, "0172" + "0101" + "7470" + "010203" + "00"},
	{"identity of another", &backend.Message{Topic: "t", QoS: 2, ID: backend.PublishID{Client: "c", PacketID: 2}}, "0122" + "0101" + "7463" + "000200" + "00"},
	{"again", &backend.Message{Topic: "t", QoS: 2, Again: true, ID: backend.PublishID{Client: "c", PacketID: 2}}, "0222" + "0101" + "7463" + "000200" + "00"},
	{"all", full(), "01be" + "040101" + "612fc3a97063" + "80e09ecce5ee01" + "ffffffffffffffffff01" + "ffff03" + "ffffffff0f" + "07260001" + "6b000176" + "030001ff"},
}

func TestMessageEnvelope(t *testing.T) {
	for _, tt := range envelopes {
		t.Run(tt.name, func(t *testing.T) {
			b := backend.AppendMessage([]byte("before"), tt.message)
			if !bytes.HasPrefix(b, []byte("before")) {
				t.Fatalf("what was there is gone: %x", b)
			}
			b = b[len("before"):]
			if got := hex.EncodeToString(b); got != tt.hex {
				t.Fatalf("encoded as %s, want %s", got, tt.hex)
			}
			if over := len(b) - tt.message.Size(); over > backend.MaxMessageOverhead {
				t.Errorf("%d bytes added", over)
			}
			m, rest, err := backend.DecodeMessage(append(b, "after"...))
			if err != nil || string(rest) != "after" {
				t.Fatalf("DecodeMessage: rest %q, error %v", rest, err)
			}
			if !reflect.DeepEqual(m, tt.message) {
				t.Errorf("decoded %+v, want %+v", m, tt.message)
			}
			for n := range b {
				if _, _, err := backend.DecodeMessage(b[:n]); !errors.Is(err, backend.ErrMalformed) {
					t.Errorf("cut after %d bytes: %v, want ErrMalformed", n, err)
				}
			}
			b[0] = 3
			if _, _, err := backend.DecodeMessage(b); !errors.Is(err, backend.ErrVersion) {
				t.Errorf("next version: %v, want ErrVersion", err)
			}
		})
	}
}

// notices have each kind and field.
var notices = []backend.Notice{
	{},
	{Kind: backend.NoticeTakeover, Client: "c", Epoch: 1<<64 - 1},
	{Kind: backend.NoticeKick, Client: "c", Code: 0x98},
	{Kind: backend.NoticeMail, Client: "c", Epoch: 1, Entry: backend.Entry{
		Seq: 1<<64 - 1, Message: full(), QoS: 2, Retain: true, State: backend.Done, SubscriptionIDs: []uint32{1, 268435455, 1<<32 - 1}, Share: "$share/g/#",
	}},
	{Kind: backend.NoticeDeliver, Client: "c", Entry: backend.Entry{Message: &backend.Message{Topic: "t"}, QoS: 1, State: backend.Released}},
	{Kind: backend.NoticeDeliver, Entry: backend.Entry{Message: &backend.Message{}}},
	{Kind: 200},
}

func TestNoticeEnvelope(t *testing.T) {
	for _, want := range notices {
		b := backend.AppendNotice(nil, &want)
		for n := range b {
			if _, _, err := backend.DecodeNotice(b[:n]); !errors.Is(err, backend.ErrMalformed) {
				t.Errorf("kind %d cut after %d bytes: %v, want ErrMalformed", want.Kind, n, err)
			}
		}
		got, rest, err := backend.DecodeNotice(append(b, 7))
		if err != nil || len(rest) != 1 || !reflect.DeepEqual(got, want) {
			t.Errorf("decoded %+v, rest %x, error %v; want %+v", got, rest, err, want)
		}
		e, rest, err := backend.DecodeEntry(append(backend.AppendEntry(nil, &want.Entry), 7))
		if err != nil || len(rest) != 1 || !reflect.DeepEqual(e, want.Entry) {
			t.Errorf("decoded entry %+v, rest %x, error %v; want %+v", e, rest, err, want.Entry)
		}
	}
}

func TestMalformedEnvelopes(t *testing.T) {
	tests := []struct {
		name, hex string
		want      error
	}{
		{"empty", "", backend.ErrMalformed},
		{"version 0", "00", backend.ErrVersion},
		{"version 255", "ffffff", backend.ErrVersion},
		{"QoS 3", "01030000", backend.ErrMalformed},
		{"own identity without one", "014000" + "00", backend.ErrMalformed},
		{"topic longer than all", "0100ffffffffffffffffff01", backend.ErrMalformed},
		{"length of eleven bytes", "0100ffffffffffffffffffff01", backend.ErrMalformed},
		{"strings longer together", "01100202" + "747474", backend.ErrMalformed},
		{"payload longer than all", "0100017405", backend.ErrMalformed},
		{"packet identifier of 65,536", "0122" + "0000" + "00808004" + "0000", backend.ErrMalformed},
	}
	for _, tt := range tests {
		b, err := hex.DecodeString(tt.hex)
		if err != nil {
			t.Fatal(err)
		}
		if m, _, err := backend.DecodeMessage(b); !errors.Is(err, tt.want) || m != nil {
			t.Errorf("%s: %+v, %v; want %v", tt.name, m, err, tt.want)
		}
	}
	// A count of identifiers takes no memory before they are there.
	if _, _, err := backend.DecodeEntry([]byte{1, 0x20, 0, 0xff, 0xff, 0xff, 0xff, 0x0f}); !errors.Is(err, backend.ErrMalformed) {
		t.Errorf("identifiers that are not there: %v", err)
	}
	if _, _, err := backend.DecodeEntry([]byte{1, 0xc0, 0}); !errors.Is(err, backend.ErrMalformed) {
		t.Errorf("state 3: %v", err)
	}
}

func TestEnvelopeOverhead(t *testing.T) {
	long := strings.Repeat("c", 65535)
	n := &backend.Notice{Kind: backend.NoticeMail, Client: backend.ClientID(long), Epoch: 1<<64 - 1, Entry: backend.Entry{
		Seq: 1<<64 - 1, Message: full(), SubscriptionIDs: make([]uint32, 1000), Share: long,
	}}
	for i := range n.Entry.SubscriptionIDs {
		n.Entry.SubscriptionIDs[i] = 1<<32 - 1
	}
	m := n.Entry.Message
	m.Topic, m.Payload, m.Publisher, m.ID.Client = long, make([]byte, 1<<22), backend.ClientID(long), backend.ClientID(long[1:]+"d")
	if got := len(backend.AppendMessage(nil, m)) - m.Size(); got > backend.MaxMessageOverhead {
		t.Errorf("a message grows by %d bytes, more than %d", got, backend.MaxMessageOverhead)
	}
	if got := len(backend.AppendNotice(nil, n)) - m.Size(); got > backend.MaxNoticeOverhead {
		t.Errorf("a notice grows by %d bytes, more than %d", got, backend.MaxNoticeOverhead)
	}
}

// FuzzEnvelope: what decodes can be encoded again and is the same then, and no
// bytes make a decoder panic.
func FuzzEnvelope(f *testing.F) {
	for _, tt := range envelopes {
		f.Add(backend.AppendMessage(nil, tt.message))
	}
	for _, n := range notices {
		f.Add(backend.AppendNotice(nil, &n))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if m, rest, err := backend.DecodeMessage(b); err == nil {
			if m.Size() > len(b)-len(rest) {
				t.Fatalf("%d bytes made of %d", m.Size(), len(b)-len(rest))
			}
			again, rest, err := backend.DecodeMessage(backend.AppendMessage(nil, m))
			if err != nil || len(rest) != 0 || !reflect.DeepEqual(again, m) {
				t.Fatalf("%+v is %+v the second time, rest %x, error %v", m, again, rest, err)
			}
		}
		if n, _, err := backend.DecodeNotice(b); err == nil {
			again, rest, err := backend.DecodeNotice(backend.AppendNotice(nil, &n))
			if err != nil || len(rest) != 0 || !reflect.DeepEqual(again, n) {
				t.Fatalf("%+v is %+v the second time, rest %x, error %v", n, again, rest, err)
			}
		}
	})
}

func BenchmarkEnvelope(b *testing.B) {
	m := full()
	m.Payload = make([]byte, 200)
	buf := backend.AppendMessage(nil, m)
	b.Run("append", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			buf = backend.AppendMessage(buf[:0], m)
		}
	})
	b.Run("decode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, _, err := backend.DecodeMessage(buf); err != nil {
				b.Fatal(err)
			}
		}
	})
}
