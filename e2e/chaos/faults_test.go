package chaos_test

import (
	"fmt"
	"math/rand/v2"
	"syscall"
	"testing"
	"time"

	"github.com/sluice-mqtt/sluice/e2e/chaos"
	"github.com/sluice-mqtt/sluice/e2e/harness"
)

// breaker breaks a cluster and mends it, by chance.
type breaker struct {
	t     *testing.T
	c     *harness.Cluster
	run   *chaos.Run
	rand  *rand.Rand
	kills int // by SIGKILL
}

// faults are what happens, and how often relative to each other.
var faults = []struct {
	weight int
	do     func(*breaker)
}{
	{6, func(b *breaker) { b.killGateways(1) }},
	{2, func(b *breaker) { b.killGateways(2) }},
	{1, func(b *breaker) { b.killGateways(3) }},
	{2, (*breaker).restartGateway},
	{4, (*breaker).pauseGateway},
	{2, func(b *breaker) { b.killServer("redis", b.c.Redis) }},
	{2, func(b *breaker) { b.pauseServer("redis", b.c.Redis) }},
	{2, func(b *breaker) { b.killServer("nats", b.c.NATS) }},
	{2, func(b *breaker) { b.pauseServer("nats", b.c.NATS) }},
	{1, (*breaker).killWhileRedisIsAway},
	{1, (*breaker).killWithNATS},
	{1, (*breaker).pauseThenKill},
	{2, func(b *breaker) { b.cutOff("redis", b.c.ToRedis, harness.ToServer, harness.ToClient) }},
	{1, func(b *breaker) { b.cutOff("redis", b.c.ToRedis, harness.ToClient) }},
	{2, func(b *breaker) { b.cutOff("nats", b.c.ToNATS, harness.ToServer, harness.ToClient) }},
	{1, func(b *breaker) { b.cutOff("nats", b.c.ToNATS, harness.ToClient) }},
	{1, (*breaker).cutOffFromBoth},
	{2, (*breaker).swallow},
	{1, (*breaker).slowRedis},
}

// one does something and mends it.
func (b *breaker) one() {
	sum := 0
	for _, f := range faults {
		sum += f.weight
	}
	n := b.rand.IntN(sum)
	for _, f := range faults {
		if n -= f.weight; n < 0 {
			f.do(b)
			return
		}
	}
}

// wait is how long things stay broken.
func (b *breaker) wait(limit time.Duration) {
	time.Sleep(time.Duration(b.rand.Int64N(int64(limit))))
}

func (b *breaker) note(format string, args ...any) {
	b.run.Note(format, args...)
	b.t.Logf(format, args...)
}

func (b *breaker) killGateways(n int) {
	chosen := b.rand.Perm(len(b.c.Gateways))[:n]
	b.note("kill gateways %v", chosen)
	for _, i := range chosen {
		b.c.Gateways[i].Kill(b.t)
		b.kills++
	}
	b.wait(3 * time.Second)
	b.launch(chosen...)
}

// launch starts gateways again.
func (b *breaker) launch(gateways ...int) {
	for _, i := range gateways {
		b.c.Gateways[i].Revive(b.t)
	}
	b.note("gateways %v are back", gateways)
}

func (b *breaker) restartGateway() {
	i := b.rand.IntN(len(b.c.Gateways))
	b.note("stop gateway %d in order", i)
	b.c.Gateways[i].Stop(b.t)
	b.wait(time.Second)
	b.launch(i)
}

func (b *breaker) pauseGateway() {
	i := b.rand.IntN(len(b.c.Gateways))
	b.note("pause gateway %d", i)
	b.c.Gateways[i].Signal(b.t, syscall.SIGSTOP)
	b.wait(8 * time.Second)
	b.c.Gateways[i].Signal(b.t, syscall.SIGCONT)
	b.note("gateway %d goes on", i)
}

func (b *breaker) pauseThenKill() {
	i := b.rand.IntN(len(b.c.Gateways))
	b.note("pause gateway %d, then kill it", i)
	b.c.Gateways[i].Signal(b.t, syscall.SIGSTOP)
	b.wait(6 * time.Second)
	b.c.Gateways[i].Kill(b.t)
	b.kills++
	b.launch(i)
}

func (b *breaker) killServer(name string, s *harness.Server) {
	b.note("kill %s", name)
	s.Kill(b.t)
	b.kills++
	b.wait(3 * time.Second)
	s.Start(b.t)
	b.note("%s is back", name)
}

func (b *breaker) pauseServer(name string, s *harness.Server) {
	b.note("pause %s", name)
	s.Pause(b.t)
	b.wait(6 * time.Second)
	s.Resume(b.t)
	b.note("%s goes on", name)
}

func (b *breaker) killWhileRedisIsAway() {
	i := b.rand.IntN(len(b.c.Gateways))
	b.note("kill gateway %d while redis is paused", i)
	b.c.Redis.Pause(b.t)
	b.wait(2 * time.Second)
	b.c.Gateways[i].Kill(b.t)
	b.kills++
	b.wait(2 * time.Second)
	b.c.Redis.Resume(b.t)
	b.launch(i)
}

func (b *breaker) killWithNATS() {
	i := b.rand.IntN(len(b.c.Gateways))
	b.note("kill gateway %d and nats", i)
	b.c.Gateways[i].Kill(b.t)
	b.c.NATS.Kill(b.t)
	b.kills += 2
	b.wait(2 * time.Second)
	b.c.NATS.Start(b.t)
	b.launch(i)
}

// cutOff keeps back what goes between one gateway and a server.
func (b *breaker) cutOff(name string, proxies []*harness.Proxy, directions ...harness.Direction) {
	i := b.rand.IntN(len(proxies))
	b.note("cut gateway %d off from %s, %d directions", i, name, len(directions))
	proxies[i].Hold(directions...)
	b.wait(8 * time.Second)
	if b.rand.IntN(2) == 0 {
		proxies[i].Cut()
	}
	proxies[i].Heal()
	b.note("gateway %d reaches %s again", i, name)
}

func (b *breaker) cutOffFromBoth() {
	i := b.rand.IntN(len(b.c.Gateways))
	b.note("refuse gateway %d redis and nats", i)
	b.c.ToRedis[i].Refuse()
	b.c.ToNATS[i].Refuse()
	b.wait(8 * time.Second)
	b.c.ToRedis[i].Heal()
	b.c.ToNATS[i].Heal()
	b.note("gateway %d reaches both again", i)
}

// swallow loses the answers to some appends, and the scripts of Redis.
func (b *breaker) swallow() {
	b.note("swallow answers of redis")
	for _, p := range b.c.ToRedis {
		for i := range 5 {
			p.Swallow(fmt.Sprintf("p%d ", i))
			p.Swallow("evalsha")
		}
	}
	b.c.Redis.Do(b.t, "SCRIPT FLUSH")
	b.wait(4 * time.Second)
	for _, p := range b.c.ToRedis {
		p.Heal()
		p.Cut() // those whose answers are lost
	}
	b.note("redis answers again")
}

func (b *breaker) slowRedis() {
	b.note("delay the answers of redis")
	for _, p := range b.c.ToRedis {
		p.Delay(100 * time.Millisecond)
	}
	b.wait(4 * time.Second)
	for _, p := range b.c.ToRedis {
		p.Heal()
	}
	b.note("redis is fast again")
}

// summary is what was done.
func (b *breaker) summary(seed uint64) string { return fmt.Sprintf("seed %d kills %d", seed, b.kills) }
