package protocol

import (
	"bytes"
	"fmt"
	"testing"
)

// The hot path is PUBLISH: header, decode, append. None of the three allocates.
func benchPublishes() map[string]*Publish {
	props, err := AppendMessageProperties(nil, &MessageProperties{
		ContentType: "application/json", HasContentType: true,
		User: []UserProperty{{"trace", "4bf92f3577b34da6a3ce929d0e0e4736"}},
	})
	if err != nil {
		panic(err)
	}
	topic := []byte("plant/7/line/12/press/temperature")
	payload := bytes.Repeat([]byte{'x'}, 128)
	return map[string]*Publish{
		"qos0":  {Topic: topic, Payload: payload},
		"qos1":  {Topic: topic, Payload: payload, QoS: 1, PacketID: 7},
		"props": {Topic: topic, Payload: payload, QoS: 1, PacketID: 7, Properties: props, MessageExpiry: 60, HasMessageExpiry: true},
		"alias": {Payload: payload, TopicAlias: 3, HasTopicAlias: true},
	}
}

func BenchmarkPublishDecode(b *testing.B) {
	for name, p := range benchPublishes() {
		b.Run(name, func(b *testing.B) {
			wire, err := p.Append(nil, V5)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			b.SetBytes(int64(len(wire)))
			var got Publish
			for b.Loop() {
				h, size, err := ParseHeader(wire, V5, 1<<20)
				if err != nil {
					b.Fatal(err)
				}
				if err := got.Decode(h, wire[size:], V5); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkPublishAppend(b *testing.B) {
	for name, p := range benchPublishes() {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(p.Size(V5)))
			dst := make([]byte, 0, p.Size(V5))
			for b.Loop() {
				if _, err := p.Append(dst, V5); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkAck(b *testing.B) {
	b.Run("append", func(b *testing.B) {
		b.ReportAllocs()
		dst := make([]byte, 0, 8)
		for b.Loop() {
			AppendAck(dst, PUBACK, 7, Success, V5)
		}
	})
	b.Run("decode", func(b *testing.B) {
		b.ReportAllocs()
		var a Ack
		body := []byte{0, 7}
		for b.Loop() {
			if err := a.Decode(Header{Type: PUBACK, Length: 2}, body, V5); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkValidTopicName(b *testing.B) {
	for _, n := range []int{8, 32, 128, 4096} {
		topic := bytes.Repeat([]byte("level/7/"), n/8)
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(n))
			for b.Loop() {
				if err := ValidTopicName(topic); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
