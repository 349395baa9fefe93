package protocol

import (
	"bytes"
	"math/rand/v2"
	"reflect"
	"testing"
)

// maker makes packets at random: all fields that the version has, each there
// or not, strings of all lengths that matter.
type maker struct {
	*rand.Rand
	v Version
}

func (m maker) yes() bool { return m.IntN(2) == 0 }

func (m maker) text() string {
	letters := []rune("ab/ $ä漢🙂\uFEFF\x01")
	n := []int{0, 1, 7, 8, 9, 40, 300}[m.IntN(7)]
	r := make([]rune, n)
	for i := range r {
		r[i] = letters[m.IntN(len(letters))]
	}
	return string(r)
}

func (m maker) topic() string { return "t" + m.text() }

func (m maker) bytes() []byte {
	b := make([]byte, []int{0, 1, 130, 20000}[m.IntN(4)])
	for i := range b {
		b[i] = byte(m.Uint32())
	}
	return b
}

func (m maker) id() uint16 { return uint16(1 + m.IntN(65535)) }

func (m maker) users() (us []UserProperty) {
	if m.v == V5 {
		for range m.IntN(4) {
			us = append(us, UserProperty{m.text(), m.text()})
		}
	}
	return us
}

// only is x in MQTT 5, where alone it has a place, and not always there.
func only[T any](m maker, x T) (T, bool) {
	if m.v == V5 && m.yes() {
		return x, true
	}
	var zero T
	return zero, false
}

func maybe[T any](m maker, x T) *T {
	if x, ok := only(m, x); ok {
		return &x
	}
	return nil
}

func (m maker) reason() string {
	s, _ := only(m, m.text())
	return s
}

// code is one that may stand in a packet of type t.
func (m maker) code(t Type) ReasonCode {
	for {
		c := ReasonCode(m.IntN(256))
		if c.ValidIn(t) && (m.v == V5 || c == Success || t == SUBACK && (c <= 2 || c == UnspecifiedError)) {
			return c
		}
	}
}

func (m maker) codes(t Type) []ReasonCode {
	cs := make([]ReasonCode, 1+m.IntN(200))
	for i := range cs {
		cs[i] = m.code(t)
	}
	return cs
}

func (m maker) messageProperties(t *testing.T) []byte {
	if m.v != V5 {
		return nil
	}
	p := MessageProperties{User: m.users()}
	p.PayloadFormat, p.HasPayloadFormat = only(m, byte(m.IntN(2)))
	p.ContentType, p.HasContentType = only(m, m.text())
	p.ResponseTopic, p.HasResponseTopic = only(m, m.topic())
	p.Correlation, p.HasCorrelation = only(m, m.bytes())
	b, err := AppendMessageProperties(nil, &p)
	if err != nil {
		t.Fatal(err)
	}
	again, err := ParseMessageProperties(b)
	if err != nil || !reflect.DeepEqual(p, again) {
		t.Fatalf("message properties %+v became %+v, %v", p, again, err)
	}
	return b
}

func (m maker) connect(t *testing.T) *Connect {
	c := &Connect{Version: m.v, CleanStart: m.yes(), KeepAlive: uint16(m.Uint32()), ClientID: m.text(), User: m.users(), ReceiveMaximum: 65535, RequestProblemInfo: true}
	if c.HasUsername = m.yes(); c.HasUsername {
		c.Username = m.text()
	}
	if c.HasPassword = m.yes() && (c.HasUsername || m.v == V5); c.HasPassword {
		c.Password = m.bytes()
	}
	if m.yes() {
		c.Will = &Will{QoS: byte(m.IntN(3)), Retain: m.yes(), Topic: m.topic(), Payload: m.bytes(), Properties: m.messageProperties(t)}
		c.Will.Delay, _ = only(m, m.Uint32())
		c.Will.MessageExpiry, c.Will.HasMessageExpiry = only(m, m.Uint32())
	}
	if m.v == V5 {
		c.SessionExpiry, c.HasSessionExpiry = only(m, m.Uint32())
		c.ReceiveMaximum, c.MaximumPacketSize, c.TopicAliasMaximum = m.id(), m.Uint32(), uint16(m.Uint32())
		c.RequestResponseInfo, c.RequestProblemInfo = m.yes(), m.yes()
		if c.AuthMethod, c.HasAuthMethod = only(m, m.text()); c.HasAuthMethod {
			c.AuthData, c.HasAuthData = only(m, m.bytes())
		}
	}
	return c
}

