package nats

import (
	"bytes"
	"encoding/binary"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/sluice-mqtt/sluice/backend"
)

func TestHeader(t *testing.T) {
	const cluster = 0x01020304
	h := header{kind: kindNotice, cluster: cluster, sender: 1<<64 - 2, sequence: 1<<64 - 1}
	good := append(h.append(nil), "body"...)
	change := func(i int, c byte) []byte {
		b := bytes.Clone(good)
		b[i] = c
		return b
	}
	tests := []struct {
		name  string
		frame []byte
		want  error
	}{
		{"good", good, nil},
		{"empty", nil, backend.ErrMalformed},
		{"one byte", good[:1], backend.ErrMalformed},
		{"other first byte", change(0, 'x'), backend.ErrMalformed},
		{"next version", change(1, frameVersion+1), backend.ErrVersion},
		{"next version, shorter", []byte{magic, frameVersion + 1}, backend.ErrVersion},
		{"other cluster", change(3, 9), errForeign},
		{"cut in the sender", good[:10], backend.ErrMalformed},
		{"cut in the sequence", good[:fixedHeader+3], backend.ErrMalformed},
	}
	for _, tt := range tests {
		got, body, err := readHeader(tt.frame, cluster)
		if !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
		if err == nil && (got != h || string(body) != "body") {
			t.Errorf("%s: %+v %q, want %+v", tt.name, got, body, h)
		}
	}
	if n := len(good) - len("body"); n > maxHeader {
		t.Errorf("a header of %d bytes, more than %d", n, maxHeader)
	}
}

func TestWindow(t *testing.T) {
	tests := []struct {
		name      string
		sequences []uint64
		repeats   []int // places of those that are repeats
	}{
		{"each once", []uint64{1, 2, 3, 7, 100, 1000}, nil},
		{"each twice", []uint64{1, 1, 2, 2, 9, 9}, []int{1, 3, 5}},
		{"out of order", []uint64{5, 3, 4, 3, 5}, []int{3, 4}},
		{"the oldest that is known", []uint64{1, 64, 1}, []int{2}},
		{"too old to know", []uint64{1, 65, 1}, nil},
		{"a step over the window", []uint64{1, 66, 65, 2}, nil},
		{"the largest", []uint64{1<<64 - 1, 1<<64 - 1, 1<<64 - 2}, []int{1}},
		{"zero", []uint64{0, 1, 0}, []int{2}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var w window
			var got []int
			for i, s := range tt.sequences {
				if w.repeated(s) {
					got = append(got, i)
				}
			}
			if len(got) != len(tt.repeats) {
				t.Fatalf("repeats at %v, want %v", got, tt.repeats)
			}
			for i := range got {
				if got[i] != tt.repeats[i] {
					t.Fatalf("repeats at %v, want %v", got, tt.repeats)
				}
			}
		})
	}
}

// listener counts what it hears.
type listener struct{ messages, notices, gaps int }

func (l *listener) HandleMessage(*backend.Message) { l.messages++ }
func (l *listener) HandleNotice(backend.Notice)    { l.notices++ }
func (l *listener) HandleFlush()                   {}
func (l *listener) HandleGap(error)                { l.gaps++ }

// idle returns a Backend that is not started.
func idle(t testing.TB) *Backend {
	t.Helper()
	b, err := New(Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	b.node = "self"
	b.posts = newPosts(b)
	return b
}

// handOn calls l with all that waits.
func handOn(b *Backend, l *listener) {
	b.receiver.hand()
	for b.queue.count > 0 || b.queue.stalled > 0 {
		b.deliver.next(l)
	}
}

// FuzzReceive: no bytes on our subjects make a panic; each frame is handed on,
// or counted as what it is, or not for the handler.
func FuzzReceive(f *testing.F) {
	b := idle(f)
	frame := func(k kind, body []byte) []byte {
		return append(header{kind: k, cluster: b.out.cluster, sender: 7, sequence: 1}.append(nil), body...)
	}
	m := &backend.Message{Topic: "t", Payload: []byte("p"), Publisher: "c", QoS: 1}
	f.Add(frame(kindMessages, backend.AppendMessage([]byte{1}, m)))
	f.Add(frame(kindMessages, backend.AppendMessage(backend.AppendMessage([]byte{2}, m), m)))
	f.Add(frame(kindNotice, backend.AppendNotice(nil, &backend.Notice{Kind: backend.NoticeMail, Client: "c", Entry: backend.Entry{Message: m}})))
	f.Add(frame(kindLoss, binary.AppendUvarint(nil, 1<<63)))
	f.Add(frame(kindEcho, []byte{1, 1}))
	f.Add(frame(kindProbe, []byte{1}))
	f.Add(frame(200, nil))
	f.Add([]byte{magic, frameVersion + 1})
	f.Add([]byte("random bytes"))
	f.Fuzz(func(t *testing.T, frame []byte) {
		b := idle(t)
		if err := b.receiver.frame(frame); err != nil {
			b.foreign.refuse(err)
		}
		var l listener
		handOn(b, &l)
		s := b.Stats()
		refused := s.Malformed + s.UnknownVersion + s.Foreign
		if l.messages > 255 || l.notices > 1 || refused > 1 {
			t.Fatalf("%d messages and %d notices of one frame; %+v", l.messages, l.notices, s)
		}
		if int(s.MessagesIn) != l.messages+l.notices {
			t.Fatalf("%d counted, %d messages and %d notices heard", s.MessagesIn, l.messages, l.notices)
		}
		h, _, err := readHeader(frame, b.out.cluster)
		silent := err == nil && (h.kind == kindEcho || h.kind == kindLoss || h.sender == b.out.sender)
		if refused == 0 && l.messages == 0 && l.notices == 0 && !silent {
			t.Fatalf("a frame that is nothing was not counted; %+v", s)
		}
	})
}

// TestForeignIsToldOnceAMinute: each reason why frames are refused has a line of
// the log once a minute, however many there are (F27).
func TestForeignIsToldOnceAMinute(t *testing.T) {
	var lines bytes.Buffer
	f := foreign{log: slog.New(slog.NewTextHandler(&lines, nil)), told: make(map[error]time.Time)}
	for range 3 {
		f.refuse(backend.ErrVersion)
		f.refuse(backend.ErrMalformed)
		f.refuse(errForeign)
	}
	if n := bytes.Count(lines.Bytes(), []byte("\n")); n != 3 {
		t.Errorf("%d lines for three reasons: %s", n, lines.String())
	}
	f.told[backend.ErrVersion] = f.told[backend.ErrVersion].Add(-complaintEvery)
	f.refuse(backend.ErrVersion)
	if n := bytes.Count(lines.Bytes(), []byte("\n")); n != 4 {
		t.Errorf("%d lines a minute later, want one more", n)
	}
	if v, m, o := f.versions.Load(), f.malformed.Load(), f.otherNames.Load(); v != 4 || m != 3 || o != 3 {
		t.Errorf("counted %d, %d, %d; want 4, 3, 3", v, m, o)
	}
}
