package gateway

import (
	"net"
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
	control []byte // a WebSocket frame that goes behind it, whole
	pending int    // bytes that are being written
	records uint32 // bytes of TLS records that the reader has made
	parted  bool   // a close frame was written: nothing goes behind it
	writing bool   // a flush or the writer is at it
	// blocked: in a loop, the socket took no more. Rest, from at on, is written
	// when the loop says that it does; whoever clears blocked is at it.
	blocked bool
	rest    []byte
	at      int
	late    *time.Timer   // ends the connection when nothing moves
	due     time.Duration // of late
	shed    net.Conn      // to be closed when the writer is done with it
	// idle is signalled when writing ends, if somebody waits.
	idle chan struct{}
}

func (o *outbox) size() int { return len(o.buf) + o.pending + int(o.records) }

func (o *outbox) empty() bool { return len(o.buf)+len(o.control) == 0 && o.records == 0 }

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
	if c.box.writing || c.box.empty() {
		c.mu.Unlock()
		return
	}
	c.box.writing = true
	b, control := c.box.takeLocked()
	w := wire{c.raw, c.loop, c.fd}
	c.mu.Unlock()
	c.drain(w, c.seal(b, control), 0)
}

// wire is how to write to a connection without waiting, if at all. One that was
// taken when writing began is good until writing ends, even if the connection
// moves into a loop meanwhile.
type wire struct {
	raw  syscall.RawConn
	loop *loop
	fd   int // in the loop
}

// takeLocked takes what is to be written next.
func (o *outbox) takeLocked() (b, control []byte) {
	b, control = o.buf, o.control
	o.buf, o.control, o.records, o.pending = nil, nil, 0, len(b)
	if o.parted {
		return nil, nil
	}
	o.parted = closes(control)
	return b, control
}

// closes reports whether a frame is a close frame.
func closes(frame []byte) bool { return len(frame) > 0 && frame[0]&0x0F == opClose }

// seal makes of what was taken what goes to the socket.
func (c *conn) seal(b, control []byte) []byte {
	if len(b) > 0 && c.traced.Load() {
		c.traceFrames("out", b)
	}
	if c.frames != nil {
		whole := getBuffer()
		if len(b) > 0 {
			whole = append(appendFrameHeader(whole, opBinary, len(b)), b...)
			putBuffer(b)
		}
		b = append(whole, control...)
	}
	if c.tls != nil {
		b = c.encrypt(b)
	}
	return b
}

// drain writes b from n on, and whatever has come meanwhile, until the socket is
// full or nothing is left. The caller is who writes.
func (c *conn) drain(w wire, b []byte, n int) {
	for {
		m, err := w.write(b[n:])
		c.g.stats.bytesSent.Add(uint64(m))
		n += m
		if err == nil && n < len(b) {
			if w.loop == nil {
				go c.write(b, n) // until the outbox is empty or the socket fails
				return
			}
			if err = c.block(b, n, m > 0); err == nil {
				return
			}
		}
		putBuffer(b)
		c.mu.Lock()
		if err != nil {
			c.brokenLocked()
			return
		}
		c.box.pending = 0
		if c.box.empty() {
			c.writtenLocked()
			return
		}
		next, control := c.box.takeLocked()
		c.mu.Unlock()
		b, n = c.seal(next, control), 0
	}
}

// block leaves the rest of b, from n on, to the loop.
func (c *conn) block(b []byte, n int, moved bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.loop.poll.announce(c.fd, true); err != nil {
		return err
	}
	c.box.blocked, c.box.rest, c.box.at, c.box.pending = true, b, n, len(b)-n
	if moved || c.box.late == nil {
		c.giveTimeLocked()
	}
	return nil
}

// writable goes on with what the socket of a connection in a loop did not take.
func (c *conn) writable() {
	c.mu.Lock()
	if !c.box.blocked {
		c.mu.Unlock()
		return
	}
	b, n := c.box.rest, c.box.at
	c.box.blocked, c.box.rest = false, nil
	w := wire{loop: c.loop, fd: c.fd}
	c.mu.Unlock()
	c.drain(w, b, n)
}

// giveTimeLocked bounds how long the socket of a connection in a loop may take
// nothing.
func (c *conn) giveTimeLocked() {
	patience := c.g.opt.Timing.Write
	if c.ended {
		patience = lingerTime
	}
	c.box.due = c.g.now() + patience
	if c.box.late == nil {
		c.box.late = time.AfterFunc(patience, c.tooLate)
	} else {
		c.box.late.Reset(patience)
	}
}

