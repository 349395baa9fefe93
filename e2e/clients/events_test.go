package clients_test

import (
	"fmt"
	"sync"
	"time"

	"github.com/sluice-mqtt/sluice/e2e/clients/line"
)

// events is the unread part of what a connection told of by itself. It has no
// limit: the tests publish a known, small number.
type events struct {
	mu    sync.Mutex
	queue []line.Report
	more  chan struct{} // has room for one: something was added
}

func newEvents() *events { return &events{more: make(chan struct{}, 1)} }

func (e *events) add(r line.Report) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.queue = append(e.queue, r)
	select {
	case e.more <- struct{}{}:
	default:
	}
}

// event waits for the next event.
func (e *events) event() (line.Report, error) {
	late := time.After(patience)
	for {
		e.mu.Lock()
		if len(e.queue) > 0 {
			r := e.queue[0]
			e.queue = e.queue[1:]
			e.mu.Unlock()
			return r, nil
		}
		e.mu.Unlock()
		select {
		case <-e.more:
		case <-late:
			return line.Report{}, fmt.Errorf("nothing arrived within %v", patience)
		}
	}
}
