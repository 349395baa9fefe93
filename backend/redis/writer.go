package redis

import (
	"context"
	"fmt"
	"sync"

	goredis "github.com/redis/go-redis/v9"

	"github.com/sluice-mqtt/sluice/backend"
)

const (
	// clusterWriters is how many pipelines to a cluster may be under way at
	// once: one that waits for one server does not hold up all others.
	clusterWriters = 8

	// bundlesAtOnce is how many inboxes one transaction appends to, so that
	// the server has time for others in between.
	bundlesAtOnce = 512

	// bytesAtOnce is about how much is appended in one go.
	bytesAtOnce = 4 << 20
)

// parcel is one message on its way into one inbox, or into the queue of a
// shared group.
type parcel struct {
	to      *record // nil for a queue
	group   string  // whose queue
	key     string  // of inbox or queue
	entry   backend.Entry
	element []byte
	id      identity

	state  parcelState
	seq    uint64
	header header // of the inbox, right after
	full   bool   // an older message had to go
}

type parcelState uint8

const (
	waiting parcelState = iota
	stored
	refused
	// nowhere: there is no inbox of that name, or the group has no members.
	nowhere
)

// job is what one caller wants to have appended.
type job struct {
	ctx     context.Context
	parcels []*parcel
	version version // read together with appending
	err     error
	done    chan struct{}
}

// writer appends for all callers: while one pipeline is under way the next
// collects. Order within an inbox is the order of the calls. It has a goroutine
// only while there is work.
type writer struct {
	store *Store
	mu    sync.Mutex
	jobs  []*job
	busy  bool
}

func (w *writer) submit(j *job) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.jobs = append(w.jobs, j)
	if !w.busy {
		w.busy = true
		go w.run() // ends when there is nothing left to append
	}
}

func (w *writer) run() {
	for {
		jobs := w.next()
		if jobs == nil {
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), 2*max(replyTimeout, w.store.options.patience))
		w.store.append(ctx, jobs)
		cancel()
		for _, j := range jobs {
			close(j.done)
		}
	}
}

// next returns the jobs for one go, nil if there are none.
func (w *writer) next() []*job {
	w.mu.Lock()
	defer w.mu.Unlock()
	n, size := 0, 0
	for n < len(w.jobs) && (n == 0 || size < bytesAtOnce) {
		for _, p := range w.jobs[n].parcels {
			size += len(p.element)
		}
		n++
	}
	if n == 0 {
		w.busy = false
		return nil
	}
	jobs := w.jobs[:n:n]
	w.jobs = w.jobs[n:]
	return jobs
}

// post appends parcels and returns the version that was read after the call
// began. When it fails some may have been appended.
func (s *Store) post(ctx context.Context, parcels []*parcel) (version, error) {
	jobs := make(map[*writer]*job, 1)
	if len(parcels) == 0 || len(s.writers) == 1 {
		jobs[s.writers[0]] = &job{ctx: ctx, parcels: parcels, done: make(chan struct{})}
	} else {
		for _, p := range parcels {
			w := s.writers[bucketOf(p.key, len(s.writers))]
			j := jobs[w]
			if j == nil {
				j = &job{ctx: ctx, done: make(chan struct{})}
				jobs[w] = j
			}
			j.parcels = append(j.parcels, p)
		}
	}
	for w, j := range jobs {
		w.submit(j)
	}
	var v version
	for _, j := range jobs {
		select {
		case <-j.done:
		case <-ctx.Done():
			return v, context.Cause(ctx)
		}
		if j.err != nil {
			return v, j.err
		}
		if v.data == "" || j.version.n > v.n {
			v = j.version
		}
	}
	return v, nil
}

// bundle is what goes into one list.
type bundle struct {
	parcels []*parcel
	jobs    []*job // of the parcels, each once or more
	size    int
	careful *call
	push    *goredis.IntCmd
	head    *goredis.StringCmd
}

// append carries jobs out and notes their outcomes.
func (s *Store) append(ctx context.Context, jobs []*job) {
	var bundles []*bundle
	byKey := make(map[string]*bundle)
	for _, j := range jobs {
		if j.err = j.ctx.Err(); j.err != nil {
			continue // nobody waits for it
		}
		for _, p := range j.parcels {
			b := byKey[p.key]
			if b == nil {
				b = &bundle{}
				byKey[p.key] = b
				bundles = append(bundles, b)
			}
			b.parcels, b.jobs, b.size = append(b.parcels, p), append(b.jobs, j), b.size+len(p.element)
		}
	}
	for first := true; first || len(bundles) > 0; first = false {
		part := bundles[:min(len(bundles), bundlesAtOnce)]
		bundles = bundles[len(part):]
		s.figures.appending(part)
		v, err := s.transact(ctx, part)
		for _, j := range jobs {
			if j.err == nil {
				j.version, j.err = v, err
			}
		}
		if err != nil {
			return
		}
	}
}

// sender sends pipelines: a client, or one connection of it.
type sender interface {
	Pipeline() goredis.Pipeliner
	TxPipeline() goredis.Pipeliner
	goredis.Scripter
}

