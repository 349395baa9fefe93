package events

import (
	"context"
	"encoding/json"
	"time"
)

// flushLimit is how long a server may take to confirm a batch.
const flushLimit = 5 * time.Second

// Conn is the part of a connection to NATS that is used.
type Conn interface {
	// Publish may only queue; Flush waits until the server has what was
	// published before.
	Publish(subject string, data []byte) error
	FlushWithContext(ctx context.Context) error
}

// NATS is a [Sink] that publishes each record on a subject of its kind.
type NATS struct {
	conn   Conn
	prefix string
}

// NewNATS publishes on <prefix>.<kind>.
func NewNATS(c Conn, prefix string) *NATS { return &NATS{conn: c, prefix: prefix + "."} }

// Name is "nats".
func (*NATS) Name() string { return "nats" }

// Send publishes the records and waits for the server.
func (n *NATS) Send(ctx context.Context, records []Record) error {
	for i := range records {
		text, err := json.Marshal(&records[i])
		if err != nil {
			return &RefusedError{err}
		}
		if err := n.conn.Publish(n.prefix+records[i].Kind, text); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, flushLimit)
	defer cancel()
	return n.conn.FlushWithContext(ctx)
}
