package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	"github.com/sluice-mqtt/sluice/backend"
	"github.com/sluice-mqtt/sluice/gateway"
)

const (
	// startLimit bounds one try to join the store and the backend.
	startLimit = 30 * time.Second
	// The pause between two tries doubles from the first to the longest: a
	// server that comes is noticed soon, and one that stays away is not
	// hammered by all gateways.
	firstPause   = time.Second
	longestPause = 15 * time.Second
	// reasonEvery is how often the log repeats why the start still waits.
	reasonEvery = time.Minute
)

// start is the way to a gateway that serves. While a server of its drivers does
// not answer it waits for it, so that the order in which processes are started
// does not matter.
type start struct {
	config  *config
	log     *slog.Logger
	options gateway.Options // without drivers
	shown   waiting

	store backend.Store // nil until it answers; from then on kept

	said   string // the reason that the log has, and since when
	saidAt time.Time
}

// run returns the gateway, or why there can be none. At a signal it ends at
// once: then the gateway is nil, or it was just started and has to be stopped.
func (s *start) run(signals <-chan os.Signal) (g *gateway.Gateway, signal os.Signal, err error) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	done := make(chan struct{})
	var started *gateway.Gateway
	var failure error
	go func() { // Ends with ctx.
		defer close(done)
		started, failure = s.await(ctx)
	}()
	select {
	case <-done:
		return started, nil, failure
	case signal = <-signals:
	}
	cancel()
	select {
	case <-done:
		return started, signal, nil
	case <-time.After(goodbyeLimit): // A server is silent. What it was told of this gateway ends with its lease.
		return nil, signal, nil
	}
}

// await tries until the gateway serves, waiting can not help, or ctx ends.
func (s *start) await(ctx context.Context) (*gateway.Gateway, error) {
	began := time.Now()
	pause := firstPause
	for try := 1; ; try++ {
		g, err := s.try(ctx)
		if err == nil {
			if try > 1 {
				s.log.Info("what the start waited for is there", "after", time.Since(began).Round(time.Millisecond), "tries", try)
			}
			return g, nil
		}
		if ctx.Err() != nil || !canMend(err) {
			return nil, err
		}
		s.tell(err, try, pause)
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(pause):
		}
		pause = min(2*pause, longestPause)
	}
}

// try opens the drivers and starts a gateway on them.
func (s *start) try(ctx context.Context) (*gateway.Gateway, error) {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	c, o := s.config, s.options
	if s.store == nil {
		store, err := stores[c.Store].open(ctx, c, s.log)
		if err != nil {
			return nil, err
		}
		s.store = store
	}
	o.Store = s.store
	var err error
	if o.Backend, err = backends[c.Backend].open(c, s.store, s.log); err != nil {
		return nil, err
	}
	g, err := gateway.New(o)
	if err != nil {
		return nil, err
	}
	if err := g.Start(ctx); err != nil {
		return nil, err
	}
	return g, nil
}

// tell shows why the start waits, and logs it: each try, with the reason when
// it is another one or was not named for a while.
func (s *start) tell(err error, try int, pause time.Duration) {
	part, err := whatIsAway(err)
	s.shown.reason.Store(fmt.Sprintf("%s: starting: %v", part, err))
	about := []any{"part", part, "try", try, "next_in", pause}
	if reason := part + err.Error(); reason != s.said || time.Since(s.saidAt) >= reasonEvery {
		s.said, s.saidAt = reason, time.Now()
		about = append(about, "err", err)
	}
	s.log.Warn("the start waits for a server", about...)
}

// canMend reports whether a start that failed may succeed later, with nobody
// changing the configuration: all that is wrong is that a server does not answer.
func canMend(err error) bool {
	for _, err := range flatten(err) {
		away := errors.Is(err, backend.ErrUnavailable) || errors.Is(err, context.DeadlineExceeded)
		if !away || errors.Is(err, backend.ErrRefused) {
			return false
		}
	}
	return true
}

// whatIsAway names the part that a start waits for, as /readyz does later, and
// the driver's own error.
func whatIsAway(err error) (part string, cause error) {
	err = flatten(err)[0]
	var failed *gateway.ExtensionError
	var open *openError
	switch {
	case errors.As(err, &failed) && failed.Extension == "Backend":
		return "bus", failed.Err
	case errors.As(err, &failed):
		return "store", failed.Err
	case errors.As(err, &open):
		return "store", open.cause
	}
	return "start", err
}

// openError is what a driver says of the server that its variable names.
type openError struct {
	problem
	cause error
}

func (e *openError) Unwrap() error { return e.cause }

// waiting is what is shown of a gateway that is not there yet.
type waiting struct{ reason atomic.Value }

func (w *waiting) Ready() error {
	if reason, ok := w.reason.Load().(string); ok {
		return errors.New(reason)
	}
	return errors.New("starting")
}

func (*waiting) Stats() gateway.Stats { return gateway.Stats{} }
