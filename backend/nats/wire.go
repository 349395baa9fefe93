package nats

import (
	"net"
	"strconv"
	"sync"
	"syscall"
)

// wire is the connection to a server, underneath the client library. What goes
// between gateways is taken off it, and put onto it, with as few goroutines
// waking each other as can be: each of them is a system call or two and, on a
// busy machine, the time until it gets a processor.
//
// The library gives what it has parsed to a channel, and then reads on: the
// moment before it does is when all of that is taken out. It writes by a
// goroutine that each publish wakes: messages and notices are written next to it
// here. Both write whole operations of the protocol, never parts, one at a time.
type wire struct {
	net.Conn
	parsed func() // takes what the library has parsed; called before each read

	raw  syscall.RawConn       // nil where nothing can be written without waiting
	once func(fd uintptr) bool // writes rest until the socket is full

	mu sync.Mutex // of who writes
	// rest is what try has left; it goes before all else. It belongs to the
	// outbox.
	rest  []byte
	fault error // of once
}

func newWire(c net.Conn, parsed func()) *wire {
	w := &wire{Conn: c, parsed: parsed}
	if s, ok := c.(syscall.Conn); ok {
		w.raw, _ = s.SyscallConn()
	}
	w.once = w.writeNow
	return w
}

func (w *wire) Read(b []byte) (int, error) {
	w.parsed()
	return w.Conn.Read(b)
}

func (w *wire) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.rest) > 0 {
		n, err := w.Conn.Write(w.rest)
		if w.rest = w.rest[n:]; err != nil {
			return 0, err
		}
	}
	if len(b) == 0 {
		return 0, nil // an empty record of TLS would be no operation
	}
	return w.Conn.Write(b)
}

// try writes b as far as that goes without waiting. It returns false if it has
// written nothing, since somebody else is at it or it can not be told what the
// connection takes. What it has begun and not finished is written by the next
// Write, and b not to be changed before; then more is true.
func (w *wire) try(b []byte) (begun, more bool, err error) {
	if w.raw == nil || !w.mu.TryLock() {
		return false, false, nil
	}
	defer w.mu.Unlock()
	if len(w.rest) > 0 {
		return false, false, nil
	}
	w.rest, w.fault = b, nil
	if err = w.raw.Write(w.once); err == nil {
		err = w.fault
	}
	return true, len(w.rest) > 0, err
}

// writeNow writes rest until the socket is full. It never asks to be called
// again.
func (w *wire) writeNow(fd uintptr) bool {
	for len(w.rest) > 0 {
		n, err := syscall.Write(int(fd), w.rest)
		switch err {
		case nil:
			w.rest = w.rest[n:]
		case syscall.EINTR:
		case syscall.EAGAIN:
			return true
		default:
			w.fault = err
			return true
		}
	}
	return true
}

// appendPub appends the operation that publishes a payload.
func appendPub(dst []byte, subject string, payload []byte) []byte {
	dst = append(append(dst, "PUB "...), subject...)
	dst = strconv.AppendInt(append(dst, ' '), int64(len(payload)), 10)
	dst = append(append(dst, "\r\n"...), payload...)
	return append(dst, "\r\n"...)
}
