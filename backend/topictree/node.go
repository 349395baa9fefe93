package topictree

import "strings"

// node stands for the levels of a filter that lead to it.
type node[S comparable, V any] struct {
	children *children[S, V]    // by the text of the next level
	plus     *node[S, V]        // next level "+"
	here     *subscribers[S, V] // of the filter that ends here
	below    *subscribers[S, V] // of the filter that goes on with "/#" and ends
}

// children are found by a search of few, until there are more than
// maxFewChildren: then they are in many.
type children[S comparable, V any] struct {
	few  []child[S, V]
	many map[string]*node[S, V]
	peak int // of len(many)
}

type child[S comparable, V any] struct {
	level string
	node  *node[S, V]
}

const (
	maxFewChildren = 8

	// longFilter is from which length on a level is copied out of a filter
	// rather than kept as a part of it, so that a short filter does not keep
	// a long one in memory that is gone.
	longFilter = 128
)

func (n *node[S, V]) empty() bool {
	return n.children == nil && n.plus == nil && n.here == nil && n.below == nil
}

// find returns the node that a filter reaches by level, or nil.
func (n *node[S, V]) find(level string) *node[S, V] {
	if level == "+" {
		return n.plus
	}
	return n.child(level)
}

// child returns the node for the text of a level, or nil.
func (n *node[S, V]) child(level string) *node[S, V] {
	if n.children == nil {
		return nil
	}
	if n.children.many != nil {
		return n.children.many[level]
	}
	for i := range n.children.few {
		if n.children.few[i].level == level {
			return n.children.few[i].node
		}
	}
	return nil
}

// make returns the node that a filter of the given length reaches by level.
func (n *node[S, V]) make(level string, filterLen int) *node[S, V] {
	if next := n.find(level); next != nil {
		return next
	}
	next := new(node[S, V])
	if level == "+" {
		n.plus = next
		return next
	}
	if filterLen >= longFilter {
		level = strings.Clone(level)
	}
	if n.children == nil {
		n.children = new(children[S, V])
	}
	n.children.add(child[S, V]{level, next})
	return next
}

func (n *node[S, V]) remove(level string) {
	if level == "+" {
		n.plus = nil
		return
	}
	if n.children.remove(level); n.children.few == nil && n.children.many == nil {
		n.children = nil
	}
}

func (k *children[S, V]) add(c child[S, V]) {
	if k.many == nil && len(k.few) == maxFewChildren {
		k.many = make(map[string]*node[S, V], 2*maxFewChildren)
		for _, old := range k.few {
			k.many[old.level] = old.node
		}
		k.few = nil
	}
	if k.many != nil {
		k.many[c.level] = c.node
		k.peak = max(k.peak, len(k.many))
		return
	}
	next := make([]child[S, V], len(k.few)+1)
	copy(next, k.few)
	next[len(k.few)] = c
	k.few = next
}

func (k *children[S, V]) remove(level string) {
	if k.many != nil {
		delete(k.many, level)
		if len(k.many) > maxFewChildren/2 {
			k.many = shrunk(k.many, &k.peak)
			return
		}
		few := make([]child[S, V], 0, len(k.many))
		for l, n := range k.many {
			few = append(few, child[S, V]{l, n})
		}
		k.few, k.many, k.peak = few, nil, 0
		return
	}
	next := make([]child[S, V], 0, len(k.few))
	for _, c := range k.few {
		if c.level != level {
			next = append(next, c)
		}
	}
	if k.few = next; len(next) == 0 {
		k.few = nil
	}
}
