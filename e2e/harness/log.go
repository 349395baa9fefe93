package harness

import (
	"bytes"
	"strings"
	"sync"
)

// What of a log goes into the output of a failed test.
const (
	tailSize = 64 << 10 // at most, in bytes
	lineSize = 500      // of each line: a client identifier may have 65,535 bytes
)

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
	return clip(l.String())
}

// clip returns the end of a text, and of long lines the beginning.
func clip(s string) string {
	lines := strings.SplitAfter(s, "\n")
	kept, size := len(lines), 0
	for kept > 0 && size < tailSize {
		kept--
		if line := lines[kept]; len(line) > lineSize {
			lines[kept] = line[:lineSize] + "...\n"
		}
		size += len(lines[kept])
	}
	return strings.Join(lines[kept:], "")
}

// news is what was written since the last call, or the end of it.
func (l *log) news() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.b.String()[l.seen:]
	l.seen = l.b.Len()
	return clip(s)
}
