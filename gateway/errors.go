package gateway

import (
	"errors"
	"fmt"

	"github.com/sluice-mqtt/sluice/protocol"
)

// ErrStopped: the gateway is shutting down, or was never started.
var ErrStopped = errors.New("gateway: not running")

// ConfigError is a field of [Options] with a value that is not allowed. An
// error of [New] or Start that is one (errors.As) is the configuration's
// fault.
type ConfigError struct {
	Field, Value, Allowed string
	// Cause, if the value was found wrong only by trying it.
	Cause error
}

func (e *ConfigError) Error() string {
	if e.Cause != nil {
		return fmt.Sprintf("%s = %q: %v", e.Field, e.Value, e.Cause)
	}
	return fmt.Sprintf("%s = %q: allowed is %s", e.Field, e.Value, e.Allowed)
}

func (e *ConfigError) Unwrap() error { return e.Cause }

// ExtensionError is a failure of something that the embedding program brought
// along: a store, a backend, an authenticator, an authorizer, an observer.
type ExtensionError struct {
	// Extension is the field of [Options] that it came in by.
	Extension string
	Err       error
}

func (e *ExtensionError) Error() string { return fmt.Sprintf("%s failed: %v", e.Extension, e.Err) }
func (e *ExtensionError) Unwrap() error { return e.Err }

// RefusalError is the answer of an [Authenticator] or [Authorizer] that means
// no. Any other error of theirs means that they could not tell, which refuses
// too, with 0x88 or 0x87.
type RefusalError struct {
	Code protocol.ReasonCode
	// Reason is told to the client, if it wants to know.
	Reason string
}

func (e *RefusalError) Error() string {
	if e.Reason == "" {
		return e.Code.String()
	}
	return e.Code.String() + ": " + e.Reason
}

// The refusals that are usual.
var (
	ErrBadCredentials = &RefusalError{Code: protocol.BadUserNameOrPassword}
	ErrNotAuthorized  = &RefusalError{Code: protocol.NotAuthorized}
)
