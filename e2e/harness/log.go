package harness

import (
	"bytes"
	"sync"
)

// tailSize bounds what of a log goes into the output of a failed test.
const tailSize = 64 << 10

// log collects what a process writes. It is safe for concurrent use.
type log struct {
	mu   sync.Mutex
	b    bytes.Buffer
	seen int // by news
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// tail is the end of the log.
func (l *log) tail() string {
	s := l.String()
	return s[max(0, len(s)-tailSize):]
}

// news is what was written since the last call, or the end of it.
func (l *log) news() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.b.String()[l.seen:]
	l.seen = l.b.Len()
	return s[max(0, len(s)-tailSize):]
}
