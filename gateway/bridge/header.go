package bridge

import (
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/sluice-mqtt/sluice/backend"
	"github.com/sluice-mqtt/sluice/backend/nats/subject"
	"github.com/sluice-mqtt/sluice/protocol"
)

// The headers. Text in them has its controls, spaces and '%' as %XX.
const (
	headerTopic       = "Mqtt-Topic" // where the subject does not tell it
	headerQoS         = "Mqtt-Qos"
	headerRetain      = "Mqtt-Retain"
	headerExpiry      = "Mqtt-Message-Expiry" // seconds that are left
	headerContentType = "Mqtt-Content-Type"
	headerFormat      = "Mqtt-Payload-Format" // 1: text
	headerResponse    = "Mqtt-Response-Topic"
	headerCorrelation = "Mqtt-Correlation-Data" // base64
	headerUser        = "Mqtt-User-Property"    // name=value, once for each
	headerPublisher   = "Mqtt-Publisher"        // the client identifier
	headerIdentity    = "Nats-Msg-Id"           // by which a repetition is known

	// In answers.
	headerError = "Mqtt-Error"
	headerCode  = "Mqtt-Reason-Code"
)

// reserved are bytes of a user property's name that would end it.
const reserved = "="

func escaped(s string) string { return string(subject.Escape(nil, s)) }

// headers returns those of a message.
func headers(m *backend.Message, now time.Time) nats.Header {
	h := nats.Header{headerQoS: {strconv.Itoa(int(m.QoS))}}
	if m.Retain {
		h[headerRetain] = []string{"true"}
	}
	if m.Expires != 0 {
		left := max((m.Expires-now.UnixMilli()+999)/1000, 1)
		h[headerExpiry] = []string{strconv.FormatInt(left, 10)}
	}
	if m.Publisher != "" {
		h[headerPublisher] = []string{escaped(string(m.Publisher))}
	}
	if m.ID != (backend.PublishID{}) {
		h[headerIdentity] = []string{fmt.Sprintf("%s/%d/%d/%d", escaped(string(m.ID.Client)), m.ID.Incarnation, m.ID.PacketID, m.ID.Generation)}
	}
	if len(m.Properties) == 0 {
		return h
	}
	p, err := protocol.ParseMessageProperties(m.Properties)
	if err != nil {
		return h // they were checked when they came
	}
	if p.HasContentType {
		h[headerContentType] = []string{escaped(p.ContentType)}
	}
	if p.HasPayloadFormat {
		h[headerFormat] = []string{strconv.Itoa(int(p.PayloadFormat))}
	}
	if p.HasResponseTopic {
		h[headerResponse] = []string{escaped(p.ResponseTopic)}
	}
	if p.HasCorrelation {
		h[headerCorrelation] = []string{base64.StdEncoding.EncodeToString(p.Correlation)}
	}
	for _, u := range p.User {
		name := strings.ReplaceAll(escaped(u.Key), reserved, "%3D")
		h[headerUser] = append(h[headerUser], name+reserved+escaped(u.Value))
	}
	return h
}

// headerFault is a header that can not be used.
type headerFault struct{ name, value, allowed string }

func (e *headerFault) Error() string {
	return fmt.Sprintf("%s = %q: allowed is %s", e.name, e.value, e.allowed)
}

// message returns the message that an application has published to a topic.
func message(topic string, in *nats.Msg, now time.Time) (*backend.Message, error) {
	m := &backend.Message{Topic: topic, Payload: in.Data, QoS: 1}
	h := in.Header
	switch q := h.Get(headerQoS); q {
	case "", "1":
	case "0", "2":
		m.QoS = q[0] - '0'
	default:
		return nil, &headerFault{headerQoS, q, "0, 1, 2"}
	}
	switch r := h.Get(headerRetain); r {
	case "", "false":
	case "true":
		m.Retain = true
	default:
		return nil, &headerFault{headerRetain, r, "true, false"}
	}
	if e := h.Get(headerExpiry); e != "" {
		seconds, err := strconv.ParseUint(e, 10, 32)
		if err != nil || seconds == 0 {
			return nil, &headerFault{headerExpiry, e, "1 to 4294967295"}
		}
		m.Expires = now.Add(time.Duration(seconds) * time.Second).UnixMilli()
	}
	return m, properties(m, h)
}

// properties encodes the properties that headers say.
func properties(m *backend.Message, h nats.Header) error {
	var p protocol.MessageProperties
	var err error
	text := func(name string, to *string, has *bool) {
		value := h.Get(name)
		if value == "" || err != nil {
			return
		}
		b, fault := subject.Unescape(nil, value)
		if fault != nil {
			err = &headerFault{name, value, "text, with % as %25"}
			return
		}
		*to, *has = string(b), true
	}
	text(headerContentType, &p.ContentType, &p.HasContentType)
	text(headerResponse, &p.ResponseTopic, &p.HasResponseTopic)
	if err != nil {
		return err
	}
	switch f := h.Get(headerFormat); f {
	case "":
	case "0", "1":
		p.PayloadFormat, p.HasPayloadFormat = f[0]-'0', true
	default:
		return &headerFault{headerFormat, f, "0, 1"}
	}
	if c := h.Get(headerCorrelation); c != "" {
		if p.Correlation, err = base64.StdEncoding.DecodeString(c); err != nil {
			return &headerFault{headerCorrelation, c, "base64"}
		}
		p.HasCorrelation = true
	}
	for _, value := range h.Values(headerUser) {
		name, v, ok := strings.Cut(value, reserved)
		n, err1 := subject.Unescape(nil, name)
		b, err2 := subject.Unescape(nil, v)
		if !ok || err1 != nil || err2 != nil || len(p.User) == protocol.MaxUserProperties {
			return &headerFault{headerUser, value, "name=value, with % as %25, up to " + strconv.Itoa(protocol.MaxUserProperties)}
		}
		p.User = append(p.User, protocol.UserProperty{Key: string(n), Value: string(b)})
	}
	m.Properties, err = protocol.AppendMessageProperties(nil, &p)
	return err
}
