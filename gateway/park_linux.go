package gateway

import (
	"errors"
	"os"
	"syscall"
)

// poller is an epoll instance beside the runtime's own, in which it is
// nested, so that waiting for it takes no thread.
type poller struct {
	file *os.File
	raw  syscall.RawConn
	fd   int
}

func newPoller() (*poller, error) {
	fd, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	if err := syscall.SetNonblock(fd, true); err != nil {
		return nil, errors.Join(os.NewSyscallError("fcntl", err), syscall.Close(fd))
	}
	p := &poller{file: os.NewFile(uintptr(fd), "epoll"), fd: fd}
	// An error says that the runtime can not wait for it.
	err = p.file.SetReadDeadline(longAgo.AddDate(1000, 0, 0))
	if err == nil {
		p.raw, err = p.file.SyscallConn()
	}
	if err != nil {
		return nil, errors.Join(err, p.file.Close())
	}
	return p, nil
}

// arm asks for one event of fd: that there is something to read, or that there
// will never be. One that is there already counts. A descriptor that is closed
// is forgotten by itself.
func (p *poller) arm(fd int) error {
	e := syscall.EpollEvent{Events: syscall.EPOLLIN | syscall.EPOLLRDHUP | syscall.EPOLLONESHOT, Fd: int32(fd)}
	err := syscall.EpollCtl(p.fd, syscall.EPOLL_CTL_MOD, fd, &e)
	if err == syscall.ENOENT {
		err = syscall.EpollCtl(p.fd, syscall.EPOLL_CTL_ADD, fd, &e)
	}
	return os.NewSyscallError("epoll_ctl", err)
}

// run calls wake for every event until the poller is closed.
func (p *poller) run(wake func(fd int)) error {
	events := make([]syscall.EpollEvent, 256)
	var failed error
	err := p.raw.Read(func(fd uintptr) bool {
		for {
			n, err := syscall.EpollWait(int(fd), events, 0)
			switch {
			case err == syscall.EINTR:
			case err != nil:
				failed = os.NewSyscallError("epoll_wait", err)
				return true
			case n == 0:
				return false
			}
			for i := range events[:max(n, 0)] {
				wake(int(events[i].Fd))
			}
		}
	})
	return errors.Join(err, failed)
}

func (p *poller) close() { p.file.Close() }