// transact appends bundles and reads the version, as one transaction on a
// single server. In a cluster each bundle is one. The error concerns all.
func (s *Store) transact(ctx context.Context, bundles []*bundle) (version, error) {
	var on sender = s.client
	var conn *goredis.Conn
	if single, ok := s.client.(*goredis.Client); ok && s.options.WaitReplicas > 0 && len(bundles) > 0 {
		conn = single.Conn()
		defer conn.Close()
		on = conn
	}
	var p goredis.Pipeliner
	if s.clustered || len(bundles) == 0 {
		p = on.Pipeline()
	} else {
		p = on.TxPipeline()
	}
	var scripts []*goredis.Cmd
	for _, b := range bundles {
		if s.roomy(b) {
			elements := make([]any, len(b.parcels))
			for i, parcel := range b.parcels {
				elements[i] = parcel.element
			}
			b.push = p.RPushX(ctx, b.parcels[0].key, elements...)
			b.head = p.LIndex(ctx, b.parcels[0].key, 0)
			continue
		}
		b.careful = s.carefully(b.parcels)
		scripts = append(scripts, p.EvalSha(ctx, b.careful.script.sha, b.careful.keys, b.careful.args...))
	}
	got := p.HMGet(ctx, s.keys.version(), versionData, versionCount)
	sent, _ := p.Exec(ctx) // every command has its own error
	if got.Err() != nil {
		return version{}, fmt.Errorf("append: %w", abortReason(sent, got.Err()))
	}
	for _, b := range bundles {
		var err error
		if b.careful != nil {
			b.careful.take(scripts[0])
			scripts = scripts[1:]
			if missing(b.careful.err) {
				b.careful.take(on.Eval(ctx, b.careful.script.source, b.careful.keys, b.careful.args...))
			}
			err = b.careful.err
		} else {
			err = b.push.Err()
		}
		if err == nil {
			err = s.note(b)
		}
		for _, j := range b.jobs {
			if j.err == nil {
				j.err = err
			}
		}
	}
	if conn != nil {
		n, err := conn.Wait(ctx, s.options.WaitReplicas, replyTimeout/2).Result()
		if err != nil {
			return version{}, fmt.Errorf("wait: %w", err)
		}
		if int(n) < s.options.WaitReplicas {
			return version{}, fmt.Errorf("%d replicas have what was appended, %d are asked for", n, s.options.WaitReplicas)
		}
	}
	return readVersion(got.Val()), nil
}

// roomy reports whether a bundle can be appended without looking: it fits, as
// far as is known, and nothing in it has an identity. In a cluster no two
// commands are one transaction, which a script is.
func (s *Store) roomy(b *bundle) bool {
	rec := b.parcels[0].to
	if rec == nil || s.clustered {
		return false
	}
	for _, p := range b.parcels {
		if p.id.field != "" {
			return false
		}
	}
	held := rec.held.Load()
	return held+int64(len(b.parcels)) <= int64(s.options.InboxMessages) &&
		held*rec.average.Load()+int64(b.size) <= s.options.InboxBytes/2
}

// carefully returns the script that appends within the limits.
func (s *Store) carefully(parcels []*parcel) *call {
	first := parcels[0]
	c := &call{args: []any{s.options.InboxMessages, s.options.InboxBytes, flag(s.options.InboxFull == DropOldest)}}
	if first.to != nil {
		newer, older := s.keys.session(first.to.Client).seen()
		c.script, c.keys = appendScript, []string{first.key, newer, older}
	} else {
		k := s.keys.group(first.group)
		newer, older := k.seen()
		c.script, c.keys = parkScript, []string{k.members(), k.queue(), k.figures(), newer, older}
	}
	for _, p := range parcels {
		c.args = append(c.args, p.element, p.id.field, p.id.value)
	}
	return c
}

// note records what became of the parcels of a bundle.
func (s *Store) note(b *bundle) error {
	switch {
	case b.careful == nil:
		return b.notePushed()
	case len(b.careful.reply) == 0:
		b.each(func(p *parcel, _ int) { p.state = nowhere })
		return nil
	case b.parcels[0].to == nil:
		b.noteCareful(1, int(b.careful.reply.int(0)), header{})
		return nil
	}
	h, err := decodeHeader(b.careful.reply.str(0))
	if err != nil {
		return err
	}
	b.parcels[0].to.learn(b.careful.reply.int(1), b)
	b.noteCareful(3, int(b.careful.reply.int(2)), h)
	return nil
}

func (b *bundle) each(f func(p *parcel, i int)) {
	for i, p := range b.parcels {
		f(p, i)
	}
}

func (b *bundle) notePushed() error {
	n := uint64(b.push.Val())
	if n == 0 {
		b.each(func(p *parcel, _ int) { p.state = nowhere })
		return nil
	}
	h, err := decodeHeader(b.head.Val())
	if err != nil {
		return err
	}
	first := h.base + n - uint64(len(b.parcels))
	b.each(func(p *parcel, i int) { p.state, p.header, p.seq = stored, h, first+uint64(i) })
	b.parcels[0].to.learn(int64(n)-1, b)
	return nil
}

// noteCareful reads the answers of a script, which begin at from. The newest
// parcels are those that older messages had to go for.
func (b *bundle) noteCareful(from, went int, h header) {
	b.each(func(p *parcel, i int) {
		p.state, p.header, p.seq = stored, h, uint64(b.careful.reply.int(from+i))
		if p.seq == 0 {
			p.state = refused
		}
	})
	for i := len(b.parcels) - 1; i >= 0 && went > 0; i-- {
		b.parcels[i].full = true
		went--
	}
}

// learn notes how many entries the inbox holds and how large they are.
func (rec *record) learn(held int64, b *bundle) {
	rec.held.Store(held)
	size := int64(b.size / len(b.parcels))
	if known := rec.average.Load(); known != 0 {
		size = (7*known + size) / 8
	}
	rec.average.Store(size)
}
