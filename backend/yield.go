package backend

import "context"

// Yielder is what a context may hold for a caller that serves many clients: it
// gives their service to another goroutine.
type Yielder interface {
	// Yield may be called several times, in the goroutine of the call only.
	Yield()
}

type yieldKey struct{}

// YieldKey is the key of the [Yielder] of a context.
var YieldKey any = yieldKey{}

// Yield is to be called by a driver that is about to wait, in the goroutine that
// has called it, with the context of the call. Before the calls of a store that
// is not [Immediate] the gateway does so itself, but not before those of a
// [Backend], which are to take what they are given without waiting, as a rule.
func Yield(ctx context.Context) {
	if y, ok := ctx.Value(YieldKey).(Yielder); ok {
		y.Yield()
	}
}
