package backend

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
)

// The errors that a caller decides on. Drivers wrap them (errors.Is works) and
// add the cause for the human.
var (
	// ErrFenced: the lease is not the newest for its session any more, or the
	// gateway's own lease has ended. Nothing was changed. The caller drops the
	// connection; its session lives on elsewhere.
	ErrFenced = errors.New("fenced by a newer owner")

	// ErrUnavailable: the service behind the driver did not answer in time.
	// The outcome is unknown. Calls that carry identities may be repeated.
	ErrUnavailable = errors.New("backend unavailable")

	// ErrRefused: the service behind the driver does not take this gateway as it
	// is set up: its credentials, its rights, its certificates, the service's
	// version. It is an ErrUnavailable that waiting does not mend.
	ErrRefused = fmt.Errorf("%w: refused", ErrUnavailable)

	// ErrFull: a limit refuses what was asked. Nothing was changed.
	ErrFull = errors.New("limit reached")

	// ErrTooLarge: a message can not be carried or kept at this size. Nothing
	// was changed.
	ErrTooLarge = errors.New("message too large")

	// ErrClosed: the driver was closed.
	ErrClosed = errors.New("closed")

	// ErrNotOwner: the session belongs to another principal. Nothing was
	// changed.
	ErrNotOwner = errors.New("session belongs to another identity")
)

// RefusedTLS reports whether err is of a TLS handshake that fails whenever it is
// repeated: one side does not trust the other's certificate, or does not speak
// TLS.
func RefusedTLS(err error) bool {
	var (
		untrusted *tls.CertificateVerificationError
		plain     tls.RecordHeaderError
		alert     *net.OpError
	)
	return errors.As(err, &untrusted) || errors.As(err, &plain) ||
		errors.As(err, &alert) && alert.Op == "remote error"
}
