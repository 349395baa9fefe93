//go:build !linux

package gateway

import "errors"

// poller exists on Linux only.
type poller struct{}

func newPoller() (*poller, error) { return nil, errors.ErrUnsupported }

func (*poller) arm(int) error { return errors.ErrUnsupported }

func (*poller) run(func(int)) error { return errors.ErrUnsupported }

func (*poller) close() {}
