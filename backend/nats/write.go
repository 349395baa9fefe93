package nats

import "fmt"

// take exchanges b for what the writer is to write, once there is something.
// It returns false when there will be nothing more. Until wrote is called
// nobody else writes.
func (o *outbox) take(b *batch) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	for {
		switch {
		case o.unfinished:
			o.unfinished = false
			*b, o.flushed = o.flushed, *b
			return true
		case o.writing: // who flushes; the end of it is signalled, if need be
		case len(o.pending.items) > 0 && (o.hurry || o.done):
			o.carry(b)
			return true
		case o.done:
			return false
		}
		if len(o.pending.items) == 0 {
			o.hurry = false // what it was for was dropped with its connection
		}
		o.ready.Wait()
	}
}

// carry exchanges b for what waits: it is being written. o.mu is held.
func (o *outbox) carry(b *batch) {
	b.reset()
	*b, o.pending = o.pending, *b
	b.link = o.link
	o.writing, o.hurry = true, false
	o.wake()
}

// wrote: what was taken is written.
func (o *outbox) wrote() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.writing = false
}

// run is the writer. It ends when close lets nothing more in and all is
// written.
func (o *outbox) run() {
	var b batch
	for o.take(&b) {
		if from, err := b.write(); err != nil {
			o.failed(&b, from, err)
		}
		o.wrote()
	}
}

// failed ends the link of b, whose items are lost from one on.
func (o *outbox) failed(b *batch, from int, err error) {
	b.link.fail(fmt.Errorf("write: %w", err))
	o.mu.Lock()
	defer o.mu.Unlock()
	o.drop(b.items[from:])
}

// flush writes what waits, as far as the connection takes it at once. While
// somebody else writes it is left to the writer: it goes with what comes
// meanwhile.
func (o *outbox) flush() {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case len(o.pending.items) == 0:
		return
	case o.writing || !o.link.bare || o.pending.controls > 0:
		o.ask()
		return
	}
	b := &o.flushed
	o.carry(b)
	o.mu.Unlock()
	b.encode()
	begun, more, err := b.link.wire.try(b.wire)
	if err != nil {
		o.failed(b, 0, err)
	}
	o.mu.Lock()
	if b.begun = begun; more || !begun {
		o.unfinished = true
		o.ready.Signal()
		return
	}
	o.writing = false
	if o.hurry || o.done {
		o.ready.Signal()
	}
}

// encode makes the operations of the protocol of a batch, but for its control
// frames.
func (b *batch) encode() {
	start := 0
	for i := range b.items {
		it := &b.items[i]
		if !it.control {
			b.wire = appendPub(b.wire, it.subject, b.buf[start:it.end])
		}
		start = it.end
	}
}

// write writes a batch. If that fails it returns the first item that was
// certainly not accepted; of those in front of it, nobody knows.
func (b *batch) write() (int, error) {
	if b.begun { // by who flushed: no control frame is in it
		_, err := b.link.wire.Write(nil)
		return 0, err
	}
	if b.link.bare {
		if len(b.wire) == 0 {
			b.encode()
		}
		if _, err := b.link.wire.Write(b.wire); err != nil || b.controls == 0 {
			return 0, err
		}
	}
	start := 0
	for i := range b.items {
		it := &b.items[i]
		if it.control || !b.link.bare {
			if err := b.link.nc.Publish(it.subject, b.buf[start:it.end]); err != nil {
				return i, err
			}
		}
		start = it.end
	}
	return 0, nil
}
