package main

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/sluice-mqtt/sluice/backend"
	"github.com/sluice-mqtt/sluice/backend/memory"
)

// driver makes one of the two roles that a gateway stands on.
type driver[T any] struct {
	open func(*config) (T, error)
	// shared: other processes reach the same one.
	shared bool
}

// The drivers that are compiled in: adding one is a line here.
var (
	backends = map[string]driver[backend.Backend]{
		"memory": {open: func(*config) (backend.Backend, error) { return memory.NewBus().Gateway(), nil }},
	}
	stores = map[string]driver[backend.Store]{
		"memory": {open: func(c *config) (backend.Store, error) { return memory.NewStore(c.storeOptions()), nil }},
	}
)

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
	return errors.Join(errs...)
}

func notCompiled[T any](name, value string, drivers map[string]driver[T]) error {
	return &problem{name, value, "not compiled into this build, which has " +
		strings.Join(slices.Sorted(maps.Keys(drivers)), ", ")}
}
