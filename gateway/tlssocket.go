package gateway

import (
	"crypto/tls"
	"net"
	"os"
	"sync"
	"time"
)

// tlsSocket is what TLS is spoken over. During the handshake it takes one of the
// gateway's places for handshakes, Limits.Handshakes, and gives it back while it
// waits for the peer: the places are for those that compute, and clients that say
// nothing keep nobody waiting.
//
// Of a connection that speaks MQTT the gateway itself reads and writes the socket,
// without waiting, and TLS only turns bytes into bytes: what came is put into in
// before TLS reads, and what TLS writes is found in out. So a connection with TLS
// lives in a loop like any other.
type tlsSocket struct {
	net.Conn           // nil in a loop
	conn     *tls.Conn // above

	places chan struct{} // nil when the handshake is over
	over   <-chan time.Time
	placed bool

	apart bool   // from Conn: Read and Write are of in and out
	in    []byte // the reader's

	mu      sync.Mutex
	out     []byte // records, in their order
	sealing bool   // the writer makes them
	answers uint32 // bytes that the reader has made since it was last asked
}

// nothingYet is the error of a Read that would have to wait. TLS goes on behind
// an error that is temporary.
type nothingYet struct{}

func (nothingYet) Error() string   { return "nothing to read yet" }
func (nothingYet) Timeout() bool   { return true }
func (nothingYet) Temporary() bool { return true }

var errNothingYet net.Error = nothingYet{}

// Read is called by TLS.
func (s *tlsSocket) Read(p []byte) (int, error) {
	switch {
	case s.apart && len(s.in) == 0:
		return 0, errNothingYet
	case s.apart:
		n := copy(p, s.in)
		s.in = s.in[n:]
		return n, nil
	case s.places == nil:
		return s.Conn.Read(p)
	}
	s.leave()
	n, err := s.Conn.Read(p)
	if err != nil {
		return n, err
	}
	select {
	case s.places <- struct{}{}:
		s.placed = true
		return n, nil
	case <-s.over:
		return 0, os.ErrDeadlineExceeded
	}
}

// Write is called by TLS, for whoever writes and, with alerts and new keys, for
// whoever reads.
func (s *tlsSocket) Write(p []byte) (int, error) {
	if !s.apart {
		return s.Conn.Write(p)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.out == nil {
		s.out = getBuffer()
	}
	s.out = append(s.out, p...)
	if !s.sealing {
		s.answers += uint32(len(p))
	}
	return len(p), nil
}

// SetWriteDeadline is called by TLS before it says goodbye. Writing apart does not
// wait.
func (s *tlsSocket) SetWriteDeadline(t time.Time) error {
	if s.apart {
		return nil
	}
	return s.Conn.SetWriteDeadline(t)
}

// seal makes records of b, and takes all that are to be written next.
func (s *tlsSocket) seal(b []byte) (out []byte, err error) {
	if len(b) > 0 {
		s.mu.Lock()
		s.sealing = true
		s.mu.Unlock()
		_, err = s.conn.Write(b)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	out, s.out, s.sealing = s.out, nil, false
	return out, err
}

// answered returns how many bytes of records the reader has made since the last call.
func (s *tlsSocket) answered() (n uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, s.answers = s.answers, 0
	return n
}

func (s *tlsSocket) leave() {
	if s.placed {
		<-s.places
		s.placed = false
	}
}

// NetConn returns the connection below, as that of a tls.Conn does.
func (s *tlsSocket) NetConn() net.Conn { return s.Conn }

// decrypt processes what the bytes of TLS records carry, and what TLS still has of
// those before. All that is complete is processed at once, as long as it fits into
// one buffer.
func (c *conn) decrypt(process func([]byte) bool, b []byte) (goOn bool) {
	s := c.tls
	if len(s.in) > 0 {
		b = append(s.in, b...)
	}
	s.in = b
	plain := readBuffers.Get().(*[readBuffer]byte)
	defer readBuffers.Put(plain)
	var err error
	for err == nil {
		n := 0
		for err == nil && n < len(plain) {
			var m int
			m, err = s.conn.Read(plain[n:])
			n += m
		}
		if answers := s.answered(); answers > 0 {
			c.mu.Lock()
			c.box.records += answers
			c.mu.Unlock()
			c.flush()
			if err := c.checkOutbox(); err != nil { // a client may ask for new keys without end
				c.fail(err)
				return false
			}
		}
		if n > 0 && !c.unframe(process, plain[:n]) {
			s.in = append([]byte(nil), s.in...) // not ours, and may be looked at again
			return false
		}
	}
	if err == errNothingYet {
		return true
	}
	c.lost(err)
	return false
}

// encrypt makes records of b, behind those that the reader has made, and takes b.
func (c *conn) encrypt(b []byte) []byte {
	records, err := c.tls.seal(b)
	if err != nil {
		c.lost(err)
		c.interrupt()
	}
	putBuffer(b)
	return records
}
