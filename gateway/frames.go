package gateway

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"time"
	"unicode/utf8"
)

const (
	// webSocketParting is how long the frame that tells the peer why it is
	// disconnected may take. The socket's buffer takes it at once, or the peer
	// does not read and would not learn it either way.
	webSocketParting = 20 * time.Millisecond
	// webSocketPatience is how long a pong may take. A client that pings and
	// does not read loses its connection.
	webSocketPatience = 5 * time.Second
)

// Opcodes (RFC 6455 §5.2); those from opClose on are of control frames.
const (
	opContinue = 0x0
	opText     = 0x1
	opBinary   = 0x2
	opClose    = 0x8
	opPing     = 0x9
	opPong     = 0xA
)

// Status codes of close frames (RFC 6455 §7.4.1).
const (
	closeNormal      = 1000
	closeProtocol    = 1002
	closeUnsupported = 1003
	closeInvalid     = 1007
)

// maxControl is the longest payload of a control frame (RFC 6455 §5.5).
const maxControl = 125

// errTextFrame ends a connection that sent something else than binary frames.
var errTextFrame = errors.New("websocket: text frame [MQTT-6.0.0-1]")

// webSocketConn is the stream of bytes that the frames on a connection carry.
// It holds no buffer: frames are taken apart in the bytes they came in. One
// goroutine reads.
type webSocketConn struct {
	net.Conn        // below the frames
	early    []byte // came with the upgrade request

	// The frame that is being read.
	head     [14]byte // its header, of which have bytes are there
	have     uint8
	payload  bool // the header is complete
	opcode   byte
	turned   uint8  // bytes of the payload so far, modulo the mask's 4
	left     uint64 // bytes of the payload to come
	message  bool   // a message of several frames goes on
	control  []byte // payload of a control frame so far
	readOver error  // nothing more is read

	// emit, if set, sends control frames; messages are framed there too.
	emit func(opcode byte, payload []byte)

	write  sync.Mutex // makes frames whole; guards what follows
	broken error      // a frame was left half done
	closed bool       // a close frame was written
	out    [10]byte   // header of the frame being written
	two    [2][]byte
	parts  net.Buffers // of two; here because it would escape
}

// NetConn returns the connection below, as that of a tls.Conn does.
func (c *webSocketConn) NetConn() net.Conn { return c.Conn }

// Read reads what the peer's binary messages contain. It returns io.EOF after
// the peer's close frame.
func (c *webSocketConn) Read(p []byte) (n int, err error) {
	for n == 0 && err == nil && len(p) > 0 {
		if n, err = c.takeEarly(p); n > 0 || err != nil {
			break
		}
		if c.readOver != nil {
			return 0, c.readOver
		}
		var got int
		if got, err = c.Conn.Read(p); got > 0 {
			var fault error
			if n, fault = c.decode(p[:got]); fault != nil {
				err = fault
			}
		}
	}
	if n > 0 {
		err = nil // It comes again.
	}
	return n, err
}

// takeEarly is Read of what came with the request. It returns 0, nil when
// nothing is left of it.
func (c *webSocketConn) takeEarly(p []byte) (n int, err error) {
	for n == 0 && err == nil && len(c.early) > 0 {
		got := copy(p, c.early)
		if c.early = c.early[got:]; len(c.early) == 0 {
			c.early = nil
		}
		n, err = c.decode(p[:got])
	}
	return n, err
}

// decode takes bytes of frames, and moves what they carry to the beginning of
// b. N bytes may come with an error, which is the end: io.EOF after a close
// frame. Pings are answered.
func (c *webSocketConn) decode(b []byte) (n int, err error) {
	for at := 0; at < len(b) && c.readOver == nil; {
		if !c.payload {
			c.head[c.have] = b[at]
			c.have++
			at++
			if int(c.have) < headSize(c.head[:c.have]) {
				continue
			}
			if c.readOver = c.begin(); c.readOver != nil {
				break
			}
		}
		m := int(min(c.left, uint64(len(b)-at)))
		part := b[at : at+m]
		c.unmask(part)
		at += m
		c.left -= uint64(m)
		if c.opcode < opClose {
			n += copy(b[n:], part)
		} else {
			c.control = append(c.control, part...)
		}
		if c.left == 0 {
			c.readOver = c.end()
		}
	}
	return n, c.readOver
}

// headSize is how long a frame's header is, as far as can be told.
func headSize(head []byte) int {
	const least = 2 + 4 // with the mask
	if len(head) < 2 {
		return least
	}
	if head[1]&0x80 == 0 {
		return 2 // without a mask it is of no use
	}
	switch head[1] & 0x7F {
	case 126:
		return least + 2
	case 127:
		return least + 8
	}
	return least
}

