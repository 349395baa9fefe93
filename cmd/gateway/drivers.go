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
	open T
	// check finds what is wrong with the driver's variables without asking
	// its server. Nil finds nothing.
	check func(*config) error
	// shared: other processes reach the same one.
	shared bool
}

type (
	openBackend func(*config, backend.Store, *slog.Logger) (backend.Backend, error)
	openStore   func(context.Context, *config, *slog.Logger) (backend.Store, error)
)

// The drivers that are compiled in: adding one is a line here.
var (
	backends = map[string]driver[openBackend]{
		"memory": {open: openBus},
		"nats":   {open: openNATS, check: checkNATS, shared: true},
	}
	stores = map[string]driver[openStore]{
		"memory": {open: openMemory},
		"redis":  {open: openRedis, check: checkRedis, shared: true},
	}
)

func openBus(*config, backend.Store, *slog.Logger) (backend.Backend, error) {
	return memory.NewBus().Gateway(), nil
}

func openMemory(_ context.Context, c *config, _ *slog.Logger) (backend.Store, error) {
	return memory.NewStore(c.storeOptions()), nil
}

// openNATS makes the bus one of the gateways on the same store, if that has a
// name for them.
func openNATS(c *config, s backend.Store, log *slog.Logger) (backend.Backend, error) {
	name := c.RedisKeyPrefix
	if named, ok := s.(interface{ ClusterName() string }); ok {
		name = named.ClusterName()
	}
	o, err := c.natsOptions(name, log)
	if err != nil {
		return nil, err
	}
	b, err := nats.New(o)
	if err != nil {
		return nil, &problem{"NATS_URL", masked, err.Error()}
	}
	return b, nil
}

func checkNATS(c *config) error {
	_, err := openNATS(c, nil, nil)
	return err
}

func openRedis(ctx context.Context, c *config, log *slog.Logger) (backend.Store, error) {
	o, err := c.redisOptions(log)
	if err != nil {
		return nil, err
	}
	s, err := redis.New(ctx, o)
	if err != nil {
		return nil, &openError{problem{"REDIS_URL", masked, err.Error()}, err}
	}
	return s, nil
}

func checkRedis(c *config) error {
	o, err := c.redisOptions(nil)
	if err == nil {
		if err = o.Validate(); err != nil {
			err = &problem{"REDIS_URL", masked, err.Error()}
		}
	}
	return err
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
