package redis

import (
	"context"
	"fmt"
	"time"

	goredis "github.com/redis/go-redis/v9"
)

// layout is the number of how keys and values are made. It is raised when a
// gateway of an older version would read them wrongly.
const layout = "1"

// Fields of the version's key that say whose data it is. They are written once
// for each data set; a data set that has lost them gets them back from the
// gateways that knew them.
const (
	ownerLayout  = "layout"
	ownerCluster = "cluster" // a name that no other data set has
	ownerBus     = "bus"     // see [Options.Bus]
)

// ClusterName returns a name for all gateways on the same keys, and for no
// others: one that their bus can tell them by.
func (s *Store) ClusterName() string { return s.cluster }

// identify makes this gateway one of those whose data it is, or returns why it
// can not be. Gateways on another bus hinder it while one of them is alive. One
// that has died is waited for until its lease ends, as long as ctx allows.
func (s *Store) identify(ctx context.Context) *trouble {
	var first time.Time
	for {
		owner, err := s.readOwner(ctx, newName())
		if err != nil {
			return &trouble{unreachable, s.failed("start", err)}
		}
		s.cluster = owner.cluster
		if t := s.foreign(owner); t == nil || t.condition != otherBus {
			return t
		}
		last, now, err := s.lastLease(ctx)
		switch {
		case err != nil:
			return &trouble{unreachable, s.failed("start", err)}
		case last.Before(now):
			// Nobody is left who would not hear this one.
			if err := s.probe.HSet(ctx, s.keys.version(), ownerBus, s.options.Bus).Err(); err != nil {
				return &trouble{unreachable, s.failed("start", err)}
			}
			return nil
		case first.IsZero():
			first = last
			s.log.Warn("another gateway's lease has not ended, and its bus is another: waiting whether it is alive",
				"bus", s.options.Bus, "other", owner.bus, "ends_in", last.Sub(now).Round(time.Millisecond))
		case last.After(first): // renewed meanwhile
			return s.foreign(owner)
		}
		select {
		case <-ctx.Done():
			return s.foreign(owner)
		case <-time.After(healthInterval):
		}
	}
}

// recognize looks whether the data is still that of this gateway's cluster.
func (s *Store) recognize(ctx context.Context) *trouble {
	owner, err := s.readOwner(ctx, s.cluster)
	if err != nil {
		f := &finding{}
		f.addError(err)
		return f.trouble
	}
	if t := s.foreign(owner); t != nil {
		return t
	}
	if owner.cluster != s.cluster {
		return &trouble{otherData, fmt.Errorf("redis: the keys that begin with %q are those of another cluster of gateways by now; to join it, start again", s.options.KeyPrefix)}
	}
	return nil
}

// owner is whose data it is.
type owner struct{ layout, cluster, bus string }

// readOwner reads it, and first names what nobody has named: the cluster gets
// the name given.
func (s *Store) readOwner(ctx context.Context, name string) (owner, error) {
	key := s.keys.version()
	for {
		values, err := s.probe.HMGet(ctx, key, ownerLayout, ownerCluster, ownerBus).Result()
		if err != nil {
			return owner{}, err
		}
		r := reply(values)
		o := owner{r.str(0), r.str(1), r.str(2)}
		if o.layout != "" && o.cluster != "" && (o.bus != "" || s.options.Bus == "") {
			return o, nil
		}
		p := s.probe.Pipeline()
		p.HSetNX(ctx, key, ownerLayout, layout)
		p.HSetNX(ctx, key, ownerCluster, name)
		if s.options.Bus != "" {
			p.HSetNX(ctx, key, ownerBus, s.options.Bus)
		}
		if _, err := p.Exec(ctx); err != nil {
			return owner{}, err
		}
	}
}

// foreign returns why this gateway can not share the data of o, or nil.
func (s *Store) foreign(o owner) *trouble {
	switch {
	case o.layout != layout:
		return &trouble{otherLayout, fmt.Errorf("redis: the keys that begin with %q have layout %s, this version of the gateway has %s: use another key prefix, or the other version",
			s.options.KeyPrefix, o.layout, layout)}
	case s.options.Bus != "" && o.bus != s.options.Bus:
		return &trouble{otherBus, fmt.Errorf("redis: the keys that begin with %q are in use by gateways whose bus is %q, and that of this one is %q: they would not hear each other; use the same bus, or another key prefix",
			s.options.KeyPrefix, o.bus, s.options.Bus)}
	}
	return nil
}

// lastLease returns when the last lease of a gateway ends, the zero time if
// there is none, and the time now, both by the service's clock.
func (s *Store) lastLease(ctx context.Context) (ends, now time.Time, err error) {
	p := s.probe.Pipeline()
	clock := p.Time(ctx)
	last := p.ZRangeArgsWithScores(ctx, goredis.ZRangeArgs{Key: s.keys.nodes(), Start: 0, Stop: 0, Rev: true})
	if _, err := p.Exec(ctx); err != nil {
		return ends, now, err
	}
	for _, z := range last.Val() {
		ends = time.UnixMilli(int64(z.Score))
	}
	return ends, clock.Val(), nil
}