// begin looks at a header that is complete.
func (c *webSocketConn) begin() error {
	c.payload, c.turned = true, 0
	final := c.head[0]&0x80 != 0
	c.opcode = c.head[0] & 0x0F
	switch c.left = uint64(c.head[1] & 0x7F); c.left {
	case 126:
		c.left = uint64(binary.BigEndian.Uint16(c.head[2:]))
	case 127:
		c.left = binary.BigEndian.Uint64(c.head[2:])
	}
	switch {
	case c.head[0]&0x70 != 0:
		return c.fault(closeProtocol, "reserved bit")
	case c.head[1]&0x80 == 0: // RFC 6455 §5.1
		return c.fault(closeProtocol, "frame without a mask")
	case c.left > 1<<63-1:
		return c.fault(closeProtocol, "length above 2^63-1")
	case c.opcode >= opClose && (!final || c.left > maxControl): // §5.5
		return c.fault(closeProtocol, "control frame too long or in parts")
	case c.opcode == opClose, c.opcode == opPing, c.opcode == opPong:
		return nil
	case c.opcode == opContinue && !c.message:
		return c.fault(closeProtocol, "continues no message")
	case c.opcode == opText:
		c.part(closeUnsupported)
		return errTextFrame
	case c.opcode == opBinary && c.message: // §5.4
		return c.fault(closeProtocol, "message within a message")
	case c.opcode > opBinary:
		return c.fault(closeProtocol, "opcode is reserved")
	}
	c.message = !final
	return nil
}

// unmask undoes the mask of the next bytes of the payload (RFC 6455 §5.3).
func (c *webSocketConn) unmask(b []byte) {
	key := c.head[c.have-4 : c.have]
	var turned [8]byte // the mask, from the place that has come
	for i := range turned {
		turned[i] = key[(int(c.turned)+i)%4]
	}
	c.turned = uint8((int(c.turned) + len(b)) % 4)
	mask := binary.NativeEndian.Uint64(turned[:])
	for len(b) >= 8 {
		binary.NativeEndian.PutUint64(b, binary.NativeEndian.Uint64(b)^mask)
		b = b[8:]
	}
	for i := range b {
		b[i] ^= turned[i]
	}
}

// end is called when a frame is complete.
func (c *webSocketConn) end() error {
	c.payload, c.have = false, 0
	control := c.control
	c.control = nil
	switch c.opcode {
	case opPing:
		if c.emit != nil {
			c.emit(opPong, control)
			return nil
		}
		// Nothing else bounds this write, which holds up the reader.
		late := time.AfterFunc(webSocketPatience, func() { c.Close() })
		defer late.Stop()
		c.writeFrame(opPong, control) // An error is the writer's.
	case opClose:
		if len(control) > 0 && !closeSound(control) {
			return c.fault(closeProtocol, "close frame with a bad status")
		}
		if len(control) > 2 && !utf8.Valid(control[2:]) {
			return c.fault(closeInvalid, "close frame with a bad reason")
		}
		return io.EOF
	}
	return nil
}

// closeSound checks the status of a close frame: one of those that the
// standard gives a meaning on the wire, or of an extension's or application's.
func closeSound(payload []byte) bool {
	if len(payload) < 2 {
		return false
	}
	code := binary.BigEndian.Uint16(payload)
	switch {
	case code >= 1004 && code <= 1006, code == 1015:
		return false
	}
	return code >= 1000 && code <= 1015 || code >= 3000 && code < 5000
}

// fault ends reading for a breach of RFC 6455, after an attempt to say so.
func (c *webSocketConn) fault(code uint16, what string) error {
	c.part(code)
	return errors.New("websocket: " + what)
}

// part tells the peer why nothing more is read, if it takes that at once.
func (c *webSocketConn) part(code uint16) {
	if c.emit != nil {
		c.emit(opClose, binary.BigEndian.AppendUint16(nil, code))
		c.closed = true
		return
	}
	if !c.write.TryLock() {
		return // a peer that does not read what is being written would not read this
	}
	c.write.Unlock()
	c.SetWriteDeadline(time.Now().Add(webSocketParting))
	c.writeClose(code)
}

// Write sends p as one binary message in one frame.
func (c *webSocketConn) Write(p []byte) (int, error) { return c.writeFrame(opBinary, p) }

// writeFrame writes one frame, in one system call where the connection can. It
// returns how much of the payload was written.
func (c *webSocketConn) writeFrame(opcode byte, payload []byte) (int, error) {
	c.write.Lock()
	defer c.write.Unlock()
	return c.writeLocked(opcode, payload)
}

func (c *webSocketConn) writeLocked(opcode byte, payload []byte) (int, error) {
	switch {
	case c.broken != nil:
		return 0, c.broken
	case c.closed:
		return 0, net.ErrClosed
	}
	head := appendFrameHeader(c.out[:0], opcode, len(payload))
	c.two = [2][]byte{head, payload}
	c.parts = c.two[:]
	written, err := c.parts.WriteTo(c.Conn)
	c.two = [2][]byte{}
	c.broken, c.closed = err, opcode == opClose
	return max(0, int(written)-len(head)), err
}

// appendFrameHeader appends the header of a frame with n bytes (RFC 6455 §5.2).
func appendFrameHeader(b []byte, opcode byte, n int) []byte {
	b = append(b, 0x80|opcode)
	switch {
	case n < 126:
		return append(b, byte(n))
	case n <= 0xFFFF:
		return binary.BigEndian.AppendUint16(append(b, 126), uint16(n))
	}
	return binary.BigEndian.AppendUint64(append(b, 127), uint64(n))
}

// CloseWrite sends a close frame, unless that has been done, and ends the
// outgoing half of the connection.
func (c *webSocketConn) CloseWrite() error {
	if err := c.writeClose(closeNormal); err != nil {
		return err
	}
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

func (c *webSocketConn) writeClose(code uint16) error {
	c.write.Lock()
	defer c.write.Unlock()
	if c.closed {
		return nil
	}
	_, err := c.writeLocked(opClose, binary.BigEndian.AppendUint16(nil, code))
	return err
}
