package backendtest

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// Freeze stops a process with SIGSTOP and waits until none of its threads runs
// any more: the signal alone leaves those on other cores the time to answer a
// request. SIGCONT lets it go on.
func Freeze(t testing.TB, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if frozen(pid) {
			return
		}
	}
	t.Fatalf("process %d goes on after SIGSTOP", pid)
}

// frozen reports whether every thread of a process is stopped. Where there is
// no /proc it takes the signal's word for it.
func frozen(pid int) bool {
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid)) // the pattern is a good one
	for _, name := range threads {
		text, err := os.ReadFile(name)
		if err != nil {
			continue // it has ended
		}
		// The state follows the name, which ends with the last parenthesis.
		if at := bytes.LastIndexByte(text, ')'); at < 0 || at+2 >= len(text) || text[at+2] != 'T' {
			return false
		}
	}
	return true
}
