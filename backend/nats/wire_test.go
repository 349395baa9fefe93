package nats

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-mqtt/sluice/backend"
)

// wired returns both ends of a connection that takes little before it is read.
func wired(t *testing.T) (*wire, *net.TCPConn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	near, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	far, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = near.Close(), far.Close() })
	_ = near.(*net.TCPConn).SetWriteBuffer(64 << 10)
	_ = far.(*net.TCPConn).SetReadBuffer(64 << 10)
	for _, c := range []net.Conn{near, far} {
		if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
	}
	return newWire(near, func() {}), far.(*net.TCPConn)
}

// TestTryDoesNotWait: a full socket takes a part; the rest goes before all that
// is written afterwards, whoever writes it.
func TestTryDoesNotWait(t *testing.T) {
	w, far := wired(t)
	big := bytes.Repeat([]byte("0123456789"), 200_000)
	begun, more, err := w.try(big)
	if !begun || !more || err != nil {
		t.Fatalf("try: begun %t, more %t, %v", begun, more, err)
	}
	if begun, _, err := w.try([]byte("x")); begun || err != nil {
		t.Fatalf("try before the rest: begun %t, %v", begun, err)
	}
	read := make(chan []byte, 1)
	go func() { // ends with what is expected, or the deadline
		got := make([]byte, len(big)+len("PING"))
		n, _ := io.ReadFull(far, got)
		read <- got[:n]
	}()
	if _, err := w.Write([]byte("PING")); err != nil {
		t.Fatal(err)
	}
	if got := <-read; !bytes.Equal(got, append(big, "PING"...)) {
		t.Errorf("%d bytes came that are not those that were written", len(got))
	}
	if begun, more, err := w.try([]byte("x")); !begun || more || err != nil {
		t.Errorf("try of an idle connection: begun %t, more %t, %v", begun, more, err)
	}
	_ = w.Close()
	if _, _, err := w.try([]byte("x")); err == nil {
		t.Error("no error of a connection that is closed")
	}
}

// TestTryLeavesItToOthers: while somebody writes, another does not wait.
func TestTryLeavesItToOthers(t *testing.T) {
	w, _ := wired(t)
	w.mu.Lock()
	defer w.mu.Unlock()
	if begun, _, err := w.try([]byte("x")); begun || err != nil {
		t.Errorf("begun %t, %v", begun, err)
	}
}

// payloads reads n operations that publish and returns the size of their payloads.
func payloads(t *testing.T, from io.Reader, n int) []int {
	t.Helper()
	in := bufio.NewReader(from)
	var sizes []int
	for range n {
		line, err := in.ReadString('\n')
		if err != nil {
			t.Fatalf("after %d operations: %v", len(sizes), err)
		}
		var subject string
		var size int
		if _, err := fmt.Sscanf(line, "PUB %s %d\r\n", &subject, &size); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		body := make([]byte, size+2)
		if _, err := io.ReadFull(in, body); err != nil || string(body[size:]) != "\r\n" {
			t.Fatalf("%q: %v", body, err)
		}
		sizes = append(sizes, size)
	}
	return sizes
}

// TestFlushWritesItself: what may wait is not written before a flush, which needs
// no writer.
func TestFlushWritesItself(t *testing.T) {
	w, far := wired(t)
	o := ready(1 << 20)
	o.link.wire, o.link.bare = w, true
	for _, topic := range []string{"a", "a", "b"} {
		if err := o.publish(t.Context(), &backend.Message{Topic: topic}, true); err != nil {
			t.Fatal(err)
		}
	}
	_ = far.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
	if n, _ := far.Read(make([]byte, 1)); n > 0 {
		t.Error("written before the flush")
	}
	_ = far.SetReadDeadline(time.Now().Add(time.Minute))
	o.flush()
	payloads(t, far, 2)
	if o.writing || o.hurry || o.unfinished || len(o.pending.items) > 0 {
		t.Error("something is left to the writer")
	}
	_ = w.Close()
	if err := o.publish(t.Context(), &backend.Message{Topic: "a"}, true); err != nil {
		t.Fatal(err)
	}
	o.flush()
	if !o.link.isDown() || o.counts().lost != 1 {
		t.Errorf("a write failed: link down %t, %d lost", o.link.isDown(), o.counts().lost)
	}
}

// TestFlushOfAFullSocket: with many who flush and a server that reads slowly, the
// writer ends what they have begun; all of it comes, and in order.
func TestFlushOfAFullSocket(t *testing.T) {
	const callers, each = 4, 200
	w, far := wired(t)
	o := ready(1 << 20)
	o.link.wire, o.link.bare = w, true
	var done sync.WaitGroup
	done.Go(o.run) // ends with close
	for c := range callers {
		done.Go(func() {
			for n := range each {
				m := &backend.Message{Topic: fmt.Sprintf("t%d/%d", c, n), Payload: []byte(strings.Repeat("p", 1000+n))}
				if err := o.publish(context.Background(), m, n%5 > 0); err != nil {
					t.Errorf("publish: %v", err)
					return
				}
				o.flush()
			}
		})
	}
	sizes := payloads(t, far, callers*each)
	o.close()
	done.Wait()
	sum := 0
	for _, s := range sizes {
		sum += s
	}
	if want := int(o.counts().bytes); sum != want || o.counts().lost > 0 {
		t.Errorf("%d bytes came, %d were sent, %d messages lost", sum, want, o.counts().lost)
	}
}

// TestHurryEndsWithTheConnection: what was to be hurried and was dropped with its
// connection does not keep what comes later from being written.
func TestHurryEndsWithTheConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		o := ready(1 << 20)
		go o.run() // ends with close
		synctest.Wait()
		publish := func() {
			t.Helper()
			if err := o.publish(t.Context(), &backend.Message{Topic: "a"}, false); err != nil {
				t.Fatal(err)
			}
		}
		o.writing = true // somebody flushes
		publish()
		o.detach(errors.New("lost"))
		o.writing = false
		next := &link{maxPayload: 1 << 20, dialer: &dialer{}, down: make(chan struct{}), bare: true, wire: newWire(near, func() {})}
		o.attach(next)
		o.open()
		publish()
		_ = far.SetReadDeadline(time.Now().Add(time.Minute))
		payloads(t, far, 1)
		o.close()
	})
}
