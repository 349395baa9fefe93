package admin

import (
	"encoding/base64"
	"math"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/sluice-mqtt/sluice/backend"
	"github.com/sluice-mqtt/sluice/gateway"
	"github.com/sluice-mqtt/sluice/protocol"
)

// shownPayload is how much of a retained payload is shown, in bytes.
const shownPayload = 4096

func (a *api) gateways(r *http.Request) (any, error) {
	nodes, err := a.cluster.Cluster(r.Context())
	if err != nil {
		return nil, err
	}
	list := make([]gatewayJSON, len(nodes))
	for i := range nodes {
		list[i] = showGateway(&nodes[i], a.cluster.ID())
	}
	return map[string]any{"gateways": list}, nil
}

func (a *api) clients(r *http.Request) (any, error) {
	limit, err := limitOf(r)
	if err != nil {
		return nil, err
	}
	v := r.URL.Query()
	q := backend.SessionQuery{Cursor: v.Get("cursor"), Max: limit, Node: backend.NodeID(v.Get("gateway")), Contains: v.Get("contains")}
	switch v.Get("state") {
	case "", "any":
	case "connected":
		q.Attached = true
	case "disconnected":
		q.Detached = true
	default:
		return nil, fault(http.StatusBadRequest, "state: allowed is any, connected, disconnected")
	}
	page, next, err := a.cluster.Clients(r.Context(), q)
	if err != nil {
		return nil, err
	}
	list := make([]clientJSON, len(page))
	for i := range page {
		list[i] = showClient(&page[i])
	}
	return struct {
		Clients []clientJSON `json:"clients"`
		Next    string       `json:"next,omitempty"`
	}{list, next}, nil
}

var errNoClient = fault(http.StatusNotFound, "no session of this client")

func (a *api) client(r *http.Request) (any, error) {
	id, err := param(r, "id")
	if err != nil {
		return nil, err
	}
	s, subs, err := a.cluster.DescribeClient(r.Context(), backend.ClientID(id), subscriptionLimit)
	if err != nil {
		return nil, err
	}
	if s == nil {
		return nil, errNoClient
	}
	list := make([]subscriptionJSON, len(subs))
	for i, sub := range subs {
		list[i] = subscriptionJSON{sub.Filter, sub.QoS, sub.NoLocal, sub.RetainAsPublished, sub.ID}
	}
	return struct {
		Client        clientJSON         `json:"client"`
		Subscriptions []subscriptionJSON `json:"subscriptions"`
	}{showClient(s), list}, nil
}

func (a *api) deleteSession(r *http.Request) (any, error) {
	id, err := param(r, "id")
	if err != nil {
		return nil, err
	}
	existed, err := a.cluster.DestroySession(r.Context(), backend.ClientID(id))
	if err == nil && !existed {
		err = errNoClient
	}
	return nil, err
}

func (a *api) disconnect(r *http.Request) (any, error) {
	id, err := param(r, "id")
	if err != nil {
		return nil, err
	}
	connected, err := a.cluster.Kick(r.Context(), backend.ClientID(id))
	if err == nil && !connected {
		err = fault(http.StatusNotFound, "the client is not connected")
	}
	return nil, err
}

func (a *api) trace(r *http.Request) (any, error) {
	id, err := param(r, "id")
	if err != nil {
		return nil, err
	}
	var body struct {
		Seconds *int `json:"seconds"`
	}
	if err := readJSON(r, &body); err != nil {
		return nil, err
	}
	if body.Seconds == nil || *body.Seconds < 0 || *body.Seconds > 3600 {
		return nil, fault(http.StatusBadRequest, "seconds: allowed is 0 to 3600")
	}
	missing, err := a.cluster.Trace(r.Context(), backend.ClientID(id), time.Duration(*body.Seconds)*time.Second)
	return map[string]any{"missing": orEmpty(missing)}, err
}

