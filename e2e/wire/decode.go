package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

var errShort = errors.New("packet ends too early")

// cursor reads fields off the front of a body.
type cursor struct{ b []byte }

func (r *cursor) take(n int) ([]byte, error) {
	if len(r.b) < n {
		return nil, errShort
	}
	head := r.b[:n:n]
	r.b = r.b[n:]
	return head, nil
}

func (r *cursor) u8() (byte, error) {
	b, err := r.take(1)
	if err != nil {
		return 0, err
	}
	return b[0], nil
}

func (r *cursor) u16() (uint16, error) {
	b, err := r.take(2)
	if err != nil {
		return 0, err
	}
	return binary.BigEndian.Uint16(b), nil
}

func (r *cursor) binary() (string, error) {
	n, err := r.u16()
	if err != nil {
		return "", err
	}
	b, err := r.take(int(n))
	return string(b), err
}

// str reads a string and checks it: [MQTT-1.5.3-1] and [MQTT-1.5.3-2] of
// 3.1.1, [MQTT-1.5.4-1] and [MQTT-1.5.4-2] of 5.0.
func (r *cursor) str() (string, error) {
	s, err := r.binary()
	if err == nil && (!utf8.ValidString(s) || strings.ContainsRune(s, 0)) {
		err = fmt.Errorf("bad UTF-8 string %q", s)
	}
	return s, err
}

func (r *cursor) varint() (int, error) {
	n, size, err := varint(r.b)
	r.b = r.b[size:]
	return n, err
}

func varint(b []byte) (n, size int, err error) {
	for i, d := range b[:min(4, len(b))] {
		n |= int(d&0x7f) << (7 * i)
		if d < 0x80 {
			if i > 0 && d == 0 {
				return 0, 0, errors.New("variable byte integer is not in the shortest form")
			}
			return n, i + 1, nil
		}
	}
	return 0, 0, errors.New("variable byte integer does not end")
}

// Read takes one packet off a stream and checks it as one from a server. It is
// what [Client] reads with, for clients that outlive their connections.
func Read(r io.Reader, v Version) (Packet, error) {
	var head [5]byte
	if _, err := io.ReadFull(r, head[:1]); err != nil {
		return nil, err
	}
	var n, size int
	for i := 1; size == 0; i++ {
		if i == len(head) {
			return nil, fmt.Errorf("remaining length % x is longer than four bytes", head[1:])
		}
		if _, err := io.ReadFull(r, head[i:i+1]); err != nil {
			return nil, inside(err)
		}
		if head[i] < 0x80 {
			var err error
			if n, size, err = varint(head[1 : i+1]); err != nil {
				return nil, err
			}
		}
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(r, body); err != nil {
		return nil, inside(err)
	}
	p, err := decode(head[0], body, v)
	if err != nil {
		return nil, fmt.Errorf("%02x %x: %w", head[0], body, err)
	}
	return p, nil
}

func inside(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

func decode(first byte, body []byte, v Version) (p Packet, err error) {
	r := &cursor{body}
	t, flags := Type(first>>4), first&0xf
	want := byte(0)
	if t == PUBREL {
		want = 2
	}
	if t != PUBLISH && flags != want { // [MQTT-2.2.2-1] of 3.1.1, [MQTT-2.1.3-1] of 5.0
		return nil, fmt.Errorf("flags %04b in packet type %d", flags, t)
	}
	switch t {
	case CONNACK:
		p, err = r.connack(v)
	case PUBLISH:
		p, err = r.publish(flags, v)
	case PUBACK, PUBREC, PUBREL, PUBCOMP:
		a := Ack{Type: t}
		a.ID, err = r.id(err)
		a.Code, a.Props, err = r.ending(t, v, err)
		p = a
	case SUBACK:
		var s Suback
		s.ID, s.Props, s.Codes, err = r.codes(t, v)
		p = s
	case UNSUBACK:
		var s Unsuback
		s.ID, s.Props, s.Codes, err = r.codes(t, v)
		p = s
	case PINGRESP:
		p = Pingresp{}
	case DISCONNECT:
		var d Disconnect
		d.Code, d.Props, err = r.ending(t, v, nil)
		p = d
		if v != V5 {
			err = errors.New("a server sends no DISCONNECT before MQTT 5")
		}
	case AUTH:
		var a Auth
		a.Code, a.Props, err = r.ending(t, v, nil)
		p = a
		if v != V5 {
			err = errors.New("there is no AUTH before MQTT 5")
		}
	default:
		return nil, fmt.Errorf("a server sends no packet of type %d", t)
	}
	if err == nil && len(r.b) > 0 {
		err = fmt.Errorf("%d bytes too many", len(r.b))
	}
	return p, err
}

func (r *cursor) connack(v Version) (p Connack, err error) {
	flags, err := r.u8()
	if err != nil {
		return p, err
	}
	if flags > 1 {
		return p, fmt.Errorf("connect acknowledge flags %08b", flags)
	}
	p.SessionPresent = flags == 1
	if p.Code, err = r.u8(); err == nil && v == V5 {
		p.Props, err = r.props(CONNACK)
	}
	if err == nil && v == V31 && p.SessionPresent {
		err = errors.New("session present is a reserved bit in MQTT 3.1")
	}
	return p, err
}

func (r *cursor) publish(flags byte, v Version) (p Publish, err error) {
	p.Dup, p.QoS, p.Retain = flags&8 != 0, flags>>1&3, flags&1 != 0
	if p.QoS == 3 || p.QoS == 0 && p.Dup {
		return p, fmt.Errorf("flags %04b in PUBLISH", flags)
	}
	if p.Topic, err = r.str(); err == nil && p.QoS > 0 {
		p.ID, err = r.id(nil)
	}
	if err == nil && v == V5 {
		p.Props, err = r.props(PUBLISH)
	}
	if err == nil && (strings.ContainsAny(p.Topic, "+#") || p.Topic == "" && !p.Props.Has(TopicAliasID)) {
		err = fmt.Errorf("topic name %q", p.Topic)
	}
	p.Payload, r.b = string(r.b), nil
	return p, err
}

func (r *cursor) id(err error) (uint16, error) {
	if err != nil {
		return 0, err
	}
	id, err := r.u16()
	if err == nil && id == 0 {
		err = errors.New("packet identifier 0")
	}
	return id, err
}

func (r *cursor) ending(t Type, v Version, err error) (code byte, p Props, _ error) {
	if err != nil || v != V5 || len(r.b) == 0 {
		return 0, nil, err
	}
	if code, err = r.u8(); err == nil && len(r.b) > 0 {
		p, err = r.props(t)
	}
	return code, p, err
}

func (r *cursor) codes(t Type, v Version) (id uint16, p Props, codes []byte, err error) {
	if id, err = r.id(nil); err == nil && v == V5 {
		p, err = r.props(t)
	}
	if t == SUBACK || v == V5 {
		if codes, r.b = r.b, nil; err == nil && len(codes) == 0 {
			err = errors.New("no codes")
		}
	}
	return id, p, codes, err
}
