package clients_test

import (
	"fmt"
	"strings"

	"github.com/sluice-mqtt/sluice/e2e/clients/line"
)

func message(topic, payload string, qos int) line.Message {
	return line.Message{Topic: topic, Payload: []byte(payload), QoS: qos}
}

func retained(topic, payload string, qos int) line.Message {
	return line.Message{Topic: topic, Payload: []byte(payload), QoS: qos, Retain: true}
}

// numbered is n messages whose payloads count from 1.
func numbered(topic string, qos, n int) []line.Message {
	var all []line.Message
	for i := range n {
		all = append(all, message(topic, fmt.Sprint(i+1), qos))
	}
	return all
}

// at is the messages as a subscription of this QoS gets them.
func at(qos int, messages []line.Message) []line.Message {
	var all []line.Message
	for _, m := range messages {
		m.QoS = min(m.QoS, qos)
		all = append(all, m)
	}
	return all
}

func filter(filter string, qos int) line.Filter { return line.Filter{Filter: filter, QoS: qos} }

// show is a message on one line, with the beginning of a long payload.
func show(m line.Message) string {
	payload := fmt.Sprintf("%q", m.Payload[:min(len(m.Payload), 60)])
	if len(m.Payload) > 60 {
		payload += fmt.Sprintf("… (%d bytes)", len(m.Payload))
	}
	return fmt.Sprintf("{%s %s qos=%d retain=%v dup=%v}", m.Topic, payload, m.QoS, m.Retain, m.Dup)
}

func showAll(messages []line.Message) string {
	var b strings.Builder
	for _, m := range messages {
		b.WriteString(show(m) + "\n")
	}
	return b.String()
}
