package nats

import (
	"errors"
	"net"
	"slices"
	"testing"
	"testing/synctest"

	natsgo "github.com/nats-io/nats.go"

	"github.com/sluice-mqtt/sluice/backend"
)

// newTestLink returns a link that is not connected.
func newTestLink() *link {
	return &link{dialer: &dialer{}, in: make(chan *natsgo.Msg, inLink), down: make(chan struct{})}
}

// TestTakenBeforeReading: what the client library has parsed is with the handler's
// queue before the connection is read again, so that the library has nothing to
// drop and nobody else is to be woken for it.
func TestTakenBeforeReading(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, l := idle(t), newTestLink()
		near, far := net.Pipe()
		w := newWire(near, func() { b.receiver.drain(l) })
		frame := append(header{kind: kindNotice, cluster: b.out.cluster, sender: 7, sequence: 1}.append(nil),
			backend.AppendNotice(nil, &backend.Notice{Kind: backend.NoticeTakeover, Client: "c"})...)
		const frames = maxTaken + 10
		for n := range frames {
			next := slices.Clone(frame)
			next[fixedHeader] = byte(n % 120) // not all are repeats
			l.in <- &natsgo.Msg{Data: next}
		}
		read := make(chan error, 1)
		go func() { // ends with the connection
			_, err := w.Read(make([]byte, 10))
			read <- err
		}()
		synctest.Wait()
		if len(l.in) > 0 || b.queue.count == 0 {
			t.Errorf("%d frames wait, %d are taken, though the connection is being read", len(l.in), b.queue.count)
		}
		if len(read) > 0 {
			t.Error("a read without bytes ended")
		}
		_ = far.Close()
		if err := <-read; err == nil {
			t.Error("no error at the end of the connection")
		}
	})
}

// TestRefusalOfALostLink: the end of a link replaces the error that the client
// library keeps; what was refused must not pass for live.
func TestRefusalOfALostLink(t *testing.T) {
	l := newTestLink()
	cause := errors.New("refused")
	l.fail(cause)
	l.fail(backend.ErrClosed) // the first reason stays
	if err := l.refusal(); !errors.Is(err, cause) {
		t.Errorf("%v, want %v", err, cause)
	}
}
