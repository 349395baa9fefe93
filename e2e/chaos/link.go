package chaos

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"time"

	"github.com/sluice-mqtt/sluice/e2e/wire"
)

const (
	dialLimit    = 3 * time.Second
	connackLimit = 8 * time.Second // of a gateway that waits for the store
	writeLimit   = 5 * time.Second
	// pingEvery and pingLimit: a gateway that is paused, or that stands behind
	// a cut, is given up.
	pingEvery = time.Second
	pingLimit = 6 * time.Second
	// backOff is the longest pause between two attempts to connect.
	backOff = time.Second
)

// link is one connection of a client.
type link struct {
	conn    net.Conn
	version wire.Version
	connack wire.Connack
	packets chan wire.Packet // closed at its end
	done    chan struct{}    // closed by drop
	err     error            // set when packets is closed
	pinged  time.Time
	heard   time.Time
}

// refusal is a CONNACK that says no, or nothing in time.
var errRefused = errors.New("refused")

// open connects and waits for CONNACK.
func open(ctx context.Context, address string, p wire.Connect) (*link, error) {
	ctx, cancel := context.WithTimeout(ctx, dialLimit)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	l := &link{conn: conn, version: p.Version, packets: make(chan wire.Packet, 64), done: make(chan struct{})}
	if err := l.send(p); err != nil {
		conn.Close()
		return nil, err
	}
	in := bufio.NewReader(conn)
	conn.SetReadDeadline(time.Now().Add(connackLimit))
	first, err := wire.Read(in, l.version)
	if err != nil {
		conn.Close()
		return nil, err
	}
	var ok bool
	if l.connack, ok = first.(wire.Connack); !ok || l.connack.Code != 0 {
		conn.Close()
		return nil, fmt.Errorf("%w: %T%+v", errRefused, first, first)
	}
	conn.SetReadDeadline(time.Time{})
	l.heard, l.pinged = time.Now(), time.Now()
	go l.read(in) // ends when the connection is closed
	return l, nil
}

func (l *link) read(in *bufio.Reader) {
	defer close(l.packets)
	for {
		p, err := wire.Read(in, l.version)
		if err != nil {
			l.err = err
			return
		}
		select {
		case l.packets <- p:
		case <-l.done:
			l.err = net.ErrClosed
			return
		}
	}
}

func (l *link) send(packets ...wire.Packet) error {
	var b []byte
	for _, p := range packets {
		b = append(b, wire.Encode(p, l.version)...)
	}
	l.conn.SetWriteDeadline(time.Now().Add(writeLimit))
	_, err := l.conn.Write(b)
	return err
}

// tick pings, and says whether the server has been silent for too long.
func (l *link) tick() error {
	now := time.Now()
	if now.Sub(l.heard) > pingLimit {
		return errors.New("no answer to PINGREQ")
	}
	if now.Sub(l.pinged) < pingEvery {
		return nil
	}
	l.pinged = now
	return l.send(wire.Pingreq{})
}

// drop closes the connection without a word.
func (l *link) drop() {
	close(l.done)
	l.conn.Close()
}

// pause waits before the next attempt to connect.
func pause(ctx context.Context, attempt int) {
	limit := min(backOff, 20*time.Millisecond<<min(attempt, 10))
	select {
	case <-time.After(rand.N(limit) + time.Millisecond):
	case <-ctx.Done():
	}
}
