// Command pahogolang is Eclipse Paho's Go client for MQTT 5 as a client of the
// end-to-end tests; see package line. It uses the plain client, or with the
// argument auto the one that connects again by itself and knows WebSocket.
package main

import (
	"context"
	"log"
	"os"
	"time"

	"github.com/eclipse/paho.golang/autopaho"
	"github.com/eclipse/paho.golang/paho"

	"github.com/sluice-mqtt/sluice/e2e/clients/line"
)

// patience bounds every wait for the server.
const patience = 30 * time.Second

func main() {
	dial := dialPlain
	if len(os.Args) > 1 && os.Args[1] == "auto" {
		dial = dialAuto
	}
	if err := line.Serve(os.Stdin, line.NewOut(os.Stdout), dial); err != nil {
		log.Fatal(err)
	}
}

// library is what the plain and the automatic client have in common.
type library interface {
	Subscribe(context.Context, *paho.Subscribe) (*paho.Suback, error)
	Unsubscribe(context.Context, *paho.Unsubscribe) (*paho.Unsuback, error)
	Publish(context.Context, *paho.Publish) (*paho.PublishResponse, error)
}

// connection is a library with the parts of line.Client that do not differ.
type connection struct{ library }

func (c connection) Subscribe(filters []line.Filter, id int) ([]int, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	s := &paho.Subscribe{}
	for _, f := range filters {
		s.Subscriptions = append(s.Subscriptions, paho.SubscribeOptions{
			Topic: f.Filter, QoS: byte(f.QoS), NoLocal: f.NoLocal,
			RetainAsPublished: f.RetainAsPublished, RetainHandling: byte(f.RetainHandling),
		})
	}
	if id != 0 {
		s.Properties = &paho.SubscribeProperties{SubscriptionIdentifier: &id}
	}
	ack, err := c.library.Subscribe(ctx, s)
	if ack == nil {
		return nil, err
	}
	var codes []int
	for _, code := range ack.Reasons {
		codes = append(codes, int(code))
	}
	return codes, nil // a refusal is in the codes
}

func (c connection) Unsubscribe(filters []line.Filter) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	u := &paho.Unsubscribe{}
	for _, f := range filters {
		u.Topics = append(u.Topics, f.Filter)
	}
	_, err := c.library.Unsubscribe(ctx, u)
	return err
}

// Publish sends one message after the other: the library has no way to have
// several under way in a known order and still hear of their acknowledgements.
func (c connection) Publish(messages []line.Message) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for _, m := range messages {
		p := &paho.Publish{Topic: m.Topic, Payload: m.Payload, QoS: byte(m.QoS), Retain: m.Retain, Properties: publishProperties(m.Properties)}
		if err := c.publishThrough(ctx, p); err != nil {
			return err
		}
	}
	return nil
}

// publishThrough publishes p across lost connections. The automatic client keeps a
// QoS 1 or 2 message that it has taken and repeats it itself, so an error from it
// means that it has not taken this one, mostly because no connection was up.
func (c connection) publishThrough(ctx context.Context, p *paho.Publish) error {
	_, err := c.library.Publish(ctx, p)
	auto, ok := c.library.(*autopaho.ConnectionManager)
	for ok && err != nil && ctx.Err() == nil {
		if err = auto.AwaitConnection(ctx); err == nil {
			_, err = c.library.Publish(ctx, p)
		}
	}
	return err
}
