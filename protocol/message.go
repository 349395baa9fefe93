package protocol

// MessageProperties are the MQTT 5 properties that travel with a message from
// its publisher to its subscribers, unchanged and in order [MQTT-3.3.2-4]. A
// field counts only if its Has field is set.
type MessageProperties struct {
	// PayloadFormat is 1 if the payload is UTF-8 text, 0 if unspecified.
	PayloadFormat    byte
	HasPayloadFormat bool
	ContentType      string
	HasContentType   bool
	// ResponseTopic is a topic name without wildcards [MQTT-3.3.2-14].
	ResponseTopic    string
	HasResponseTopic bool
	Correlation      []byte
	HasCorrelation   bool
	User             []UserProperty
}

// ParseMessageProperties parses b, the wire form of message properties as in
// [Publish] without a length in front. Correlation refers to b. The error is an
// [*Error].
func ParseMessageProperties(b []byte) (MessageProperties, error) {
	var m MessageProperties
	p := properties{cursor: cursor{b: b}, in: inPublish}
	for p.next() {
		switch p.id {
		case propPayloadFormat:
			m.PayloadFormat, m.HasPayloadFormat = bit(p.flag(), 0), true
		case propContentType:
			m.ContentType, m.HasContentType = p.string(), true
		case propResponseTopic:
			m.ResponseTopic, m.HasResponseTopic = string(p.responseTopic()), true
		case propCorrelation:
			m.Correlation, m.HasCorrelation = p.binary(), true
		case propUser:
			m.User = p.user(m.User)
		default:
			p.fail(malformed("property does not travel with a message"))
		}
	}
	if err := p.fault(); err != nil {
		return MessageProperties{}, err
	}
	return m, nil
}

// AppendMessageProperties appends the wire form of m to dst. The error wraps
// [ErrEncode], and dst is then returned as it was.
func AppendMessageProperties(dst []byte, m *MessageProperties) ([]byte, error) {
	e := encoder{dst: dst, b: dst}
	if m.HasPayloadFormat {
		if m.PayloadFormat > 1 {
			e.fail("payload format indicator other than 0 or 1")
		}
		e.property8(propPayloadFormat, m.PayloadFormat)
	}
	if m.HasContentType {
		e.propertyText(propContentType, m.ContentType)
	}
	if m.HasResponseTopic {
		if checkTopic([]byte(m.ResponseTopic)) != topicFine {
			e.fail("response topic is not a topic name")
		}
		e.propertyText(propResponseTopic, m.ResponseTopic)
	}
	if m.HasCorrelation {
		e.propertyBinary(propCorrelation, m.Correlation)
	}
	e.users(m.User)
	if e.err != nil {
		return dst, e.err
	}
	return e.b, nil
}

// responseTopic reads a response topic. It is the name of the topic that the
// answer will be published to: one without wildcards [MQTT-3.3.2-14] and not
// empty [MQTT-4.7.3-1]. Both break a rule of the protocol, not the form of the
// packet.
func (p *properties) responseTopic() []byte {
	s := p.text()
	if p.err == nil && checkTopic(s) != topicFine {
		p.fail(violation("response topic is not a topic name"))
	}
	return s
}

// travelling gathers the properties that travel with a message from a section
// that may hold others.
type travelling struct {
	section []byte
	// b is what was gathered, and end the place in section where it ends; -1
	// when it is not a piece of section any more.
	b   []byte
	end int
}

// read reads the value of the property that p found, which stands at from,
// checks it, and gathers the whole property.
func (t *travelling) read(p *properties, from int) {
	switch p.id {
	case propPayloadFormat:
		p.flag()
	case propContentType:
		p.text()
	case propResponseTopic:
		p.responseTopic()
	case propCorrelation:
		p.binary()
	case propUser:
		p.text()
		p.text()
	}
	if p.err != nil {
		return
	}
	to := len(t.section) - len(p.b)
	switch {
	case t.b == nil:
		t.b, t.end = t.section[from:to:to], to
	case t.end == from:
		t.b, t.end = t.section[from-len(t.b):to:to], to
	default:
		t.b, t.end = append(t.b, t.section[from:to]...), -1
	}
}
