package gateway

import (
	"io"
	"os"
	"sync"
	"syscall"
)

const (
	// readBuffer is what one read can bring. Buffers belong to a reader only
	// while it has something to read.
	readBuffer = 32 << 10
	// smallRead is the buffer that a connection without non-blocking access
	// holds while it waits.
	smallRead = 512
)

var readBuffers = sync.Pool{New: func() any { b := new([readBuffer]byte); return b }}

// readAll hands every read to process, which returns false to stop, until the
// connection is over. Bytes of an incomplete packet are in c.held in between.
func (c *conn) readAll(process func([]byte) bool) {
	if c.raw == nil {
		c.readBlocking(process)
		return
	}
	// One RawRead for the whole life: its callback is called whenever the
	// socket may have something, and the goroutine is parked in between
	// without any buffer.
	err := c.raw.Read(func(fd uintptr) bool {
		for {
			buf := readBuffers.Get().(*[readBuffer]byte)
			n, err := syscall.Read(int(fd), buf[:])
			goOn, wait := true, false
			switch {
			case n > 0:
				goOn = process(buf[:n])
			case err == nil:
				c.lost(io.EOF)
				goOn = false
			case err == syscall.EAGAIN:
				wait = true
			case err != syscall.EINTR:
				c.lost(os.NewSyscallError("read", err))
				goOn = false
			}
			readBuffers.Put(buf)
			if !goOn {
				return true
			}
			if wait {
				return false
			}
		}
	})
	if err != nil {
		c.lost(err)
	}
}

func (c *conn) readBlocking(process func([]byte) bool) {
	small := make([]byte, smallRead)
	for {
		n, err := c.nc.Read(small)
		if n > 0 && !process(small[:n]) {
			return
		}
		for n == smallRead && err == nil {
			// More is likely to be there.
			buf := readBuffers.Get().(*[readBuffer]byte)
			n, err = c.nc.Read(buf[:])
			goOn := n == 0 || process(buf[:n])
			readBuffers.Put(buf)
			if !goOn {
				return
			}
			if n == readBuffer {
				n = smallRead
			}
		}
		if err != nil {
			c.lost(err)
			return
		}
	}
}

// firstPacket reads until enough of a packet is there for parse to say that it
// is done, or until the deadline of the connection. It takes memory only for
// what has come.
func (c *conn) firstPacket(parse func(b []byte) (done bool)) {
	c.readAll(func(b []byte) bool {
		c.held = append(c.held, b...)
		return !parse(c.held)
	})
}
