package gateway

import (
	"sync"
	"syscall"
	"time"

	"github.com/sluice-mqtt/sluice/protocol"
)

// outbox holds encoded packets on their way to the socket. Deliveries append
// under the connection's lock; whoever has finished a batch of them flushes
// once. A flush writes without blocking, from the goroutine that asked; only
// when the socket is full does a writer goroutine take over, until it is empty
// again.
type outbox struct {
	buf     []byte // waits for the next flush
	pending int    // bytes that are being written
	writing bool   // a flush or the writer is at it
	// idle is signalled when writing ends, if somebody waits.
	idle chan struct{}
}

func (o *outbox) size() int { return len(o.buf) + o.pending }

const (
	// keptBuffer is the largest buffer that goes back to the pool.
	keptBuffer = 64 << 10
	// flushEarly is when a batch that is still going on writes all the same.
	flushEarly = 48 << 10
	// writeChunk is the most that one blocking write takes, so that the write
	// deadline measures progress and not the size of the backlog.
	writeChunk = 64 << 10
)

// buffers keeps outboxes that are not in use, holders the boxes that a slice
// header needs to be in a pool without allocating.
var (
	buffers = sync.Pool{New: func() any { b := make([]byte, 0, 4096); return &b }}
	holders = sync.Pool{New: func() any { return new([]byte) }}
)

func getBuffer() []byte {
	h := buffers.Get().(*[]byte)
	b := (*h)[:0]
	*h = nil
	holders.Put(h)
	return b
}

func putBuffer(b []byte) {
	if cap(b) == 0 || cap(b) > keptBuffer {
		return
	}
	h := holders.Get().(*[]byte)
	*h = b
	buffers.Put(h)
}

// grabLocked makes the outbox ready to append to.
func (c *conn) grabLocked() {
	if c.box.buf == nil {
		c.box.buf = getBuffer()
	}
}

// packLocked appends a packet, of which there are few and which must not be
// lost. A packet that can not be encoded is not sent [MQTT-3.14.4-3 and kin
// concern the next ones]; one above the client's maximum size is tried without
// what may be left out [MQTT-3.1.2-24].
func (c *conn) packLocked(p protocol.Packet) bool {
	c.grabLocked()
	at := len(c.box.buf)
	b, err := protocol.AppendPacket(c.box.buf, p, c.client.Version)
	if err != nil {
		c.g.log.Error("packet can not be encoded", "client", string(c.client.ID), "type", p.Type(), "err", err)
		return false
	}
	if c.maxPacket > 0 && uint32(len(b)-at) > c.maxPacket {
		slim, ok := slimmer(p)
		if !ok {
			return false
		}
		b, err = protocol.AppendPacket(c.box.buf, slim, c.client.Version)
		if err != nil || uint32(len(b)-at) > c.maxPacket {
			return false
		}
	}
	c.box.buf = b
	c.g.stats.packetsSent[p.Type()].Add(1)
	c.g.observePacket(EventPacketSent, c, p.Type())
	return true
}

// slimmer is the packet without reason string and user properties.
func slimmer(p protocol.Packet) (protocol.Packet, bool) {
	switch p := p.(type) {
	case *protocol.Connack:
		q := *p
		q.Reason, q.User = "", nil
		return &q, p.Reason != "" || p.User != nil
	case *protocol.Disconnect:
		q := *p
		q.Reason, q.User = "", nil
		return &q, p.Reason != "" || p.User != nil
	case *protocol.Suback:
		q := *p
		q.Reason, q.User = "", nil
		return &q, p.Reason != "" || p.User != nil
	case *protocol.Ack:
		q := *p
		q.Reason, q.User = "", nil
		return &q, p.Reason != "" || p.User != nil
	}
	return nil, false
}

func (g *Gateway) observePacket(k EventKind, c *conn, t protocol.Type) {
	if g.watched&k != 0 {
		g.observe(Event{Kind: k, Client: &c.client, Packet: t})
	}
}

// ackLocked appends an acknowledgement without properties.
func (c *conn) ackLocked(kind protocol.Type, packet uint16, code protocol.ReasonCode) {
	c.grabLocked()
	c.box.buf = protocol.AppendAck(c.box.buf, kind, packet, code, c.client.Version)
	c.g.stats.packetsSent[kind].Add(1)
	c.g.observePacket(EventPacketSent, c, kind)
}

