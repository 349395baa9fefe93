package main

import (
	"context"
	"crypto/rand"
	"log/slog"
	"strings"
	"time"

	natsgo "github.com/nats-io/nats.go"

	"github.com/sluice-mqtt/sluice/backend"
	"github.com/sluice-mqtt/sluice/gateway"
	"github.com/sluice-mqtt/sluice/gateway/bridge"
	"github.com/sluice-mqtt/sluice/gateway/events"
	"github.com/sluice-mqtt/sluice/gateway/tracing"
	"github.com/sluice-mqtt/sluice/protocol"
)

// goodbyeLimit is how long the last events may take, after everything else, and
// the last spans behind them.
const goodbyeLimit = 2 * time.Second

// hasEvents reports whether anybody is to be told of events.
func (c *config) hasEvents() bool { return c.EventsURL != "" || c.EventsNATS }

// checkExtras finds what is wrong with the variables of events, traces and the
// bridge.
func (c *config) checkExtras() error {
	if _, err := events.ParseKinds(c.EventKinds); err != nil {
		return &problem{"EVENTS_KINDS", strings.Join(c.EventKinds, ","), err.Error()}
	}
	if c.EventsURL != "" {
		if _, err := c.eventsHTTP(); err != nil {
			return err
		}
	}
	if err := c.checkTracing(); err != nil {
		return err
	}
	if c.BridgePrefix == "" {
		return nil
	}
	_, err := c.newBridge(nil, nil)
	return err
}

func (c *config) eventsHTTP() (*events.HTTP, error) {
	h, err := events.NewHTTP(events.HTTPOptions{URL: c.EventsURL, Token: c.EventsToken, Timeout: c.EventsTimeout})
	if err != nil {
		return nil, &problem{"EVENTS_HTTP_URL", masked, err.Error()}
	}
	return h, nil
}

// openEvents makes the observer that is configured, nil if none is.
func (c *config) openEvents(id string, connection func() (*natsgo.Conn, error), log *slog.Logger) (*events.Teller, error) {
	if !c.hasEvents() {
		return nil, nil
	}
	kinds, err := events.ParseKinds(c.EventKinds)
	if err != nil {
		return nil, err
	}
	var sinks []events.Sink
	if c.EventsURL != "" {
		h, err := c.eventsHTTP()
		if err != nil {
			return nil, err
		}
		sinks = append(sinks, h)
	}
	if c.EventsNATS {
		nc, err := connection()
		if err != nil {
			return nil, err
		}
		sinks = append(sinks, events.NewNATS(nc, c.NATSSubjectPrefix+".events"))
	}
	return events.New(events.Options{
		Gateway: id, Kinds: kinds, Queue: c.EventsQueue, Batch: c.EventsBatch, Retry: c.EventsRetry, Logger: log,
	}, sinks...), nil
}

// extras are what the gateway is given besides drivers and authentication.
type extras struct {
	name   string // of the gateway
	events *events.Teller
	tracer *tracing.Tracer
	bridge *bridge.Bridge
	nats   *natsgo.Conn // nil until somebody needs it
}

// openExtras opens what is configured and puts it into the options.
func (c *config) openExtras(o *gateway.Options, log *slog.Logger) (*extras, error) {
	if o.ID == "" {
		o.ID = backend.NodeID(strings.ToLower(rand.Text()[:16]))
	}
	x := &extras{name: string(o.ID)}
	var err error
	x.events, err = c.openEvents(x.name, func() (*natsgo.Conn, error) { return x.connection(c, log) }, log)
	if err != nil {
		x.close()
		return nil, err
	}
	if x.events != nil {
		o.Observer = x.events
	}
	if c.traces() {
		if x.tracer, err = c.newTracer(x.name, log); err != nil {
			x.close()
			return nil, err
		}
		o.Tracer = x.tracer
	}
	if c.BridgePrefix == "" {
		return x, nil
	}
	nc, err := x.connection(c, log)
	if err == nil {
		x.bridge, err = c.newBridge(nc, log)
	}
	if err != nil {
		x.close()
		return nil, err
	}
	o.Forwarder = x.bridge
	return x, nil
}

// newBridge makes a bridge, or says what is wrong with its variables.
func (c *config) newBridge(nc *natsgo.Conn, log *slog.Logger) (*bridge.Bridge, error) {
	for _, f := range c.BridgeTopics {
		if protocol.ValidFilter(f) != nil {
			return nil, &problem{"NATS_BRIDGE_TOPICS", strings.Join(c.BridgeTopics, ","), f + " is no topic filter"}
		}
	}
	b, err := bridge.New(bridge.Options{Conn: nc, Prefix: c.BridgePrefix, Topics: c.BridgeTopics, Hold: c.StoreHold, Logger: log})
	if err != nil {
		return nil, &problem{"NATS_BRIDGE_PREFIX", c.BridgePrefix, err.Error()}
	}
	return b, nil
}

// serve begins what needs the gateway that was started.
func (x *extras) serve(g *gateway.Gateway) error {
	if x.bridge == nil {
		return nil
	}
	return x.bridge.Serve(g)
}

// stop ends what serve has begun, while the gateway still takes messages.
func (x *extras) stop() {
	if x.bridge != nil {
		ctx, cancel := context.WithTimeout(context.Background(), goodbyeLimit)
		x.bridge.Stop(ctx)
		cancel()
	}
}

// connection is the one connection to NATS that is not the bus's.
func (x *extras) connection(c *config, log *slog.Logger) (*natsgo.Conn, error) {
	if x.nats != nil {
		return x.nats, nil
	}
	o, err := c.natsOptions("", log)
	if err != nil {
		return nil, err
	}
	if x.nats, err = o.Connect("sluice " + x.name + " beside the bus"); err != nil {
		return nil, &problem{"NATS_URL", masked, err.Error()}
	}
	return x.nats, nil
}

// close tells the last events and spans and ends the connections.
func (x *extras) close() {
	if x.events != nil {
		ctx, cancel := context.WithTimeout(context.Background(), goodbyeLimit)
		x.events.Close(ctx)
		cancel()
	}
	if x.tracer != nil {
		ctx, cancel := context.WithTimeout(context.Background(), goodbyeLimit)
		x.tracer.Close(ctx)
		cancel()
	}
	if x.nats != nil {
		x.nats.Close()
	}
}