// tooLate ends a connection whose socket took nothing in time.
func (c *conn) tooLate() {
	c.mu.Lock()
	if !c.box.blocked || c.g.now() < c.box.due {
		c.mu.Unlock()
		return
	}
	c.box.blocked, c.box.rest = false, nil
	c.brokenLocked()
}

// emit sends a WebSocket control frame. One that has not left yet is replaced: of
// several pings the last is to be answered (RFC 6455 §5.5.3).
func (c *conn) emit(opcode byte, payload []byte) {
	c.mu.Lock()
	if !closes(c.box.control) {
		c.box.control = append(appendFrameHeader(nil, opcode, len(payload)), payload...)
	}
	c.mu.Unlock()
	c.flush()
}

// socket is what the outbox is written to.
func (c *conn) socket() net.Conn {
	switch {
	case c.tls != nil:
		return c.tls.Conn
	case c.frames != nil:
		return c.frames.Conn
	}
	return c.nc
}

// writtenLocked notes that the outbox is empty; it unlocks.
func (c *conn) writtenLocked() {
	c.doneWritingLocked()
	pump := len(c.tasks) > 0 || c.out.Missed() || c.out.Queued() > 0
	c.mu.Unlock()
	if pump {
		c.startPump()
	}
}

// doneWritingLocked ends what made writing true.
func (c *conn) doneWritingLocked() {
	c.box.writing = false
	if c.box.late != nil {
		c.box.late.Stop()
		c.box.late = nil
		c.loop.poll.announce(c.fd, false) // an error is the reader's to find
	}
	if c.box.shed != nil {
		c.box.shed.Close()
		c.box.shed = nil
	}
	if c.box.idle != nil {
		close(c.box.idle)
		c.box.idle = nil
	}
}

// brokenLocked drops the outbox of a socket that failed; it unlocks.
func (c *conn) brokenLocked() {
	c.box.buf, c.box.control, c.box.records, c.box.pending = nil, nil, 0, 0
	c.doneWritingLocked()
	if !c.ended {
		c.ended, c.endCode, c.endText = true, protocol.UnspecifiedError, "write failed"
	}
	c.mu.Unlock()
	c.interrupt()
}

// write writes what it can without waiting, which may be nothing.
func (w wire) write(b []byte) (n int, err error) {
	switch {
	case w.loop != nil:
		return writeNow(w.fd, b)
	case w.raw == nil:
		return 0, nil
	}
	r := rawWrites.Get().(*rawWrite)
	r.b = b
	err = w.raw.Write(r.do)
	if err == nil {
		err = r.err
	}
	n = r.n
	r.b, r.n, r.err = nil, 0, nil
	rawWrites.Put(r)
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
	w.n, w.err = writeNow(int(fd), w.b)
	return true
}

// writeNow writes until the socket is full.
func writeNow(fd int, b []byte) (n int, err error) {
	for n < len(b) {
		m, err := syscall.Write(fd, b[n:])
		switch err {
		case nil:
			n += m
		case syscall.EINTR:
		case syscall.EAGAIN:
			return n, nil
		default:
			return n, err
		}
	}
	return n, nil
}

// write is the writer of a connection whose socket was full. It writes b from
// n on, and then whatever has come meanwhile, until nothing is left.
func (c *conn) write(b []byte, n int) {
	patience := c.g.opt.Timing.Write
	c.mu.Lock()
	nc := c.box.shed
	if nc == nil {
		nc = c.socket()
	}
	c.mu.Unlock()
	for {
		for n < len(b) {
			nc.SetWriteDeadline(time.Now().Add(patience))
			m, err := nc.Write(b[n:min(len(b), n+writeChunk)])
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
		if c.box.empty() {
			nc.SetWriteDeadline(time.Time{})
			c.writtenLocked()
			return
		}
		next, control := c.box.takeLocked()
		c.mu.Unlock()
		b, n = c.seal(next, control), 0
	}
}

// wait flushes and waits until everything is written or the socket has failed,
// for about lingerTime at most while the client takes nothing.
func (c *conn) wait() {
	c.mu.Lock()
	if c.nc != nil {
		c.socket().SetWriteDeadline(time.Now().Add(lingerTime))
	}
	if c.box.shed != nil {
		c.box.shed.SetWriteDeadline(time.Now().Add(lingerTime))
	}
	if c.box.late != nil {
		c.giveTimeLocked()
	}
	c.mu.Unlock()
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
