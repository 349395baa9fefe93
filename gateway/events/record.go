package events

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sluice-mqtt/sluice/gateway"
)

// Record is an event in the form in which it is told, as JSON. What does not
// belong to the kind is absent.
type Record struct {
	// ID is unique, and the same whenever the record is told again.
	ID string `json:"id"`
	// Seq counts the events of this run of the gateway, from 1. One that is
	// missing was lost, or comes later: kinds are told in the order in which
	// they happen, on each connection.
	Seq     uint64    `json:"seq"`
	Kind    string    `json:"kind"`
	Time    time.Time `json:"time"`
	Gateway string    `json:"gateway"`

	Client string `json:"client,omitempty"`
	// User is the name that CONNECT gave, Principal what authentication found.
	User      string `json:"user,omitempty"`
	Principal string `json:"principal,omitempty"`
	Remote    string `json:"remote,omitempty"`
	Listener  string `json:"listener,omitempty"`
	// Version of MQTT: "3.1", "3.1.1" or "5.0".
	Version string `json:"version,omitempty"`

	// Code is the reason code of an answer or an end; Reason is the same in
	// words, or why a message was dropped.
	Code   *int   `json:"code,omitempty"`
	Reason string `json:"reason,omitempty"`

	Filter string `json:"filter,omitempty"`
	Topic  string `json:"topic,omitempty"`
	QoS    *int   `json:"qos,omitempty"`
	Retain bool   `json:"retain,omitempty"`
	// Publisher is the client that sent the message.
	Publisher string `json:"publisher,omitempty"`
	// Bytes is the length of the payload.
	Bytes int `json:"bytes,omitempty"`
	// Count is how many deliveries were dropped, if more than one.
	Count int `json:"count,omitempty"`
}

// record makes a record of an event, of which it keeps nothing.
func record(e *gateway.Event) Record {
	r := Record{Kind: e.Kind.String()}
	if c := e.Client; c != nil {
		r.Client, r.User, r.Principal, r.Listener = string(c.ID), c.Username, c.Principal, c.Listener
		if c.Remote != nil {
			r.Remote = c.Remote.String()
		}
		if c.Version != 0 {
			r.Version = c.Version.String()
		}
	}
	switch e.Kind {
	case gateway.EventRefused, gateway.EventDisconnected:
		r.Code, r.Reason = number(byte(e.Code)), e.Reason
		if r.Reason == "" {
			r.Reason = e.Code.String()
		}
	case gateway.EventSubscribed:
		r.Filter, r.QoS = e.Filter, number(e.QoS)
	case gateway.EventUnsubscribed:
		r.Filter = e.Filter
	case gateway.EventDropped:
		r.Reason = e.Drop.String()
		if e.Count > 1 {
			r.Count = e.Count
		}
	case gateway.EventPacketReceived, gateway.EventPacketSent:
		r.Reason = e.Packet.String()
	}
	if m := e.Message; m != nil {
		r.Topic, r.QoS, r.Retain = m.Topic, number(m.QoS), m.Retain
		r.Publisher, r.Bytes = string(m.Publisher), len(m.Payload)
	}
	return r
}

func number(b byte) *int {
	n := int(b)
	return &n
}

func formatSeq(n uint64) string { return strconv.FormatUint(n, 10) }

// runName tells runs of a gateway with one name apart.
func runName(id string, started time.Time) string {
	return id + "-" + strconv.FormatInt(started.UnixMilli(), 36) + "-"
}

// Default are the kinds that are told if nothing else is asked for: those that
// do not come with every message.
const Default = gateway.EventStarted | gateway.EventStopping |
	gateway.EventConnected | gateway.EventRefused | gateway.EventDisconnected | gateway.EventTakenOver |
	gateway.EventSubscribed | gateway.EventUnsubscribed | gateway.EventDropped |
	gateway.EventWill | gateway.EventSessionEnded

// ParseKinds reads names of kinds. None is [Default], "all" is every kind.
func ParseKinds(names []string) (gateway.EventKind, error) {
	if len(names) == 0 {
		return Default, nil
	}
	var kinds gateway.EventKind
	all := gateway.EventKinds()
	for _, name := range names {
		if name == "all" {
			for _, k := range all {
				kinds |= k
			}
			continue
		}
		i := slices.IndexFunc(all, func(k gateway.EventKind) bool { return k.String() == name })
		if i < 0 {
			return 0, fmt.Errorf("no kind %s; allowed is a list of %s", name, Names())
		}
		kinds |= all[i]
	}
	return kinds, nil
}

// Names are all names of kinds, by comma.
func Names() string {
	names := []string{"all"}
	for _, k := range gateway.EventKinds() {
		names = append(names, k.String())
	}
	return strings.Join(names, ", ")
}
