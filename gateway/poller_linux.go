package gateway

import (
	"errors"
	"os"
	"runtime"
	"syscall"
	"unsafe"
)

// pollEvents is how many events a poller takes at once.
const pollEvents = 128

// poller is an epoll instance beside the runtime's own. Its descriptors are
// armed for edges: an event says that something has changed, and whoever gets
// it uses up what there is. One goroutine at a time may wait; add, announce,
// remove and stop may be called by any.
type poller struct {
	fd   int
	bell int // an eventfd, rung by stop
	// shared is set where there is one processor only: the runtime waits for
	// the epoll instance like for any other descriptor. Elsewhere a goroutine
	// waits in the system call, which costs a good deal less for each event, but
	// keeps a processor from others for some microseconds up to milliseconds.
	shared *os.File
	raw    syscall.RawConn
	ready  func(uintptr) bool // polls, made once
	n      int                // what it found
	failed error

	events [pollEvents]syscall.EpollEvent
}

// event is what a poller has noticed.
type event struct {
	fd int
	// readable: there are bytes, or there will never be any again, which
	// hungUp says. writable: the socket takes more.
	readable, hungUp, writable bool
	stop                       bool // it is the end
}

func newPoller() (p *poller, err error) {
	p = &poller{fd: -1, bell: -1}
	defer func() {
		if err != nil {
			p.close()
		}
	}()
	if p.fd, err = syscall.EpollCreate1(syscall.EPOLL_CLOEXEC); err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	bell, _, e := syscall.RawSyscall(syscall.SYS_EVENTFD2, 0, syscall.O_CLOEXEC|syscall.O_NONBLOCK, 0)
	if e != 0 {
		return nil, os.NewSyscallError("eventfd2", e)
	}
	p.bell = int(bell)
	if err := p.control(syscall.EPOLL_CTL_ADD, p.bell, syscall.EPOLLIN); err != nil {
		return nil, err
	}
	if runtime.GOMAXPROCS(0) == 1 {
		return p, p.share()
	}
	return p, nil
}

// share lets the runtime wait for the epoll instance.
func (p *poller) share() error {
	if err := syscall.SetNonblock(p.fd, true); err != nil {
		return os.NewSyscallError("fcntl", err)
	}
	p.ready = func(uintptr) bool {
		p.n, p.failed = p.poll()
		return p.n > 0 || p.failed != nil
	}
	p.shared = os.NewFile(uintptr(p.fd), "epoll")
	// An error says that the runtime can not wait for it.
	err := p.shared.SetReadDeadline(longAgo.AddDate(1000, 0, 0))
	if err == nil {
		p.raw, err = p.shared.SyscallConn()
	}
	return err
}

// close is for the goroutine that waits.
func (p *poller) close() {
	switch {
	case p.shared != nil:
		p.shared.Close()
	case p.fd >= 0:
		syscall.Close(p.fd)
	}
	if p.bell >= 0 {
		syscall.Close(p.bell)
	}
}

// stop makes the last event.
func (p *poller) stop() { syscall.Write(p.bell, []byte{1, 0, 0, 0, 0, 0, 0, 0}) }

const edges = syscall.EPOLLET & 0xFFFFFFFF

// add begins to watch a descriptor. What is there already counts.
func (p *poller) add(fd int) error {
	return p.control(syscall.EPOLL_CTL_ADD, fd, syscall.EPOLLIN|syscall.EPOLLRDHUP|edges)
}

// announce has the poller say when the descriptor takes more, at once if it
// does now; or has it not say so any more.
func (p *poller) announce(fd int, more bool) error {
	events := uint32(syscall.EPOLLIN | syscall.EPOLLRDHUP | edges)
	if more {
		events |= syscall.EPOLLOUT
	}
	return p.control(syscall.EPOLL_CTL_MOD, fd, events)
}

// remove ends what add began. An event may still come.
func (p *poller) remove(fd int) { p.control(syscall.EPOLL_CTL_DEL, fd, 0) }

func (p *poller) control(op, fd int, events uint32) error {
	e := syscall.EpollEvent{Events: events, Fd: int32(fd)}
	return os.NewSyscallError("epoll_ctl", syscall.EpollCtl(p.fd, op, fd, &e))
}

// poll returns how many events there are, without waiting.
func (p *poller) poll() (int, error) {
	// The system call does not sleep, so the runtime need not know of it.
	n, _, e := syscall.RawSyscall6(syscall.SYS_EPOLL_PWAIT, uintptr(p.fd), uintptr(unsafe.Pointer(&p.events)), pollEvents, 0, 0, 0)
	switch e {
	case 0:
		return int(n), nil
	case syscall.EINTR:
		return 0, nil
	}
	return 0, os.NewSyscallError("epoll_pwait", e)
}

// wait waits for events, and returns how many there are.
func (p *poller) wait() (int, error) {
	if p.shared != nil {
		return p.waitShared()
	}
	for {
		n, err := syscall.EpollWait(p.fd, p.events[:], -1)
		if err != syscall.EINTR {
			return max(n, 0), os.NewSyscallError("epoll_wait", err)
		}
	}
}

func (p *poller) waitShared() (int, error) {
	err := p.raw.Read(p.ready)
	return p.n, errors.Join(err, p.failed)
}

// event is the i-th that was taken last.
func (p *poller) event(i int) event {
	e := &p.events[i]
	return event{
		fd:       int(e.Fd),
		readable: e.Events&^syscall.EPOLLOUT != 0,
		hungUp:   e.Events&(syscall.EPOLLRDHUP|syscall.EPOLLHUP|syscall.EPOLLERR) != 0,
		writable: e.Events&(syscall.EPOLLOUT|syscall.EPOLLHUP|syscall.EPOLLERR) != 0,
		stop:     int(e.Fd) == p.bell,
	}
}

// duplicate makes another descriptor for a socket, because the first one can
// not be taken from the runtime, which would notice every packet too.
func duplicate(raw syscall.RawConn) (fd int, err error) {
	var e syscall.Errno
	err = raw.Control(func(was uintptr) {
		var n uintptr
		n, _, e = syscall.RawSyscall(syscall.SYS_FCNTL, was, syscall.F_DUPFD_CLOEXEC, 0)
		fd = int(n)
	})
	if err == nil && e != 0 {
		err = os.NewSyscallError("fcntl", e)
	}
	return fd, err
}