// flush writes what the outbox holds, as far as the socket takes it.
func (c *conn) flush() {
	c.mu.Lock()
	if c.box.writing || len(c.box.buf) == 0 {
		c.mu.Unlock()
		return
	}
	c.box.writing = true
	for {
		buf := c.box.buf
		c.box.buf, c.box.pending = nil, len(buf)
		c.mu.Unlock()
		if c.traced.Load() {
			c.traceFrames("out", buf)
		}
		n, err := c.tryWrite(buf)
		c.g.stats.bytesSent.Add(uint64(n))
		if err == nil && n < len(buf) {
			go c.write(buf, n) // until the outbox is empty or the socket fails
			return
		}
		putBuffer(buf)
		c.mu.Lock()
		if err != nil {
			c.brokenLocked()
			return
		}
		c.box.pending = 0
		if len(c.box.buf) == 0 {
			c.writtenLocked()
			return
		}
	}
}

// writtenLocked notes that the outbox is empty; it unlocks.
func (c *conn) writtenLocked() {
	c.box.writing = false
	if c.box.idle != nil {
		close(c.box.idle)
		c.box.idle = nil
	}
	pump := len(c.tasks) > 0 || c.out.Missed() || c.out.Queued() > 0
	c.mu.Unlock()
	if pump {
		c.startPump()
	}
}

// brokenLocked drops the outbox of a socket that failed; it unlocks.
func (c *conn) brokenLocked() {
	c.box.buf, c.box.pending = nil, 0
	c.box.writing = false
	if c.box.idle != nil {
		close(c.box.idle)
		c.box.idle = nil
	}
	if !c.ended {
		c.ended, c.endCode, c.endText = true, protocol.UnspecifiedError, "write failed"
	}
	c.mu.Unlock()
	c.interrupt()
}

// tryWrite writes what it can without waiting. Where the connection has no
// non-blocking access it writes nothing.
func (c *conn) tryWrite(b []byte) (n int, err error) {
	if c.raw == nil || c.frames != nil {
		return 0, nil
	}
	w := rawWrites.Get().(*rawWrite)
	w.b = b
	err = c.raw.Write(w.do)
	if err == nil {
		err = w.err
	}
	n = w.n
	w.b, w.n, w.err = nil, 0, nil
	rawWrites.Put(w)
	return n, err
}

// rawWrite is one non-blocking write; do is write, made once.
type rawWrite struct {
	b   []byte
	n   int
	err error
	do  func(fd uintptr) bool
}

var rawWrites = sync.Pool{New: func() any {
	w := new(rawWrite)
	w.do = w.write
	return w
}}

// write writes until the socket is full. It never asks to be called again.
func (w *rawWrite) write(fd uintptr) bool {
	for w.n < len(w.b) {
		m, err := syscall.Write(int(fd), w.b[w.n:])
		switch err {
		case nil:
			w.n += m
		case syscall.EINTR:
		case syscall.EAGAIN:
			return true
		default:
			w.err = err
			return true
		}
	}
	return true
}

// write is the writer of a connection whose socket was full. It writes b from
// n on, and then whatever has come meanwhile, until nothing is left.
func (c *conn) write(b []byte, n int) {
	patience := c.g.opt.Timing.Write
	for {
		for n < len(b) {
			c.nc.SetWriteDeadline(time.Now().Add(patience))
			m, err := c.nc.Write(b[n:min(len(b), n+writeChunk)])
			n += m
			c.g.stats.bytesSent.Add(uint64(m))
			c.mu.Lock()
			if err != nil {
				c.brokenLocked()
				return
			}
			c.box.pending = len(b) - n
			if c.ended {
				patience = lingerTime
			}
			c.mu.Unlock()
		}
		putBuffer(b)
		c.mu.Lock()
		if len(c.box.buf) == 0 {
			c.nc.SetWriteDeadline(time.Time{})
			c.writtenLocked()
			return
		}
		b, n = c.box.buf, 0
		c.box.buf, c.box.pending = nil, len(b)
		c.mu.Unlock()
		if c.traced.Load() {
			c.traceFrames("out", b)
		}
	}
}

// wait flushes and waits until everything is written or the socket has failed,
// for about lingerTime at most while the client takes nothing.
func (c *conn) wait() {
	c.nc.SetWriteDeadline(time.Now().Add(lingerTime))
	c.flush()
	c.mu.Lock()
	if !c.box.writing {
		c.mu.Unlock()
		return
	}
	if c.box.idle == nil {
		c.box.idle = make(chan struct{})
	}
	idle := c.box.idle
	c.mu.Unlock()
	<-idle
}
