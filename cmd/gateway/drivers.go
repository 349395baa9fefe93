package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"

	"github.com/sluice-mqtt/sluice/backend"
	"github.com/sluice-mqtt/sluice/backend/memory"
	"github.com/sluice-mqtt/sluice/backend/nats"
	"github.com/sluice-mqtt/sluice/backend/redis"
)

// driver makes one of the two roles that a gateway stands on.
type driver[T any] struct {
	open func(context.Context, *config, *slog.Logger) (T, error)
	// check finds what is wrong with the driver's variables without asking
	// its server. Nil finds nothing.
	check func(*config) error
	// shared: other processes reach the same one.
	shared bool
}

// The drivers that are compiled in: adding one is a line here.
var (
	backends = map[string]driver[backend.Backend]{
		"memory": {open: openBus},
		"nats":   {open: openNATS, check: checkNATS, shared: true},
	}
	stores = map[string]driver[backend.Store]{
		"memory": {open: openMemory},
		"redis":  {open: openRedis, check: checkRedis, shared: true},
	}
)

func openBus(context.Context, *config, *slog.Logger) (backend.Backend, error) {
	return memory.NewBus().Gateway(), nil
}

func openMemory(_ context.Context, c *config, _ *slog.Logger) (backend.Store, error) {
	return memory.NewStore(c.storeOptions()), nil
}

func openNATS(_ context.Context, c *config, log *slog.Logger) (backend.Backend, error) {
	b, err := nats.New(c.natsOptions(log))
	if err != nil {
		return nil, &problem{"NATS_URL", masked, err.Error()}
	}
	return b, nil
}

func checkNATS(c *config) error {
	_, err := openNATS(context.Background(), c, nil)
	return err
}

func openRedis(ctx context.Context, c *config, log *slog.Logger) (backend.Store, error) {
	s, err := redis.New(ctx, c.redisOptions(log))
	if err != nil {
		return nil, &problem{"REDIS_URL", masked, err.Error()}
	}
	return s, nil
}

func checkRedis(c *config) error {
	if err := c.redisOptions(nil).Validate(); err != nil {
		return &problem{"REDIS_URL", masked, err.Error()}
	}
	return nil
}

// checkDrivers refuses what is not compiled in, and the pair that can not keep
// its promises.
func (c *config) checkDrivers() error {
	b, okBackend := backends[c.Backend]
	s, okStore := stores[c.Store]
	var errs []error
	if !okBackend {
		errs = append(errs, notCompiled("GATEWAY_BACKEND", c.Backend, backends))
	}
	if !okStore {
		errs = append(errs, notCompiled("GATEWAY_STORE", c.Store, stores))
	}
	if len(errs) == 0 && b.shared && !s.shared {
		errs = append(errs, &problem{"GATEWAY_STORE", c.Store, fmt.Sprintf(
			"not with GATEWAY_BACKEND=%s: sessions in the memory of one gateway could not follow their clients to another", c.Backend)})
	}
	if len(errs) == 0 && b.check != nil {
		errs = append(errs, b.check(c))
	}
	if len(errs) == 0 && s.check != nil {
		errs = append(errs, s.check(c))
	}
	return errors.Join(errs...)
}

func notCompiled[T any](name, value string, drivers map[string]driver[T]) error {
	return &problem{name, value, "not compiled into this build, which has " +
		strings.Join(slices.Sorted(maps.Keys(drivers)), ", ")}
}
