package admin

import (
	"time"

	"github.com/sluice-mqtt/sluice/backend"
)

// The answers, as openapi.yaml describes them.

type gatewayJSON struct {
	ID       string  `json:"id"`
	Self     bool    `json:"self"`
	Lease    float64 `json:"lease_seconds"`
	Sessions int64   `json:"sessions"`
	Answered bool    `json:"answered"`
	*figuresJSON
}

type figuresJSON struct {
	Version       string            `json:"version"`
	Started       time.Time         `json:"started"`
	Ready         bool              `json:"ready"`
	NotReady      string            `json:"not_ready,omitempty"`
	Connections   int64             `json:"connections"`
	Subscriptions int64             `json:"subscriptions"`
	Received      uint64            `json:"publishes_received"`
	Sent          uint64            `json:"publishes_sent"`
	BytesReceived uint64            `json:"bytes_received"`
	BytesSent     uint64            `json:"bytes_sent"`
	Dropped       map[string]uint64 `json:"dropped"`
	InFlight      int64             `json:"in_flight"`
	Queued        int64             `json:"queued"`
	Backlog       int64             `json:"backlog"`
	Gaps          uint64            `json:"gaps"`
	HeapBytes     uint64            `json:"heap_bytes"`
	Goroutines    int               `json:"goroutines"`
}

type clientJSON struct {
	ID            string          `json:"id"`
	Connected     bool            `json:"connected"`
	Gateway       string          `json:"gateway,omitempty"`
	Principal     string          `json:"principal,omitempty"`
	Durable       bool            `json:"durable"`
	Expiry        uint32          `json:"expiry_seconds"`
	Ends          *time.Time      `json:"ends,omitempty"`
	Subscriptions int             `json:"subscriptions"`
	Backlog       int64           `json:"backlog"`
	Will          bool            `json:"will"`
	Connection    *connectionJSON `json:"connection,omitempty"`
}

type connectionJSON struct {
	User      string    `json:"user,omitempty"`
	Remote    string    `json:"remote"`
	Listener  string    `json:"listener"`
	Version   string    `json:"version"`
	Since     time.Time `json:"since"`
	KeepAlive int       `json:"keep_alive_seconds"`
	InFlight  int       `json:"in_flight"`
	Queued    int       `json:"queued"`
	Outbox    int       `json:"outbox_bytes"`
	Traced    bool      `json:"traced"`
}

type subscriptionJSON struct {
	Filter            string `json:"filter"`
	QoS               byte   `json:"qos"`
	NoLocal           bool   `json:"no_local"`
	RetainAsPublished bool   `json:"retain_as_published"`
	ID                uint32 `json:"id,omitempty"`
}

type retainedJSON struct {
	Topic         string     `json:"topic"`
	QoS           byte       `json:"qos"`
	Publisher     string     `json:"publisher,omitempty"`
	Expires       *time.Time `json:"expires,omitempty"`
	Bytes         int        `json:"payload_bytes"`
	Truncated     bool       `json:"truncated,omitempty"`
	Payload       *string    `json:"payload,omitempty"`
	PayloadBase64 *string    `json:"payload_base64,omitempty"`
}

type subscriberJSON struct {
	Client    string   `json:"client"`
	Connected bool     `json:"connected"`
	Gateway   string   `json:"gateway,omitempty"`
	QoS       byte     `json:"qos"`
	Filters   []string `json:"filters"`
	Shared    bool     `json:"shared,omitempty"`
}

type banJSON struct {
	Kind   backend.BanKind `json:"kind"`
	Value  string          `json:"value"`
	Reason string          `json:"reason,omitempty"`
	Since  time.Time       `json:"since"`
	Until  *time.Time      `json:"until,omitempty"`
}
