package gateway

import (
	"context"
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

// readAll hands every read to process, until that returns false to stop, or the
// connection is over. Bytes of an incomplete packet are in c.held in between.
func (c *conn) readAll(process func([]byte) bool) {
	if c.raw == nil {
		c.readBlocking(process)
		return
	}
	if !c.readEarly(process) {
		return
	}
	// One RawRead for as long as the goroutine lasts: its callback is called
	// whenever the socket may have something, and the goroutine is parked in
	// between without any buffer.
	err := c.raw.Read(func(fd uintptr) bool {
		for {
			buf := readBuffers.Get().(*[readBuffer]byte)
			n, err := readNow(int(fd), buf[:])
			goOn := err == nil
			switch {
			case err != nil:
				c.lost(err)
			case n > 0:
				goOn = c.unwrap(process, buf[:n])
			}
			readBuffers.Put(buf)
			if !goOn {
				return true
			}
			if c.pace != nil {
				c.pace.rest(context.Background(), c)
			}
			if n == 0 {
				return false
			}
		}
	})
	if err != nil {
		c.lost(err)
	}
}

// readEarly processes what came before the first read, and was left of it.
func (c *conn) readEarly(process func([]byte) bool) (goOn bool) {
	if c.frames != nil && c.frames.early != nil {
		early := c.frames.early
		c.frames.early = nil
		if !c.unframe(process, early) {
			return false
		}
	}
	return c.tls == nil || c.decrypt(process, nil)
}

// unwrap processes what the bytes carry that came from the socket.
func (c *conn) unwrap(process func([]byte) bool, b []byte) (goOn bool) {
	if c.tls != nil {
		return c.decrypt(process, b)
	}
	return c.unframe(process, b)
}

// unframe processes bytes, or what they carry where they are WebSocket frames.
func (c *conn) unframe(process func([]byte) bool, b []byte) (goOn bool) {
	if c.frames == nil {
		return process(b)
	}
	n, err := c.frames.decode(b)
	if n > 0 && !process(b[:n]) {
		return false
	}
	if err != nil {
		c.lost(err)
	}
	return err == nil
}

// readBlocking reads where there is no non-blocking access. The connection
// holds a small buffer while it waits.
func (c *conn) readBlocking(process func([]byte) bool) {
	small := make([]byte, smallRead)
	for more := false; ; {
		var n int
		var err error
		goOn := true
		if !more {
			if n, err = c.nc.Read(small); n > 0 {
				goOn = process(small[:n])
			}
			more = n == len(small)
		} else {
			buf := readBuffers.Get().(*[readBuffer]byte)
			if n, err = c.nc.Read(buf[:]); n > 0 {
				goOn = process(buf[:n])
			}
			readBuffers.Put(buf)
			more = n == readBuffer
		}
		if !goOn {
			return
		}
		if err != nil {
			c.lost(err)
			return
		}
		if c.pace != nil {
			c.pace.rest(context.Background(), c)
		}
	}
}

// readNow reads what is there: 0 and nil if nothing is, io.EOF if nothing will
// be.
func readNow(fd int, b []byte) (int, error) {
	for {
		n, err := syscall.Read(fd, b)
		switch {
		case n > 0:
			return n, nil
		case err == nil:
			return 0, io.EOF
		case err == syscall.EAGAIN:
			return 0, nil
		case err != syscall.EINTR:
			return 0, os.NewSyscallError("read", err)
		}
	}
}
