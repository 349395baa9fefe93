// Package line is the conversation between the tests and a client program: one
// JSON object a line, Requests on the program's standard input, Reports on its
// standard output. The programs in Node and Python speak it too, so this file is
// its definition.
//
// A program answers every Request with one Report of the same N, and sends
// Reports with N = 0 for what happens on its own: a message, a connection that
// came up again or went down. Reports of one connection are in the order in which
// the client library told of them. A program serves many connections at once and
// ends when its standard input does; killing it is a client that lost power.
package line

// Request asks a program to do one thing with one of its connections.
type Request struct {
	// N numbers the request, from 1. The answer carries it.
	N int `json:"n"`
	// Do is one of connect, subscribe, unsubscribe, publish, disconnect.
	Do string `json:"do"`
	// Conn names the connection; connect makes it, disconnect forgets it.
	Conn string `json:"conn"`
	// Connect goes with connect.
	Connect *Connect `json:"connect,omitempty"`
	// Filters go with subscribe and unsubscribe, all in one packet.
	Filters []Filter `json:"filters,omitempty"`
	// SubscriptionID goes with subscribe under MQTT 5; 0 sends none.
	SubscriptionID int `json:"subscription_id,omitempty"`
	// Messages go with publish. They are sent in this order, and the answer comes
	// when the last of them has been acknowledged as its QoS asks.
	Messages []Message `json:"messages,omitempty"`
	// Reason goes with disconnect under MQTT 5: 0, or 4 to have the will sent.
	Reason int `json:"reason,omitempty"`
}

// Connect describes a connection. The answer comes with the CONNACK.
type Connect struct {
	// URL is mqtt://host:port or ws://host:port/path.
	URL string `json:"url"`
	// Version is the protocol level: 3 (MQTT 3.1), 4 (3.1.1) or 5.
	Version int `json:"version"`
	// ClientID may be empty where the version allows it.
	ClientID string `json:"client_id"`
	// Clean is clean session, or clean start.
	Clean bool `json:"clean"`
	// Expiry is the session expiry in seconds under MQTT 5; 0 sends none.
	Expiry int `json:"expiry,omitempty"`
	// KeepAlive is in seconds.
	KeepAlive int `json:"keep_alive"`
	// Will is the last message, or nil.
	Will *Message `json:"will,omitempty"`
	// WillDelay is in seconds under MQTT 5; 0 sends none.
	WillDelay int `json:"will_delay,omitempty"`
	// Reconnect leaves the library's own reconnection on, as soon as it can.
	// Without it a lost connection stays lost.
	Reconnect bool `json:"reconnect,omitempty"`
}

// Filter is one topic filter of a SUBSCRIBE or UNSUBSCRIBE. What MQTT 5 added is
// left out of the packet in earlier versions.
type Filter struct {
	Filter            string `json:"filter"`
	QoS               int    `json:"qos"`
	NoLocal           bool   `json:"no_local,omitempty"`
	RetainAsPublished bool   `json:"retain_as_published,omitempty"`
	RetainHandling    int    `json:"retain_handling,omitempty"`
}

// Message is an application message, sent or received.
type Message struct {
	Topic string `json:"topic"`
	// Payload is base64 in JSON.
	Payload []byte `json:"payload"`
	QoS     int    `json:"qos"`
	Retain  bool   `json:"retain,omitempty"`
	// Dup is set on received messages only.
	Dup bool `json:"dup,omitempty"`
	// Properties is nil when the packet had none, and before MQTT 5.
	Properties *Properties `json:"properties,omitempty"`
}

// Properties are those of a PUBLISH that belong to the application. A zero field
// is a property that was not there.
type Properties struct {
	PayloadFormat int    `json:"payload_format,omitempty"`
	Expiry        int    `json:"expiry,omitempty"`
	ContentType   string `json:"content_type,omitempty"`
	ResponseTopic string `json:"response_topic,omitempty"`
	// Correlation is base64 in JSON.
	Correlation []byte `json:"correlation,omitempty"`
	// User holds name and value, in order.
	User [][2]string `json:"user,omitempty"`
	// SubscriptionIDs are set on received messages only, in ascending order.
	SubscriptionIDs []int `json:"subscription_ids,omitempty"`
}

// Report is what a program says.
type Report struct {
	// N is the request that this answers, 0 for an event.
	N int `json:"n"`
	// Conn is set in events.
	Conn string `json:"conn,omitempty"`
	// Error, if not empty, is why the request failed, in the library's words.
	Error string `json:"error,omitempty"`

	// SessionPresent and ClientID (as assigned by the server, else empty) answer
	// connect, and come with the event Up.
	SessionPresent bool   `json:"session_present,omitempty"`
	ClientID       string `json:"client_id,omitempty"`
	// Codes answer subscribe: one SUBACK code a filter.
	Codes []int `json:"codes,omitempty"`

	// Message, Up and Down are the events. Up is a reconnection made by the
	// library. Down comes once for a connection that was lost or closed by the
	// server, with the reason of its DISCONNECT where it sent one.
	Message *Message `json:"message,omitempty"`
	Up      bool     `json:"up,omitempty"`
	Down    bool     `json:"down,omitempty"`
	Reason  int      `json:"reason,omitempty"`
}
