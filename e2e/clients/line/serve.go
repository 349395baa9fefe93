package line

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"sync"
)

// Out writes Reports. It may be used by many goroutines.
type Out struct {
	mu  sync.Mutex
	enc *json.Encoder
}

// NewOut returns an Out that writes to w.
func NewOut(w io.Writer) *Out { return &Out{enc: json.NewEncoder(w)} }

// Send writes one Report. A test that no longer listens is not an error: the
// program is about to see the end of its input.
func (o *Out) Send(r Report) {
	o.mu.Lock()
	defer o.mu.Unlock()
	_ = o.enc.Encode(r)
}

// Client is one connection of a Go program. Each method runs in a goroutine of
// its own and may block; the fields of Report that it must fill are the ones named
// in that type.
type Client interface {
	Subscribe(filters []Filter, id int) ([]int, error)
	Unsubscribe(filters []Filter) error
	Publish(messages []Message) error
	Disconnect(reason int) error
}

// Dial makes a connection and returns the answer to connect. It tells later events
// through event, which sets the connection's name.
type Dial func(c Connect, event func(Report)) (Client, Report, error)

// Serve reads Requests from in until it ends. Requests for one connection are
// carried out at the same time when the tests send them so.
func Serve(in io.Reader, out *Out, dial Dial) error {
	var mu sync.Mutex
	clients := map[string]Client{}
	lookup := func(name string) (Client, error) {
		mu.Lock()
		defer mu.Unlock()
		if c, ok := clients[name]; ok {
			return c, nil
		}
		return nil, fmt.Errorf("no connection %q", name)
	}
	do := func(q Request) (Report, error) {
		if q.Do == "connect" {
			c, r, err := dial(*q.Connect, func(e Report) { e.Conn = q.Conn; out.Send(e) })
			if err == nil {
				mu.Lock()
				clients[q.Conn] = c
				mu.Unlock()
			}
			return r, err
		}
		c, err := lookup(q.Conn)
		if err != nil {
			return Report{}, err
		}
		switch q.Do {
		case "subscribe":
			codes, err := c.Subscribe(q.Filters, q.SubscriptionID)
			return Report{Codes: codes}, err
		case "unsubscribe":
			return Report{}, c.Unsubscribe(q.Filters)
		case "publish":
			return Report{}, c.Publish(q.Messages)
		case "disconnect":
			mu.Lock()
			delete(clients, q.Conn)
			mu.Unlock()
			return Report{}, c.Disconnect(q.Reason)
		}
		return Report{}, fmt.Errorf("unknown request %q", q.Do)
	}

	lines := bufio.NewReader(in)
	for {
		text, err := lines.ReadBytes('\n')
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		var q Request
		if err := json.Unmarshal(text, &q); err != nil {
			return fmt.Errorf("request: %w", err)
		}
		go func() { // ends with its answer
			r, err := do(q)
			if err != nil {
				r.Error = err.Error()
			}
			r.N = q.N
			out.Send(r)
		}()
	}
}
