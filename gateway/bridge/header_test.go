package bridge

import (
	"bytes"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/sluice-mqtt/sluice/backend"
	"github.com/sluice-mqtt/sluice/protocol"
)

// TestHeaders: what a message says of itself comes back from its headers.
func TestHeaders(t *testing.T) {
	t.Parallel()
	now := time.UnixMilli(1_000_000)
	properties, err := protocol.AppendMessageProperties(nil, &protocol.MessageProperties{
		PayloadFormat: 1, HasPayloadFormat: true, ContentType: "a b%\n", HasContentType: true, ResponseTopic: "x/ y", HasResponseTopic: true,
		Correlation: []byte{0, 255}, HasCorrelation: true,
		User: []protocol.UserProperty{{Key: "", Value: ""}, {Key: "a=b", Value: "c=d"}, {Key: "ä ", Value: " \r\n"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range []backend.Message{
		{Topic: "t", Payload: []byte("\x00\xff"), QoS: 2, Retain: true, Expires: 1_060_000, Properties: properties},
		{Topic: "t", QoS: 1},
		{Topic: "t"},
	} {
		got, err := message("t", &nats.Msg{Data: m.Payload, Header: headers(&m, now)}, now)
		if err != nil {
			t.Errorf("%+v: %v", m, err)
			continue
		}
		if !bytes.Equal(got.Properties, m.Properties) {
			t.Errorf("properties %q, want %q", got.Properties, m.Properties)
		}
		got.Properties, m.Properties = nil, nil
		if !reflect.DeepEqual(*got, m) {
			t.Errorf("got %+v, want %+v", *got, m)
		}
	}
}

// TestIdentity: a QoS 2 message has one that is the same whenever it comes.
func TestIdentity(t *testing.T) {
	t.Parallel()
	id := backend.PublishID{Client: "a b", Incarnation: 3, PacketID: 4, Generation: 5}
	if got := headers(&backend.Message{ID: id}, time.Now()).Get(headerIdentity); got != "a%20b/3/4/5" {
		t.Errorf("identity %q", got)
	}
}

// TestExpiredHeader: a message on its last second still has one.
func TestExpiredHeader(t *testing.T) {
	t.Parallel()
	now := time.UnixMilli(10_000)
	for expires, want := range map[int64]string{10_001: "1", 11_000: "1", 11_001: "2", 9_000: "1"} {
		if got := headers(&backend.Message{Expires: expires}, now).Get(headerExpiry); got != want {
			t.Errorf("%d: %s, want %s", expires, got, want)
		}
	}
}

func TestNew(t *testing.T) {
	t.Parallel()
	for prefix, ok := range map[string]bool{"mqtt": true, "a.b": true, "": false, "a.": false, "a b": false, "a.*": false, "$x": false,
		strings.Repeat("x", 129): false} {
		if _, err := New(Options{Prefix: prefix}); (err == nil) != ok {
			t.Errorf("%q: %v", prefix, err)
		}
	}
	if _, err := New(Options{Prefix: "p", Topics: []string{"a/#/b"}}); err == nil {
		t.Error("a filter that is none is taken")
	}
	b, err := New(Options{Prefix: "p", Topics: []string{"a/#", "b"}})
	if err != nil {
		t.Fatal(err)
	}
	for topic, want := range map[string]bool{"a": true, "a/b": true, "b": true, "c": false} {
		if b.wanted(topic) != want {
			t.Errorf("%s: %v", topic, !want)
		}
	}
}
