package gateway

import (
	"errors"
	"maps"
	"slices"
	"sync/atomic"

	"github.com/sluice-mqtt/sluice/backend"
	"github.com/sluice-mqtt/sluice/protocol"
)

// measures are counts that nothing decides on, and that are only looked at as
// [backend.Figure]s.
type measures struct {
	chores   [choreKinds][choreOutcomes]atomic.Uint64
	wills    [willCauses]atomic.Uint64
	denials  [len(actions)][2]atomic.Uint64 // denied, not known
	methods  map[string]*[authOutcomes]atomic.Uint64
	shared   atomic.Uint64
	requeued atomic.Uint64
}

const choreKinds = int(backend.ChoreRequeue)

var choreNames = [choreKinds]string{"will", "session_ended", "requeue"}

const (
	choreTaken = iota
	choreDone
	choreFailed
	choreOutcomes
)

func (m *measures) chore(kind backend.ChoreKind, outcome int) {
	if i := int(kind) - 1; i >= 0 && i < choreKinds {
		m.chores[i][outcome].Add(1)
	}
}

// willCause is why a will was published.
type willCause int

const (
	// willLater: its delay was over, or its gateway had died.
	willLater willCause = iota
	// willLost: the connection broke, or something was wrong with what came.
	willLost
	willKeepAlive
	willTakenOver
	// willAsked: the client disconnected with 0x04.
	willAsked
	// willServer: the gateway ended the connection: shutdown, ban, expiry of
	// credentials, somebody's wish.
	willServer
	willCauses
)

var willNames = [willCauses]string{"later", "connection_lost", "keep_alive", "taken_over", "disconnect_with_will", "server"}

// causeOf is the cause of what is due because a connection has ended.
func causeOf(c *conn, code protocol.ReasonCode) willCause {
	switch {
	case c.hasGoodbye:
		return willAsked
	case code == protocol.KeepAliveTimeout:
		return willKeepAlive
	case code == protocol.SessionTakenOver:
		return willTakenOver
	case code == protocol.ServerShuttingDown, code == protocol.UseAnotherServer, code == protocol.AdministrativeAction,
		code == protocol.MaximumConnectTime, code == protocol.NotAuthorized:
		return willServer
	}
	return willLost
}

var actions = [...]Action{Publish, Subscribe, Receive}

// denied counts a no of the authorizer.
func (m *measures) denied(a Action, err error) {
	i := slices.Index(actions[:], a)
	if i < 0 {
		return
	}
	var refused *RefusalError
	if errors.As(err, &refused) {
		m.denials[i][0].Add(1)
	} else {
		m.denials[i][1].Add(1)
	}
}

const (
	authAccepted = iota
	authRefused
	authFailed
	authOutcomes
)

var authNames = [authOutcomes]string{"accepted", "refused", "failed"}

// method counts the outcome of an exchange of enhanced authentication, of a
// method that there is.
func (m *measures) method(name string, err error) {
	counts := m.methods[name]
	if counts == nil {
		return
	}
	var refused *RefusalError
	var fault *protocol.Error
	switch {
	case err == nil:
		counts[authAccepted].Add(1)
	case errors.As(err, &refused), errors.As(err, &fault), errors.Is(err, errGone):
		counts[authRefused].Add(1)
	default:
		counts[authFailed].Add(1)
	}
}

// offer begins to count the methods that there are.
func (m *measures) offer(methods map[string]EnhancedAuthenticator) {
	m.methods = make(map[string]*[authOutcomes]atomic.Uint64, len(methods))
	for name := range methods {
		m.methods[name] = new([authOutcomes]atomic.Uint64)
	}
}

// figures returns the counts of this moment.
func (m *measures) figures() []backend.Figure {
	value := func(n *atomic.Uint64, labels ...string) backend.Value {
		return backend.Value{Labels: labels, Number: float64(n.Load())}
	}
	taken := backend.Figure{Name: "chores_taken_total", Help: "Wills, ends of sessions and messages of gone members that were taken on, by kind.", Labels: []string{"kind"}}
	done := backend.Figure{Name: "chores_done_total", Help: "Those that were done.", Labels: []string{"kind"}}
	failed := backend.Figure{Name: "chores_failed_total", Help: "Those that failed, and will be tried again here or elsewhere.", Labels: []string{"kind"}}
	for i, kind := range choreNames {
		taken.Values = append(taken.Values, value(&m.chores[i][choreTaken], kind))
		done.Values = append(done.Values, value(&m.chores[i][choreDone], kind))
		failed.Values = append(failed.Values, value(&m.chores[i][choreFailed], kind))
	}
	wills := backend.Figure{Name: "wills_by_cause_total", Help: "Wills published here, by what the connection ended for; later: after the will delay, or the death of its gateway.", Labels: []string{"cause"}}
	for i, cause := range willNames {
		wills.Values = append(wills.Values, value(&m.wills[i], cause))
	}
	denials := backend.Figure{Name: "authorization_denials_total", Help: "Times that the authorizer did not allow something; failed: it could not tell. What it said is remembered for a while and not counted again.", Labels: []string{"action", "outcome"}}
	for i, a := range actions {
		denials.Values = append(denials.Values, value(&m.denials[i][0], a.String(), "denied"), value(&m.denials[i][1], a.String(), "failed"))
	}
	methods := backend.Figure{Name: "auth_method_results_total", Help: "Exchanges of enhanced authentication, by method and outcome.", Labels: []string{"method", "outcome"}}
	for _, name := range slices.Sorted(maps.Keys(m.methods)) {
		for i, outcome := range authNames {
			methods.Values = append(methods.Values, value(&m.methods[name][i], name, outcome))
		}
	}
	return []backend.Figure{taken, done, failed, wills, denials, methods,
		{Name: "shared_messages_total", Help: "Messages for which a member of a shared group was chosen here.", Values: backend.Single(float64(m.shared.Load()))},
		{Name: "shared_messages_requeued_total", Help: "Messages that a member of shared groups left and that went to another one, or back to the group.", Values: backend.Single(float64(m.requeued.Load()))},
	}
}
