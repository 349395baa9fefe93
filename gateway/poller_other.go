//go:build !linux

package gateway

import (
	"errors"
	"syscall"
)

// poller exists on Linux only.
type poller struct{}

type event struct {
	fd                               int
	readable, hungUp, writable, stop bool
}

func newPoller() (*poller, error)            { return nil, errors.ErrUnsupported }
func (*poller) close()                       {}
func (*poller) stop()                        {}
func (*poller) add(int) error                { return errors.ErrUnsupported }
func (*poller) announce(int, bool) error     { return errors.ErrUnsupported }
func (*poller) remove(int)                   {}
func (*poller) poll() (int, error)           { return 0, errors.ErrUnsupported }
func (*poller) wait() (int, error)           { return 0, errors.ErrUnsupported }
func (*poller) event(int) event              { return event{} }
func duplicate(syscall.RawConn) (int, error) { return -1, errors.ErrUnsupported }
