package session

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/sluice-mqtt/sluice/backend"
	"github.com/sluice-mqtt/sluice/protocol"
)

var update = flag.Bool("update", false, "rewrite the transcripts in testdata; read the diff before you commit it")

// TestTranscripts plays the conversations in testdata. Each is a list of
// commands, a line of dashes, and everything that the session said to them.
// A transcript is rewritten only by somebody who understands the diff.
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no transcripts: %v", err)
	}
	for _, f := range files {
		t.Run(strings.TrimSuffix(filepath.Base(f), ".txt"), func(t *testing.T) {
			src, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			got := play(t, string(src))
			if *update {
				if err := os.WriteFile(f, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if got != string(src) {
				t.Errorf("transcript differs; got:\n%s", got)
			}
		})
	}
}

// play runs a transcript and returns it with the answers as they are now.
func play(t *testing.T, src string) string {
	p := &player{t: t}
	var out strings.Builder
	for i, block := range strings.Split(strings.TrimRight(src, "\n"), "\n\n") {
		if i > 0 {
			out.WriteString("\n")
		}
		commands, _, _ := strings.Cut(block+"\n", "----\n")
		out.WriteString(commands + "----\n")
		for line := range strings.Lines(commands) {
			if !strings.HasPrefix(line, "#") {
				for _, said := range p.command(strings.Fields(line)) {
					out.WriteString(said + "\n")
				}
			}
		}
	}
	return out.String()
}

// player carries out commands on one session and writes down its decisions.
type player struct {
	t    *testing.T
	in   Inbound
	out  Outbound
	said []string
}

func (p *player) say(format string, args ...any) {
	p.said = append(p.said, fmt.Sprintf(format, args...))
}

// args are the key=value words of a command.
type args map[string]string

func (a args) num(key string, otherwise int) int {
	s, ok := a[key]
	if !ok {
		return otherwise
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		panic(fmt.Sprintf("%s=%s", key, s))
	}
	return n
}

func (p *player) command(words []string) []string {
	p.said = nil
	a := args{}
	for _, w := range words[1:] {
		k, v, _ := strings.Cut(w, "=")
		a[k] = v
	}
	id := uint16(a.num("id", 0))
	switch words[0] {
	case "open":
		p.open(a)
	case "publish":
		p.publish(a, id)
	case "acked":
		p.in.Acked()
	case "refused":
		_, stored := a["stored"]
		p.in.Refused(id, stored)
	case "pubrel":
		do, code := p.in.Pubrel(id)
		if do == Forget {
			p.say("store forget id=%d", id)
		}
		p.say("send PUBCOMP id=%d code=%v", id, code)
	case "mail":
		e := p.entry(a)
		if !p.out.Mail(e) {
			p.say("not now%s", map[bool]string{true: ", fetch", false: ""}[p.out.Missed()])
			break
		}
		p.send(&e)
		for e, ok := p.out.Stashed(); ok; e, ok = p.out.Stashed() {
			p.send(&e)
		}
	case "fetch": // a page out of the inbox: the entries that are given, and nothing behind them
		last := p.out.Last()
		for _, s := range strings.Split(a["entries"], ",") {
			f := strings.Split(s, ":") // seq:qos[:state]
			seq, _ := strconv.Atoi(f[0])
			qos, _ := strconv.Atoi(f[1])
			e := backend.Entry{Seq: uint64(seq), QoS: byte(qos)}
			if len(f) > 2 && f[2] == "released" {
				e.State = backend.Released
			}
			if p.out.Room() <= 0 {
				p.say("no room")
				p.out.Miss(e.Seq)
				return p.said
			}
			p.send(&e)
			last = max(last, e.Seq)
		}
		p.out.Fetched(last)
	case "live":
		e := p.entry(a)
		if p.out.Room() > 0 && p.out.Queued() == 0 {
			p.send(&e)
		} else if p.out.Push(e, a.num("limit", 10), a.num("bytes", 1000)) {
			p.say("queued")
		} else {
			p.say("dropped")
		}
	case "skip":
		e := p.entry(a)
		p.out.Skip(&e)
	case "puback":
		p.fault(p.out.Puback(id))
		p.refill()
	case "pubrec":
		_, refused := a["refused"]
		do, code, err := p.out.Pubrec(id, refused)
		p.fault(err)
		if do == Release {
			p.say("store released")
		}
		if do == Release || do == Answer {
			p.say("send PUBREL id=%d code=%v", id, code)
		}
		p.refill()
	case "pubcomp":
		p.fault(p.out.Pubcomp(id))
		p.refill()
	case "progress":
		if pr, n, ok := p.out.Progress(); ok {
			p.out.Stored(n)
			p.say("store base=%d released=%v done=%v", pr.Base, pr.Released, pr.Done)
		}
	case "stalled":
		p.say("stalled=%v", p.out.Stalled())
	case "unfinished":
		for _, e := range p.out.Unfinished() {
			p.say("qos=%d share=%s", e.QoS, e.Share)
		}
	case "state":
		p.say("inflight=%d room=%d queued=%d next=%d behind=%v fetch=%v", p.out.InFlight(), p.out.Room(), p.out.Queued(), p.out.Next(), p.out.Behind(), p.out.Missed())
	default:
		p.t.Fatalf("unknown command %q", words[0])
	}
	return p.said
}

func (p *player) open(a args) {
	v := protocol.Version(a.num("v", 5))
	_, durable := a["durable"]
	_, present := a["present"]
	o := &backend.Opened{
		Lease: backend.Lease{Client: "c", Epoch: 9}, Durable: durable, Present: present, Incarnation: 3,
		Base: uint64(a.num("base", 0)), Last: uint64(a.num("last", a.num("base", 0))), Sent: uint64(a.num("sent", 0)),
	}
	if s, ok := a["received"]; ok {
		n, _ := strconv.Atoi(s)
		o.Received = map[uint16]uint32{uint16(n): uint32(a.num("gen", 0))}
	}
	p.in = NewInbound(Rules{
		Version: v, MaximumQoS: byte(a.num("maxqos", 2)), RetainAvailable: a.num("retain", 1) == 1,
		ReceiveMaximum: uint16(a.num("recvmax", 10)), TopicAliasMaximum: uint16(a.num("aliases", 4)),
	}, o)
	p.out = NewOutbound(o, uint16(a.num("limit", 10)))
}

func (p *player) publish(a args, id uint16) {
	k := protocol.Publish{QoS: byte(a.num("qos", 0)), PacketID: id, Topic: []byte(a["topic"])}
	_, k.Retain = a["retain"]
	_, k.Dup = a["dup"]
	if _, ok := a["alias"]; ok {
		k.TopicAlias, k.HasTopicAlias = uint16(a.num("alias", 0)), true
	}
	if _, ok := a["subid"]; ok {
		k.SubscriptionIDs = []uint32{1}
	}
	do, err := p.in.Publish(&k)
	if err != nil {
		p.fault(err)
		return
	}
	ack := [3]string{"", "PUBACK", "PUBREC"}[k.QoS]
	switch do {
	case Answer:
		p.say("send %s id=%d code=%v", ack, id, protocol.PacketIdentifierInUse)
		return
	case Again:
		i := p.in.ID(id)
		p.say("route again topic=%s as %d/%d/%d", k.Topic, i.Incarnation, i.PacketID, i.Generation)
	case Take:
		switch k.QoS {
		case 0:
			p.say("route topic=%s", k.Topic)
			return
		case 1:
			p.say("store append topic=%s", k.Topic)
		case 2:
			i := p.in.ID(id)
			p.say("store append topic=%s as %d/%d/%d", k.Topic, i.Incarnation, i.PacketID, i.Generation)
		}
	}
	p.say("send %s id=%d", ack, id)
}

func (p *player) entry(a args) backend.Entry {
	return backend.Entry{
		Seq: uint64(a.num("seq", 0)), QoS: byte(a.num("qos", 1)), Share: a["share"],
		Message: &backend.Message{Payload: make([]byte, a.num("size", 1))},
	}
}

func (p *player) send(e *backend.Entry) {
	dup := ""
	if e.Seq > 0 && p.out.Resent(e.Seq) {
		dup = " dup"
	}
	released := e.State == backend.Released
	id := p.out.Sent(e)
	if released {
		p.say("send PUBREL id=%d", id)
		return
	}
	p.say("send PUBLISH qos=%d id=%d%s", e.QoS, id, dup)
}

// refill sends what waits in the queue for room.
func (p *player) refill() {
	for e, ok := p.out.Pop(); ok; e, ok = p.out.Pop() {
		p.send(&e)
	}
}

func (p *player) fault(err error) {
	if err == nil {
		return
	}
	pe := err.(*protocol.Error)
	p.say("close %v (0x%02X): %s", pe.Code, byte(pe.Code), pe.Detail)
}
