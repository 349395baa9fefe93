package gateway

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sluice-mqtt/sluice/backend"
	"github.com/sluice-mqtt/sluice/protocol"
)

// ErrNoDirectory: the store is none that lets people look into it.
var ErrNoDirectory = errors.New("the store does not keep that")

// NodeState is one gateway of the cluster.
type NodeState struct {
	backend.NodeStatus
	// Figures are what it said of itself; nil if it did not answer in time.
	Figures *NodeFigures
}

// ClientState is one session with what its gateway knows.
type ClientState struct {
	backend.SessionStatus
	// Live is nil if it is not connected, or if its gateway did not answer.
	Live *LiveClient
}

// directory is the store, if it can be looked into.
func (g *Gateway) directory() (backend.Directory, error) {
	d, ok := g.store.(backend.Directory)
	if !ok {
		return nil, ErrNoDirectory
	}
	return d, nil
}

// nodes are the gateways whose lease holds.
func (g *Gateway) nodes(ctx context.Context) ([]backend.NodeID, error) {
	d, err := g.directory()
	if err != nil {
		return nil, err
	}
	sctx, cancel := g.storeContext(ctx)
	defer cancel()
	list, err := d.ListNodes(sctx)
	var ids []backend.NodeID
	for _, n := range list {
		if n.Left > 0 {
			ids = append(ids, n.ID)
		}
	}
	return ids, g.storeFailed(err)
}

// ID is the name of this gateway.
func (g *Gateway) ID() backend.NodeID { return g.opt.ID }

// Cluster returns all gateways, with what each says of itself.
func (g *Gateway) Cluster(ctx context.Context) ([]NodeState, error) {
	d, err := g.directory()
	if err != nil {
		return nil, err
	}
	sctx, cancel := g.storeContext(ctx)
	list, err := d.ListNodes(sctx)
	cancel()
	if err != nil {
		return nil, g.storeFailed(err)
	}
	var ids []backend.NodeID
	for _, n := range list {
		if n.Left > 0 {
			ids = append(ids, n.ID)
		}
	}
	answers := g.ask(ctx, ids, question{What: askStatus})
	all := make([]NodeState, len(list))
	for i, n := range list {
		all[i].NodeStatus = n
		if a := answers[n.ID]; a != nil {
			all[i].Figures = a.Status
		}
	}
	return all, nil
}

// Clients returns a page of the cluster's sessions; see
// [backend.Directory.ListSessions].
func (g *Gateway) Clients(ctx context.Context, q backend.SessionQuery) (page []ClientState, next string, err error) {
	d, err := g.directory()
	if err != nil {
		return nil, "", err
	}
	sctx, cancel := g.storeContext(ctx)
	list, next, err := d.ListSessions(sctx, q)
	cancel()
	if err != nil {
		return nil, "", g.storeFailed(err)
	}
	page = make([]ClientState, len(list))
	at := map[backend.NodeID][]backend.ClientID{}
	for i, s := range list {
		page[i].SessionStatus = s
		if s.Node != "" {
			at[s.Node] = append(at[s.Node], s.Client)
		}
	}
	live := g.liveAt(ctx, at)
	for i := range page {
		page[i].add(live[page[i].Client])
	}
	return page, next, nil
}

// add adds what the gateway knows. The subscriptions of a session without an
// inbox are there only.
func (s *ClientState) add(live *LiveClient) {
	if live == nil {
		return
	}
	s.Live = live
	s.Subscriptions = max(s.Subscriptions, live.Subscriptions)
}

// liveAt asks gateways for facts of clients, all at once.
func (g *Gateway) liveAt(ctx context.Context, at map[backend.NodeID][]backend.ClientID) map[backend.ClientID]*LiveClient {
	came := make(chan map[backend.NodeID]*answer, len(at))
	for node, ids := range at {
		go func() { // ends with the patience of ask
			came <- g.ask(ctx, []backend.NodeID{node}, question{What: askClients, Clients: ids})
		}()
	}
	live := map[backend.ClientID]*LiveClient{}
	for range at {
		for _, a := range <-came {
			for i := range a.Clients {
				live[a.Clients[i].ID] = &a.Clients[i]
			}
		}
	}
	return live
}

// DescribeClient returns one session with up to max of its subscriptions; nil
// if there is none.
func (g *Gateway) DescribeClient(ctx context.Context, id backend.ClientID, most int) (*ClientState, []backend.Subscription, error) {
	d, err := g.directory()
	if err != nil {
		return nil, nil, err
	}
	sctx, cancel := g.storeContext(ctx)
	s, subs, err := d.DescribeSession(sctx, id, most)
	cancel()
	if err != nil || s == nil {
		return nil, nil, g.storeFailed(err)
	}
	state := &ClientState{SessionStatus: *s}
	if s.Node == "" {
		return state, subs, nil
	}
	q := question{What: askClient, Clients: []backend.ClientID{id}, Max: most}
	if a := g.ask(ctx, []backend.NodeID{s.Node}, q)[s.Node]; a != nil && len(a.Clients) > 0 {
		state.add(&a.Clients[0])
		if !s.Durable {
			subs = a.Subscriptions
		}
	}
	return state, subs, nil
}