func (m maker) connack() *Connack {
	c := &Connack{Code: m.code(CONNACK), User: m.users(), Reason: m.reason()}
	c.SessionPresent = c.Code == Success && m.v != V31 && m.yes()
	c.SessionExpiry, c.ReceiveMaximum, c.MaximumQoS = maybe(m, m.Uint32()), maybe(m, m.id()), maybe(m, byte(m.IntN(2)))
	c.RetainAvailable, c.MaximumPacketSize, c.TopicAliasMaximum = maybe(m, m.yes()), maybe(m, 1+m.Uint32N(1<<31)), maybe(m, m.id())
	c.WildcardAvailable, c.SubscriptionIDAvailable, c.SharedAvailable = maybe(m, m.yes()), maybe(m, m.yes()), maybe(m, m.yes())
	c.ServerKeepAlive, c.AssignedClientID = maybe(m, m.id()), m.reason()
	c.ResponseInfo, c.ServerReference, c.AuthMethod = m.reason(), m.reason(), m.reason()
	c.AuthData, _ = only(m, m.bytes())
	return c
}

func (m maker) publish(t *testing.T) *Publish {
	p := &Publish{QoS: byte(m.IntN(3)), Retain: m.yes(), Topic: []byte(m.topic()), Payload: m.bytes(), Properties: m.messageProperties(t)}
	if p.QoS > 0 {
		p.Dup, p.PacketID = m.yes(), m.id()
	}
	if p.TopicAlias, p.HasTopicAlias = only(m, m.id()); p.HasTopicAlias && m.yes() {
		p.Topic = []byte{}
	}
	p.MessageExpiry, p.HasMessageExpiry = only(m, m.Uint32())
	if m.v == V5 {
		for range m.IntN(3) {
			p.SubscriptionIDs = append(p.SubscriptionIDs, 1+m.Uint32N(maxVarint)>>m.UintN(28))
		}
	}
	return p
}

func (m maker) subscribe() *Subscribe {
	s := &Subscribe{PacketID: m.id(), User: m.users()}
	s.ID, _ = only(m, 1+m.Uint32N(maxVarint)>>m.UintN(28))
	for range 1 + m.IntN(5) {
		f := SubscribeFilter{Filter: m.text(), QoS: byte(m.IntN(3))}
		f.NoLocal, _ = only(m, m.yes())
		f.RetainAsPublished, _ = only(m, m.yes())
		f.RetainHandling, _ = only(m, byte(m.IntN(3)))
		s.Filters = append(s.Filters, f)
	}
	return s
}

// packet makes one of type t.
func (m maker) packet(t *testing.T, typ Type) Packet {
	switch typ {
	case CONNECT:
		return m.connect(t)
	case CONNACK:
		return m.connack()
	case PUBLISH:
		return m.publish(t)
	case SUBSCRIBE:
		return m.subscribe()
	case SUBACK:
		return &Suback{PacketID: m.id(), Codes: m.codes(SUBACK), Reason: m.reason(), User: m.users()}
	case UNSUBSCRIBE:
		return &Unsubscribe{PacketID: m.id(), Filters: []string{m.text(), m.text()}, User: m.users()}
	case UNSUBACK:
		u := &Unsuback{PacketID: m.id(), Reason: m.reason(), User: m.users()}
		if m.v == V5 {
			u.Codes = m.codes(UNSUBACK)
		}
		return u
	case PINGREQ:
		return &Pingreq{}
	case PINGRESP:
		return &Pingresp{}
	case DISCONNECT:
		d := &Disconnect{Code: m.code(DISCONNECT), Reason: m.reason(), ServerReference: m.reason(), User: m.users()}
		d.SessionExpiry, d.HasSessionExpiry = only(m, m.Uint32())
		return d
	case AUTH:
		a := &Auth{Code: m.code(AUTH), Method: m.topic(), Reason: m.reason(), User: m.users()}
		a.Data, a.HasData = only(m, m.bytes())
		return a
	}
	return &Ack{Kind: typ, PacketID: m.id(), Code: m.code(typ), Reason: m.reason(), User: m.users()}
}

