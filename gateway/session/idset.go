package session

// idSet is a set of packet identifiers: a handful in a slice, many in a bitmap
// of 8 KiB, which is the most that a client can make it cost.
type idSet struct {
	few   []uint16
	many  *[65536 / 64]uint64
	count int
}

const fewIDs = 64

func (s *idSet) len() int { return s.count }

func (s *idSet) has(id uint16) bool {
	if s.many != nil {
		return s.many[id/64]&(1<<(id%64)) != 0
	}
	for _, v := range s.few {
		if v == id {
			return true
		}
	}
	return false
}

// add adds an identifier that is not in the set.
func (s *idSet) add(id uint16) {
	s.count++
	if s.many == nil && len(s.few) < fewIDs {
		s.few = append(s.few, id)
		return
	}
	if s.many == nil {
		s.many = new([65536 / 64]uint64)
		for _, v := range s.few {
			s.many[v/64] |= 1 << (v % 64)
		}
		s.few = nil
	}
	s.many[id/64] |= 1 << (id % 64)
}

func (s *idSet) remove(id uint16) {
	if !s.has(id) {
		return
	}
	s.count--
	if s.many != nil {
		s.many[id/64] &^= 1 << (id % 64)
		if s.count == 0 {
			s.many = nil
		}
		return
	}
	for i, v := range s.few {
		if v == id {
			last := len(s.few) - 1
			s.few[i] = s.few[last]
			s.few = s.few[:last]
			return
		}
	}
}
