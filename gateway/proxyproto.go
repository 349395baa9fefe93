package gateway

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/pires/go-proxyproto"
)

const (
	// proxyWait is how long a trusted balancer may take for its header. It
	// sends it with the first packet, whatever its client does.
	proxyWait = 5 * time.Second
	// proxyShortest is the length of the shortest header of version 1,
	// "PROXY UNKNOWN\r\n"; those of version 2 are longer.
	proxyShortest = 15
	// proxyV1Longest is what the standard allows for version 1.
	proxyV1Longest = 107
	// proxyV2Fixed is what version 2 begins with: signature, command, family,
	// and the length of the rest.
	proxyV2Fixed = 16
	// proxyV2Longest is the longest rest taken. Addresses need 36 bytes at
	// most; a client's certificate, which some balancers add, about 2 KiB.
	proxyV2Longest = 4 << 10
)

var (
	errNoProxyHeader      = errors.New("no PROXY header")
	errProxyHeaderTooLong = errors.New("PROXY header is too long")
)

// introduce takes the PROXY header of a trusted balancer, and from there on its
// client's address is that of the connection, with the limits of that. False:
// the connection is over.
func (g *Gateway) introduce(a *arrival) bool {
	balancer := a.remote
	if err := a.readProxyHeader(); err != nil {
		if err != io.EOF { // not somebody who only looks whether the port is open
			g.log.Info("no PROXY header that could be used", "remote", balancer, "listener", a.listener, "err", err)
		}
		g.turnAway(a, RefusedProxy, err)
		return false
	}
	if a.remote == balancer || trusted(g.opt.TrustedProxies, addressOf(a.remote)) {
		return true // Health checks of the balancer have no limits.
	}
	if why, ok := g.admission.enter(a); !ok {
		g.turnAway(a, why, nil)
		return false
	}
	return true
}

// readProxyHeader is [readProxyHeader] within its time.
func (a *arrival) readProxyHeader() error {
	first := time.Now().Add(proxyWait)
	if first.After(a.deadline) {
		first = a.deadline
	}
	a.nc.SetReadDeadline(first)
	client, err := readProxyHeader(a.nc)
	if err != nil {
		return err
	}
	a.nc.SetReadDeadline(a.deadline)
	if client != nil {
		a.remote = client
	}
	return nil
}

// readProxyHeader takes the header of the PROXY protocol, version 1 or 2, from
// the beginning of a connection, and not a byte more: what follows is left in
// the socket, so that nothing has to be kept in front of it.
//
// It returns the client's address, or nil where the header says that the
// connection is the balancer's own (LOCAL, which health checks use), or tells
// no address of TCP (UNKNOWN): then the socket's counts. Everything else in
// the header is skipped. The error is io.EOF if the peer sent nothing at all,
// and errNoProxyHeader at the first byte that does not belong to one.
func readProxyHeader(from io.Reader) (net.Addr, error) {
	b := make([]byte, 0, 128)
	for len(b) < proxyShortest {
		n, err := from.Read(b[len(b):proxyShortest])
		b = b[:len(b)+n]
		switch {
		case !beginsProxyHeader(b):
			return nil, errNoProxyHeader
		case err == io.EOF && len(b) > 0:
			return nil, io.ErrUnexpectedEOF
		case err != nil:
			return nil, err
		}
	}
	var err error
	if b[0] == proxyproto.SIGV1[0] {
		b, err = readProxyLine(from, b)
	} else {
		b, err = readProxyBlock(from, b)
	}
	if err != nil {
		return nil, err
	}
	// The buffer takes the whole header of version 1, which the package
	// wants to see at once.
	h, err := proxyproto.Read(bufio.NewReaderSize(bytes.NewReader(b), proxyV1Longest+1))
	if err != nil {
		return nil, err
	}
	if source, ok := h.SourceAddr.(*net.TCPAddr); ok && h.Command.IsProxy() {
		return source, nil
	}
	return nil, nil
}

// beginsProxyHeader reports whether b can be the beginning of a header, as far
// as it goes.
func beginsProxyHeader(b []byte) bool {
	for _, signature := range [][]byte{proxyproto.SIGV1, proxyproto.SIGV2} {
		if n := min(len(b), len(signature)); bytes.Equal(b[:n], signature[:n]) {
			return true
		}
	}
	return false
}

// readProxyLine completes a header of version 1: up to the end of the line,
// which is found only by taking byte after byte.
func readProxyLine(from io.Reader, b []byte) ([]byte, error) {
	for !bytes.HasSuffix(b, []byte("\r\n")) {
		if len(b) == proxyV1Longest {
			return nil, errProxyHeaderTooLong
		}
		b = append(b, 0)
		if _, err := io.ReadFull(from, b[len(b)-1:]); err != nil {
			return nil, unexpected(err)
		}
	}
	return b, nil
}

// readProxyBlock completes a header of version 2.
func readProxyBlock(from io.Reader, b []byte) ([]byte, error) {
	b = b[:proxyV2Fixed]
	if _, err := io.ReadFull(from, b[proxyShortest:]); err != nil {
		return nil, unexpected(err)
	}
	length := int(binary.BigEndian.Uint16(b[proxyV2Fixed-2:]))
	if length > proxyV2Longest {
		return nil, fmt.Errorf("%w: %d bytes", errProxyHeaderTooLong, length)
	}
	b = append(b, make([]byte, length)...)
	if _, err := io.ReadFull(from, b[proxyV2Fixed:]); err != nil {
		return nil, unexpected(err)
	}
	return b, nil
}

// unexpected is the error for an end inside a header.
func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