// What is appended is framed by ParseHeader and decodes to what it was.
func TestRandomPackets(t *testing.T) {
	for _, v := range []Version{V31, V311, V5} {
		m := maker{rand.New(rand.NewPCG(5, uint64(v))), v}
		for typ := CONNECT; typ <= AUTH; typ++ {
			if typ == AUTH && v != V5 {
				continue
			}
			t.Run(v.String()+" "+typ.String(), func(t *testing.T) {
				for range 300 {
					p := m.packet(t, typ)
					front := []byte("front")
					b, err := p.Append(front, v)
					if err != nil {
						t.Fatalf("%#v: %v", p, err)
					}
					if !bytes.HasPrefix(b, front) {
						t.Fatalf("%#v: what was in front is gone", p)
					}
					b = b[len(front):]
					got, err := decodeWhole(b, v)
					if err != nil || !reflect.DeepEqual(got, p) {
						t.Fatalf("%x\n got %#v, %v\nwant %#v", b, got, err, p)
					}
					h, size, err := ParseHeader(b, v, 0)
					if err != nil {
						t.Fatal(err)
					}
					checkRoundTrip(t, h, b[size:], v)
				}
			})
		}
	}
}

// A packet that is decoded into a used value keeps nothing of what was there.
func TestDecodeReplacesEverything(t *testing.T) {
	m := maker{rand.New(rand.NewPCG(6, 7)), V5}
	for typ := CONNECT; typ <= AUTH; typ++ {
		used, err := newPacket(typ)
		if err != nil {
			t.Fatal(err)
		}
		for range 50 {
			want := m.packet(t, typ)
			b, err := want.Append(nil, V5)
			if err != nil {
				t.Fatal(err)
			}
			h, size, err := ParseHeader(b, V5, 0)
			if err != nil {
				t.Fatal(err)
			}
			if err := used.Decode(h, b[size:], V5); err != nil || !reflect.DeepEqual(used, want) {
				t.Fatalf("got %#v, %v\nwant %#v", used, err, want)
			}
		}
	}
}

// Fields that refer to the body end where they end: appending to one does not
// write into the next.
func TestAliasesAreClipped(t *testing.T) {
	b := wire(t, `32 [ "topic" 0001 [ 01 00 09 0002 'cd' 23 0001 ] 'payload' ] 'the next packet'`)
	var p Publish
	h, size, err := ParseHeader(b, V5, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Decode(h, b[size:size+h.Length], V5); err != nil {
		t.Fatal(err)
	}
	before := bytes.Clone(b)
	for _, field := range [][]byte{p.Topic, p.Properties, p.Payload} {
		if &field[0] != &b[bytes.Index(b, field)] {
			t.Errorf("%q does not refer to the body", field)
		}
		_ = append(field, '!')
	}
	if !bytes.Equal(b, before) {
		t.Errorf("appending to a field changed the body:\n%x\n%x", before, b)
	}
}

// The hot path does not allocate.
func TestHotPathDoesNotAllocate(t *testing.T) {
	ack := AppendAck(nil, PUBACK, 1, QuotaExceeded, V5)
	dst := make([]byte, 0, 1024)
	for name, p := range benchPublishes() {
		b, err := p.Append(nil, V5)
		if err != nil {
			t.Fatal(err)
		}
		var got Publish
		var a Ack
		if n := testing.AllocsPerRun(100, func() {
			h, size, err := ParseHeader(b, V5, 0)
			if err != nil || got.Decode(h, b[size:], V5) != nil {
				t.Error("refused")
			}
			if out, err := got.Append(dst, V5); err != nil || len(out) != got.Size(V5) {
				t.Error("not appended")
			}
			h, size, err = ParseHeader(ack, V5, 0)
			if err != nil || a.Decode(h, ack[size:], V5) != nil {
				t.Error("ack refused")
			}
			AppendAck(dst, PUBREC, 1, Success, V5)
		}); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}
