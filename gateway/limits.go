package gateway

// Refusal names the limit for which something was refused to a client.
type Refusal uint8

const (
	// RefusedConnections: too many connections at one time.
	RefusedConnections Refusal = iota
	// RefusedTLS: a TLS handshake that failed, or did not end in time.
	RefusedTLS
	refusals
)

var refusalNames = [refusals]string{
	RefusedConnections: "connections",
	RefusedTLS:         "tls_handshake",
}

// String is the name of the reason in metrics.
func (r Refusal) String() string {
	if r < refusals {
		return refusalNames[r]
	}
	return "unknown"
}

// Refusals lists every one.
func Refusals() []Refusal {
	all := make([]Refusal, refusals)
	for i := range all {
		all[i] = Refusal(i)
	}
	return all
}