// Subscribers returns who in the cluster gets a message of a topic. Missing
// are gateways that did not answer in time: live subscriptions there are not
// among them.
func (g *Gateway) Subscribers(ctx context.Context, topic string, most int) (found []backend.Subscriber, more bool, missing []backend.NodeID, err error) {
	d, err := g.directory()
	if err != nil {
		return nil, false, nil, err
	}
	if err := protocol.ValidTopicName(topic); err != nil {
		return nil, false, nil, err
	}
	sctx, cancel := g.storeContext(ctx)
	found, more, err = d.Subscribers(sctx, topic, most)
	cancel()
	if err != nil {
		return nil, false, nil, g.storeFailed(err)
	}
	nodes, err := g.nodes(ctx)
	if err != nil {
		return nil, false, nil, err
	}
	answers := g.ask(ctx, nodes, question{What: askSubscribers, Topic: topic, Max: most})
	for _, n := range nodes {
		a := answers[n]
		if a == nil {
			missing = append(missing, n)
			continue
		}
		found, more = append(found, a.Subscribers...), more || a.More
	}
	if len(found) > most {
		found, more = found[:most], true
	}
	return found, more, missing, nil
}

// Disconnect ends the connection of a client of this gateway with the code and
// reports whether there was one.
func (g *Gateway) Disconnect(id backend.ClientID, code protocol.ReasonCode, reason string) bool {
	c := g.clients.get(id)
	if c == nil {
		return false
	}
	c.end(code, reason)
	return true
}

// Kick ends the connection of a client, wherever it is connected, with
// Administrative action (0x98). It returns false if it is not connected. What
// is true is that its gateway was told.
func (g *Gateway) Kick(ctx context.Context, id backend.ClientID) (bool, error) {
	if g.Disconnect(id, protocol.AdministrativeAction, "administrative action") {
		return true, nil
	}
	d, err := g.directory()
	if err != nil {
		return false, err
	}
	sctx, cancel := g.storeContext(ctx)
	defer cancel()
	s, _, err := d.DescribeSession(sctx, id, 0)
	if err != nil || s == nil || s.Node == "" {
		return false, g.storeFailed(err)
	}
	return true, g.kickAt(sctx, s.Node, id)
}

func (g *Gateway) kickAt(ctx context.Context, at backend.NodeID, id backend.ClientID) error {
	return g.bus.Notify(ctx, at, backend.Notice{Kind: backend.NoticeKick, Client: id, Code: byte(protocol.AdministrativeAction)})
}

// DestroySession ends the session of a client, with its subscriptions and what
// waits for it, and the connection, if there is one. It returns false if there
// is none.
func (g *Gateway) DestroySession(ctx context.Context, id backend.ClientID) (bool, error) {
	d, err := g.directory()
	if err != nil {
		return false, err
	}
	sctx, cancel := g.storeContext(ctx)
	defer cancel()
	s, _, err := d.DescribeSession(sctx, id, 0)
	if err != nil || s == nil {
		return false, g.storeFailed(err)
	}
	previous, due, err := g.store.Destroy(sctx, id)
	if err != nil {
		return false, g.storeFailed(err)
	}
	if previous.Epoch != 0 && !g.Disconnect(id, protocol.AdministrativeAction, "session was deleted") {
		if err := g.kickAt(sctx, previous.Node, id); err != nil {
			// It is fenced: its next change ends it.
			g.log.Warn("notice not sent", "client", string(id), "err", err)
		}
	}
	g.carryOut(context.WithoutCancel(ctx), due, nil, willServer)
	return true, nil
}

// Retained returns a page of retained messages; see [backend.Retained].
func (g *Gateway) Retained(ctx context.Context, filter, after string, most int) ([]*backend.Message, bool, error) {
	if err := protocol.ValidFilter(filter); err != nil {
		return nil, false, err
	}
	sctx, cancel := g.storeContext(ctx)
	defer cancel()
	page, more, err := g.store.Match(sctx, filter, after, most)
	return page, more, g.storeFailed(err)
}

// DeleteRetained removes the retained message of a topic; who is subscribed is
// not told. It returns false if there was none.
func (g *Gateway) DeleteRetained(ctx context.Context, topic string) (bool, error) {
	if err := protocol.ValidTopicName(topic); err != nil {
		return false, err
	}
	sctx, cancel := g.storeContext(ctx)
	defer cancel()
	page, _, err := g.store.Match(sctx, topic, "", 1)
	if err != nil || len(page) == 0 {
		return false, g.storeFailed(err)
	}
	return true, g.storeFailed(g.store.Retain(sctx, []*backend.Message{{Topic: topic, Retain: true}}))
}

// Trace has the packets of a client logged for so long, on every gateway, with
// the sizes of payloads and never a payload; 0 ends it. Missing are gateways
// that did not answer in time. [backend.ErrFull]: some gateway traces as many as
// it may; then none traces this client.
func (g *Gateway) Trace(ctx context.Context, id backend.ClientID, d time.Duration) (missing []backend.NodeID, err error) {
	nodes, err := g.nodes(ctx)
	if err != nil {
		return nil, err
	}
	if !slices.Contains(nodes, g.opt.ID) {
		nodes = append(nodes, g.opt.ID)
	}
	q := question{What: askTrace, Clients: []backend.ClientID{id}, Seconds: int(min(d, maxTrace) / time.Second)}
	answers := g.ask(ctx, nodes, q)
	full := false
	for _, n := range nodes {
		if answers[n] == nil {
			missing = append(missing, n)
		} else if answers[n].Full {
			full = true
		}
	}
	if full {
		q.Seconds = 0
		g.ask(ctx, nodes, q)
		return missing, fmt.Errorf("%w: %d clients are traced", backend.ErrFull, maxTraced)
	}
	return missing, nil
}
