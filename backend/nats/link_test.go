package nats

import (
	"errors"
	"net"
	"testing"
	"testing/synctest"

	natsgo "github.com/nats-io/nats.go"

	"github.com/sluice-mqtt/sluice/backend"
)

// newTestLink returns a link that is not connected.
func newTestLink() *link {
	return &link{
		dialer: &dialer{}, in: make(chan *natsgo.Msg, inLink), taken: make(chan struct{}, 1),
		read: make(chan struct{}), down: make(chan struct{}),
	}
}

// TestReadingIsPaced: nothing is read from the connection while much waits for
// the receiver, so that the client library has nothing to drop.
func TestReadingIsPaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newTestLink()
		near, far := net.Pipe()
		defer func() { _ = near.Close() }()
		paced := &pacedConn{Conn: near, l: l}
		frame := &natsgo.Msg{Data: header{kind: kindProbe}.append(nil)}
		for len(l.in) <= highLink {
			l.in <- frame
		}
		read := make(chan error, 2)
		go func() { // ends with the link
			for {
				_, err := paced.Read(make([]byte, 10))
				read <- err
				if err != nil {
					return
				}
			}
		}()
		go func() { _, _ = far.Write([]byte("x")) }() // ends with the read
		synctest.Wait()
		if len(read) > 0 {
			t.Fatal("read although the receiver is behind")
		}
		b := idle(t)
		go b.receiver.run(l) // ends with the link
		synctest.Wait()
		if len(read) != 1 {
			t.Fatal("not read although the receiver has taken all")
		}
		if err := <-read; err != nil {
			t.Fatal(err)
		}
		_ = far.Close()
		if err := <-read; err == nil {
			t.Error("no error at the end of the connection")
		}
		l.fail(errNoEcho)
	})
}

// TestPacedReadEndsWithTheLink: a reader that waits for the receiver does not
// outlive the link.
func TestPacedReadEndsWithTheLink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newTestLink()
		for len(l.in) <= highLink {
			l.in <- &natsgo.Msg{}
		}
		read := make(chan error, 1)
		go func() { // ends with the link
			_, err := (&pacedConn{l: l}).Read(nil)
			read <- err
		}()
		synctest.Wait()
		l.fail(errNoEcho)
		if err := <-read; err == nil {
			t.Error("no error")
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
