package gateway

import (
	"context"
	"encoding/json"
	"sync"
	"time"

	"github.com/sluice-mqtt/sluice/backend"
)

// Gateways ask each other what they alone know: figures, and connections.
// Question and answer are notices, so the bus may lose either; who asks waits
// for a moment only and says what is missing.
const (
	// askPatience is how long the other gateways have to answer a question.
	askPatience = time.Second
	// waitingQuestions bounds the questions of others that wait here. More are
	// not answered: they are asked by people, and by pages that refresh.
	waitingQuestions = 256
	// answerBytes is about how much an answer may carry, far below what any
	// bus takes in one message.
	answerBytes = 128 << 10
)

// question is what one gateway asks another.
type question struct {
	ID   uint64
	From backend.NodeID
	// What is wanted: the gateway's status, live facts of clients, those of
	// one with its subscriptions, who gets a topic, a look at the bans, that a
	// client be traced, or the counts of the $SYS topics.
	What    string
	Clients []backend.ClientID `json:",omitempty"`
	Topic   string             `json:",omitempty"`
	Max     int                `json:",omitempty"`
	Seconds int                `json:",omitempty"`
}

const (
	askStatus      = "status"
	askClients     = "clients"
	askClient      = "client"
	askSubscribers = "subscribers"
	askBans        = "bans"
	askTrace       = "trace"
	askSys         = "sys"
)

// answer is the answer to a question.
type answer struct {
	ID            uint64
	From          backend.NodeID
	Status        *NodeFigures           `json:",omitempty"`
	Clients       []LiveClient           `json:",omitempty"`
	Subscriptions []backend.Subscription `json:",omitempty"`
	Subscribers   []backend.Subscriber   `json:",omitempty"`
	More          bool                   `json:",omitempty"`
	// Sys are the counts of the $SYS topics.
	Sys map[string]uint64 `json:",omitempty"`
	// Full: a limit did not allow it.
	Full bool `json:",omitempty"`
}

// asking is what a gateway has asked and been asked.
type asking struct {
	mu      sync.Mutex
	last    uint64
	waiting map[uint64]chan *answer
	// questions are those of others that wait for answerQuestions.
	questions chan question
}

// ask puts a question to gateways, this one included if it is among them, and
// returns what was answered in time.
func (g *Gateway) ask(ctx context.Context, nodes []backend.NodeID, q question) map[backend.NodeID]*answer {
	answers := make(map[backend.NodeID]*answer, len(nodes))
	came := make(chan *answer, len(nodes))
	g.asking.mu.Lock()
	g.asking.last++
	q.ID, q.From = g.asking.last, g.opt.ID
	if g.asking.waiting == nil {
		g.asking.waiting = make(map[uint64]chan *answer)
	}
	g.asking.waiting[q.ID] = came
	g.asking.mu.Unlock()
	defer func() {
		g.asking.mu.Lock()
		delete(g.asking.waiting, q.ID)
		g.asking.mu.Unlock()
	}()
	ctx, cancel := context.WithTimeout(ctx, askPatience)
	defer cancel()
	text, err := json.Marshal(q)
	if err != nil {
		return answers
	}
	asked := 0
	for _, n := range nodes {
		if n == g.opt.ID {
			answers[n] = g.answerTo(ctx, &q)
			continue
		}
		if err := g.tell(ctx, n, backend.NoticeAsk, text); err != nil {
			g.log.Debug("question not sent", "gateway", string(n), "err", err)
			continue
		}
		asked++
	}
	for ; asked > 0; asked-- {
		select {
		case a := <-came:
			answers[a.From] = a
		case <-ctx.Done():
			return answers
		}
	}
	return answers
}

// tell sends a question or an answer.
func (g *Gateway) tell(ctx context.Context, to backend.NodeID, kind backend.NoticeKind, text []byte) error {
	return g.bus.Notify(ctx, to, backend.Notice{Kind: kind, Entry: backend.Entry{Message: &backend.Message{Payload: text}}})
}

// asked takes a question from the bus, whose goroutine must not wait.
func (g *Gateway) asked(n *backend.Notice) {
	var q question
	if m := n.Entry.Message; m == nil || json.Unmarshal(m.Payload, &q) != nil {
		return
	}
	select {
	case g.asking.questions <- q:
	default:
	}
}

// answered takes an answer from the bus.
func (g *Gateway) answered(n *backend.Notice) {
	var a answer
	if m := n.Entry.Message; m == nil || json.Unmarshal(m.Payload, &a) != nil {
		return
	}
	g.asking.mu.Lock()
	defer g.asking.mu.Unlock()
	select {
	case g.asking.waiting[a.ID] <- &a: // nil for what nobody waits for
	default:
	}
}

// attend begins what is done for operators, until the context ends.
func (g *Gateway) attend(ctx context.Context) {
	g.background.Go(func() { g.answerQuestions(ctx) }) // until the context ends
	g.background.Go(func() { g.measureInboxes(ctx) })  // until the context ends
	g.background.Go(func() { g.followBans(ctx) })      // until the context ends
}

// answerQuestions answers other gateways until the context ends.
func (g *Gateway) answerQuestions(ctx context.Context) {
	for {
		select {
		case q := <-g.asking.questions:
			text, err := json.Marshal(g.answerTo(ctx, &q))
			if err == nil {
				actx, cancel := context.WithTimeout(ctx, askPatience)
				err = g.tell(actx, q.From, backend.NoticeAnswer, text)
				cancel()
			}
			if err != nil {
				g.log.Debug("answer not sent", "gateway", string(q.From), "err", err)
			}
		case <-ctx.Done():
			return
		}
	}
}

// answerTo says what this gateway knows.
func (g *Gateway) answerTo(ctx context.Context, q *question) *answer {
	a := &answer{ID: q.ID, From: g.opt.ID}
	switch q.What {
	case askStatus:
		s := g.figures()
		a.Status = &s
	case askSys:
		s := g.Stats()
		a.Sys = g.sysCounts(&s)
	case askClients, askClient:
		size := 0
		for _, id := range q.Clients {
			c := g.clients.get(id)
			if c == nil {
				continue
			}
			live := g.live(c)
			if size += len(live.ID) + len(live.Username) + 512; size > answerBytes && q.What == askClients {
				a.More = true
				break
			}
			a.Clients = append(a.Clients, live)
			if q.What == askClient {
				a.Subscriptions = c.subscriptions(q.Max)
			}
		}
	case askSubscribers:
		a.Subscribers, a.More = g.liveSubscribers(q.Topic, q.Max)
	case askBans:
		g.refreshBans(ctx)
	case askTrace:
		for _, id := range q.Clients {
			if !g.traceHere(id, time.Duration(q.Seconds)*time.Second) {
				a.Full = true
			}
		}
	}
	return a
}