// orEmpty is a list that is [] in JSON where there is none.
func orEmpty[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

func (a *api) publish(r *http.Request) (any, error) {
	var body struct {
		Topic         string  `json:"topic"`
		Payload       *string `json:"payload"`
		PayloadBase64 *[]byte `json:"payload_base64"`
		QoS           byte    `json:"qos"`
		Retain        bool    `json:"retain"`
		Expiry        *int64  `json:"expiry_seconds"`
	}
	if err := readJSON(r, &body); err != nil {
		return nil, err
	}
	m := &backend.Message{Topic: body.Topic, QoS: body.QoS, Retain: body.Retain}
	switch {
	case body.QoS > 2:
		return nil, fault(http.StatusBadRequest, "qos: allowed is 0 to 2")
	case strings.HasPrefix(body.Topic, "$"):
		return nil, fault(http.StatusBadRequest, "topic: not one that begins with $")
	case body.Payload != nil && body.PayloadBase64 != nil:
		return nil, fault(http.StatusBadRequest, "payload or payload_base64, not both")
	case body.Payload != nil:
		m.Payload = []byte(*body.Payload)
	case body.PayloadBase64 != nil:
		m.Payload = *body.PayloadBase64
	}
	if e := body.Expiry; e != nil {
		if *e < 1 || *e > math.MaxUint32 {
			return nil, fault(http.StatusBadRequest, "expiry_seconds: allowed is 1 to 4294967295")
		}
		m.Expires = a.cluster.StoreTime().Add(time.Duration(*e) * time.Second).UnixMilli()
	}
	if err := protocol.ValidTopicName(body.Topic); err != nil {
		return nil, err
	}
	return nil, a.cluster.Publish(r.Context(), m)
}

func (a *api) retained(r *http.Request) (any, error) {
	limit, err := limitOf(r)
	if err != nil {
		return nil, err
	}
	v := r.URL.Query()
	filter := v.Get("filter")
	if filter == "" {
		filter = "#"
	}
	page, more, err := a.cluster.Retained(r.Context(), filter, v.Get("cursor"), limit)
	if err != nil {
		return nil, err
	}
	list, next := make([]retainedJSON, len(page)), ""
	for i, m := range page {
		list[i] = showRetained(m)
		if next = ""; more {
			next = m.Topic
		}
	}
	return struct {
		Messages []retainedJSON `json:"messages"`
		Next     string         `json:"next,omitempty"`
	}{list, next}, nil
}

func showRetained(m *backend.Message) retainedJSON {
	j := retainedJSON{Topic: m.Topic, QoS: m.QoS, Publisher: string(m.Publisher), Bytes: len(m.Payload)}
	if m.Expires != 0 {
		at := time.UnixMilli(m.Expires).UTC()
		j.Expires = &at
	}
	shown := m.Payload
	if j.Truncated = len(shown) > shownPayload; j.Truncated {
		shown = shown[:shownPayload]
		for range utf8.UTFMax { // not in the middle of a character
			if r, size := utf8.DecodeLastRune(shown); r != utf8.RuneError || size != 1 {
				break
			}
			shown = shown[:len(shown)-1]
		}
	}
	if text := string(shown); utf8.ValidString(text) {
		j.Payload = &text
	} else {
		text := base64.StdEncoding.EncodeToString(shown)
		j.PayloadBase64 = &text
	}
	return j
}

func (a *api) deleteRetained(r *http.Request) (any, error) {
	topic, err := param(r, "topic")
	if err != nil {
		return nil, err
	}
	existed, err := a.cluster.DeleteRetained(r.Context(), topic)
	if err == nil && !existed {
		err = fault(http.StatusNotFound, "no retained message of this topic")
	}
	return nil, err
}

func (a *api) subscribers(r *http.Request) (any, error) {
	topic, err := param(r, "topic")
	if err != nil {
		return nil, err
	}
	limit, err := limitOf(r)
	if err != nil {
		return nil, err
	}
	found, more, missing, err := a.cluster.Subscribers(r.Context(), topic, limit)
	if err != nil {
		return nil, err
	}
	list := make([]subscriberJSON, len(found))
	for i, s := range found {
		list[i] = subscriberJSON{
			Client: string(s.Client), Connected: s.Node != "", Gateway: string(s.Node), QoS: s.QoS, Filters: orEmpty(s.Filters),
			Shared: len(s.Filters) > 0 && strings.HasPrefix(s.Filters[0], "$share/"),
		}
	}
	return map[string]any{"subscribers": list, "more": more, "missing": orEmpty(missing)}, nil
}

func (a *api) bans(r *http.Request) (any, error) {
	limit, err := limitOf(r)
	if err != nil {
		return nil, err
	}
	page, next, err := a.cluster.Bans(r.Context(), r.URL.Query().Get("cursor"), limit)
	if err != nil {
		return nil, err
	}
	list := []banJSON{}
	for _, b := range page {
		j := banJSON{Kind: b.Kind, Value: b.Value, Reason: b.Reason, Since: b.Since.UTC()}
		if !b.Until.IsZero() {
			if time.Now().After(b.Until) {
				continue // it is over, though it is still there
			}
			until := b.Until.UTC()
			j.Until = &until
		}
		list = append(list, j)
	}
	return struct {
		Bans []banJSON `json:"bans"`
		Next string    `json:"next,omitempty"`
	}{list, next}, nil
}

func (a *api) ban(r *http.Request) (any, error) {
	var body struct {
		Kind    backend.BanKind `json:"kind"`
		Value   string          `json:"value"`
		Reason  string          `json:"reason"`
		Seconds *int64          `json:"seconds"`
	}
	if err := readJSON(r, &body); err != nil {
		return nil, err
	}
	b := backend.Ban{Kind: body.Kind, Value: body.Value, Reason: body.Reason}
	switch {
	case len(body.Reason) > 1024:
		return nil, fault(http.StatusBadRequest, "reason: at most 1024 bytes")
	case body.Seconds == nil:
	case *body.Seconds < 1 || *body.Seconds > 315_360_000:
		return nil, fault(http.StatusBadRequest, "seconds: allowed is 1 to 315360000")
	default:
		b.Until = time.Now().Add(time.Duration(*body.Seconds) * time.Second).Truncate(time.Second)
	}
	return nil, a.cluster.Ban(r.Context(), b)
}

func (a *api) unban(r *http.Request) (any, error) {
	value, err := param(r, "value")
	if err != nil {
		return nil, err
	}
	existed, err := a.cluster.Unban(r.Context(), backend.BanKind(r.URL.Query().Get("kind")), value)
	if err == nil && !existed {
		err = fault(http.StatusNotFound, "no such ban")
	}
	return nil, err
}

func showGateway(n *gateway.NodeState, self backend.NodeID) gatewayJSON {
	j := gatewayJSON{ID: string(n.ID), Self: n.ID == self, Lease: n.Left.Seconds(), Sessions: n.Sessions, Answered: n.Figures != nil}
	if f := n.Figures; f != nil {
		ready := f.NotReady == ""
		started := f.Started.UTC()
		j.figuresJSON = &figuresJSON{
			Version: f.Version, Started: started, Ready: ready, NotReady: f.NotReady, Connections: f.Connections,
			Subscriptions: f.Subscriptions, Received: f.Received, Sent: f.Sent, BytesReceived: f.BytesReceived,
			BytesSent: f.BytesSent, Dropped: f.Dropped, InFlight: f.InFlight, Queued: f.Queued, Backlog: f.Backlog, Gaps: f.Gaps,
			HeapBytes: f.HeapBytes, Goroutines: f.Goroutines,
		}
		if j.Dropped == nil {
			j.Dropped = map[string]uint64{}
		}
	}
	return j
}

func showClient(s *gateway.ClientState) clientJSON {
	j := clientJSON{
		ID: string(s.Client), Connected: s.Node != "", Gateway: string(s.Node), Principal: s.Principal, Durable: s.Durable,
		Expiry: s.Expiry, Subscriptions: s.Subscriptions, Backlog: s.Backlog, Will: s.Will,
	}
	if !s.Ends.IsZero() {
		at := s.Ends.UTC()
		j.Ends = &at
	}
	if l := s.Live; l != nil {
		j.Connection = &connectionJSON{
			User: l.Username, Remote: l.Remote, Listener: l.Listener, Version: l.Version.String(), Since: l.Since.UTC(),
			KeepAlive: l.KeepAlive, InFlight: l.InFlight, Queued: l.Queued, Outbox: l.OutboxBytes, Traced: l.Traced,
		}
	}
	return j
}
