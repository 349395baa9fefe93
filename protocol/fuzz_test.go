package protocol

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
)

// decodeFactor bounds what Decode allocates for each byte of a body. The worst
// are lists of empty strings: two bytes become the 16 of a string in Go.
const decodeFactor = 10

// FuzzReader feeds a stream of bytes to a connection that starts in one of the
// versions; a CONNECT changes it. Whatever the bytes:
//
//   - nothing panics, and what is refused is refused with an [*Error];
//   - a packet is as long as its header says, and a header that is read byte by
//     byte says the same as one that is there as a whole;
//   - what is accepted can be appended and is then the same packet;
//   - memory stays in proportion;
//   - a Reader sees the same packets.
func FuzzReader(f *testing.F) {
	for _, r := range accepted {
		f.Add(byte(r.v), wire(f, r.wire))
	}
	for _, r := range refused {
		f.Add(byte(r.v), wire(f, r.wire))
	}
	for _, v := range []Version{V31, V311, V5} {
		var stream []byte
		for _, r := range accepted {
			if r.v == v {
				stream = append(stream, wire(f, r.wire)...)
			}
		}
		f.Add(byte(v), stream)
	}
	f.Fuzz(func(t *testing.T, version byte, stream []byte) {
		const limit = 1 << 20
		v := Version(version)
		if v != V31 && v != V311 && v != V5 {
			v = 0
		}
		rd := NewReader(bytes.NewReader(stream), limit)
		for rest := stream; ; {
			h, size, err := ParseHeader(rest, v, limit)
			checkHeaderBytes(t, rest, v, limit, h, size, err)
			p, readErr := rd.ReadPacket(v)
			if err != nil {
				if readErr == nil || codeOf(t, readErr) != codeOf(t, err) {
					t.Fatalf("Reader: %v, ParseHeader: %v", readErr, err)
				}
				return
			}
			if size == 0 || size+h.Length > len(rest) {
				if readErr != io.EOF && readErr != io.ErrUnexpectedEOF {
					t.Fatalf("Reader: %v at the end of the stream", readErr)
				}
				return
			}
			body := rest[size : size+h.Length : size+h.Length]
			rest = rest[size+h.Length:]
			before := allocated()
			_, err = Decode(h, body, v)
			if got := allocated() - before; got > decodeFactor*uint64(len(body))+64<<10 {
				t.Fatalf("%v of %d bytes allocated %d bytes", h.Type, len(body), got)
			}
			if (err == nil) != (readErr == nil) {
				t.Fatalf("Reader: %v, Decode: %v", readErr, err)
			}
			if err != nil {
				codeOf(t, err)
				return
			}
			checkRoundTrip(t, h, body, v)
			if c, ok := p.(*Connect); ok {
				v = c.Version
			}
		}
	})
}

// checkHeaderBytes checks what ParseHeader said of b, and that it says nothing
// else before all bytes are there.
func checkHeaderBytes(t *testing.T, b []byte, v Version, limit uint32, h Header, size int, err error) {
	t.Helper()
	switch {
	case err != nil && size != 0, size == 1, size > 5, size > len(b):
		t.Fatalf("size %d of %x with %v", size, b[:min(len(b), 5)], err)
	case size == 0 && err == nil && len(b) >= 5:
		t.Fatalf("%x is not enough", b[:5])
	case size > 0 && uint64(size)+uint64(h.Length) > uint64(limit):
		t.Fatalf("%d bytes are above the limit", size+h.Length)
	}
	for n := range min(len(b), 6) {
		early, s, earlyErr := ParseHeader(b[:n], v, limit)
		switch {
		case earlyErr != nil && err == nil, s != 0 && (s != size || early != h):
			t.Fatalf("%x: %+v, %d, %v after %d bytes; %+v, %d, %v later", b[:min(len(b), 5)], early, s, earlyErr, n, h, size, err)
		}
	}
}

// FuzzTopics checks topics and filters against plain ways to say the same.
func FuzzTopics(f *testing.F) {
	for i := range filters {
		f.Add(filters[i].filter[:min(len(filters[i].filter), 100)], "a/b")
	}
	for i := range texts {
		f.Add("#", texts[i].s[:min(len(texts[i].s), 100)])
	}
	f.Add("+/#", "$SYS/x")
	f.Add("a/+/#", "a//b")
	f.Fuzz(func(t *testing.T, filter, topic string) {
		nameErr, filterErr := ValidTopicName(topic), ValidFilter(filter)
		if (nameErr == nil) != (ValidTopicName([]byte(topic)) == nil) {
			t.Fatalf("%q: string and bytes differ", topic)
		}
		if want := ValidString(topic) && topic != "" && !strings.ContainsAny(topic, "+#"); (nameErr == nil) != want {
			t.Fatalf("topic %q: %v", topic, nameErr)
		}
		if want := naiveFilter(filter); (filterErr == nil) != want {
			t.Fatalf("filter %q: %v", filter, filterErr)
		}
		var e *Error
		if nameErr != nil && !(errors.As(nameErr, &e) && e.Code == TopicNameInvalid) ||
			filterErr != nil && !(errors.As(filterErr, &e) && e.Code == TopicFilterInvalid) {
			t.Fatalf("wrong codes: %v, %v", nameErr, filterErr)
		}
		if Levels(topic) != strings.Count(topic, "/")+1 {
			t.Fatalf("%q has not %d levels", topic, Levels(topic))
		}
		if filterErr != nil {
			return
		}
		group, rest, shared := SplitShare(filter)
		if shared && sharePrefix+group+"/"+rest != filter || !shared && rest != filter || ValidFilter(rest) != nil && !strings.HasPrefix(rest, sharePrefix) {
			t.Fatalf("%q splits into %q, %q, %v", filter, group, rest, shared)
		}
		if nameErr == nil && Match(rest, topic) != naiveMatch(rest, topic) {
			t.Fatalf("%q and %q: match %v", rest, topic, Match(rest, topic))
		}
	})
}

// naiveFilter follows the words of MQTT 5 §4.7.1 and §4.8.2.
func naiveFilter(filter string) bool {
	if !ValidString(filter) || filter == "" {
		return false
	}
	levels := strings.Split(filter, "/")
	if levels[0] == "$share" && len(levels) > 1 {
		if levels[1] == "" || strings.ContainsAny(levels[1], "+#") || strings.Join(levels[2:], "/") == "" {
			return false
		}
		levels = levels[2:]
	}
	for i, l := range levels {
		if l == "#" && i < len(levels)-1 || len(l) > 1 && strings.ContainsAny(l, "+#") {
			return false
		}
	}
	return true
}
