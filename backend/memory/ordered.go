package memory

import (
	"slices"
	"sort"
)

// ordered keeps retained messages in the order of their topics, in blocks of
// bounded size: a change moves a part of one block and, rarely, the list of
// blocks. For a million messages that is two thousand entries.
type ordered struct {
	blocks [][]*kept // none is empty
}

const (
	fullBlock  = 512
	smallBlock = fullBlock / 4
)

// position is a place in an ordered; past the end if block is the number of
// blocks.
type position struct{ block, i int }

// edge is a place between topics.
type edge struct {
	topic string
	kind  edgeKind
}

type edgeKind uint8

const (
	nowhere edgeKind = iota
	before           // before the topic itself
	behind           // behind the topic itself
	past             // behind the topic and all below it
)

// follows reports whether topic comes after the edge.
func (e edge) follows(topic string) bool {
	switch e.kind {
	case before:
		return compareTopics(topic, e.topic) >= 0
	case behind:
		return compareTopics(topic, e.topic) > 0
	default:
		return compareTopics(topic, e.topic) > 0 && !within(topic, e.topic)
	}
}

// seek returns the first place whose topic follows e.
func (o *ordered) seek(e edge) position {
	b := sort.Search(len(o.blocks), func(b int) bool {
		last := o.blocks[b][len(o.blocks[b])-1]
		return e.follows(last.message.Topic)
	})
	if b == len(o.blocks) {
		return position{b, 0}
	}
	block := o.blocks[b]
	return position{b, sort.Search(len(block), func(i int) bool { return e.follows(block[i].message.Topic) })}
}

// at returns what is at p, nil past the end.
func (o *ordered) at(p position) *kept {
	if p.block == len(o.blocks) {
		return nil
	}
	return o.blocks[p.block][p.i]
}

// next returns the place behind p, which is not past the end.
func (o *ordered) next(p position) position {
	if p.i+1 < len(o.blocks[p.block]) {
		return position{p.block, p.i + 1}
	}
	return position{p.block + 1, 0}
}

// insert adds k, whose topic is not there.
func (o *ordered) insert(k *kept) {
	p := o.seek(edge{k.message.Topic, before})
	if p.block == len(o.blocks) {
		if len(o.blocks) == 0 {
			o.blocks = [][]*kept{{k}}
			return
		}
		p = position{p.block - 1, len(o.blocks[p.block-1])}
	}
	block := slices.Insert(o.blocks[p.block], p.i, k)
	if len(block) < fullBlock {
		o.blocks[p.block] = block
		return
	}
	// Topics often come in order, so what is cut off is small then.
	cut := len(block) / 2
	if p.i == len(block)-1 {
		cut = p.i
	}
	right := slices.Clone(block[cut:])
	clear(block[cut:])
	o.blocks[p.block] = block[:cut]
	o.blocks = slices.Insert(o.blocks, p.block+1, right)
}

// replace puts k in the place of what has its topic.
func (o *ordered) replace(k *kept) {
	p := o.seek(edge{k.message.Topic, before})
	o.blocks[p.block][p.i] = k
}

// remove takes out what has the topic, which is there.
func (o *ordered) remove(topic string) {
	p := o.seek(edge{topic, before})
	block := slices.Delete(o.blocks[p.block], p.i, p.i+1)
	o.blocks[p.block] = block
	switch {
	case len(block) == 0:
		o.cut(p.block)
	case len(block) >= smallBlock:
	case p.block+1 < len(o.blocks) && len(block)+len(o.blocks[p.block+1]) < fullBlock/2:
		o.join(p.block)
	case p.block > 0 && len(block)+len(o.blocks[p.block-1]) < fullBlock/2:
		o.join(p.block - 1)
	}
}

// join makes one block of b and the next.
func (o *ordered) join(b int) {
	o.blocks[b] = slices.Concat(o.blocks[b], o.blocks[b+1])
	o.cut(b + 1)
}

// cut takes out a block, and gives memory back when many are gone.
func (o *ordered) cut(b int) {
	o.blocks = slices.Delete(o.blocks, b, b+1)
	if cap(o.blocks) > 64 && len(o.blocks) < cap(o.blocks)/4 {
		o.blocks = slices.Clone(o.blocks)
	}
}
