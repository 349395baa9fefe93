package main

import (
	"errors"
	"io/fs"
	"math"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/sluice-mqtt/sluice/backend/memory"
)

// list is separated by commas; spaces around the parts do not count.
type list []string

// UnmarshalText is called by the parser of the environment.
func (l *list) UnmarshalText(text []byte) error {
	*l = nil
	for part := range strings.SplitSeq(string(text), ",") {
		if part = strings.TrimSpace(part); part != "" {
			*l = append(*l, part)
		}
	}
	if len(*l) == 0 {
		return errors.New("empty list")
	}
	return nil
}

// size is a number of bytes: digits alone, or with one of sizeUnits.
type size int64

var sizeUnits = []struct {
	suffix string
	bytes  int64
}{
	{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30},
	{"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"B", 1},
}

// UnmarshalText is called by the parser of the environment.
func (s *size) UnmarshalText(text []byte) error {
	digits, unit := string(text), int64(1)
	for _, u := range sizeUnits {
		if d, ok := strings.CutSuffix(digits, u.suffix); ok {
			digits, unit = strings.TrimSpace(d), u.bytes
			break
		}
	}
	n, err := strconv.ParseUint(digits, 10, 63)
	if err != nil || int64(n) > math.MaxInt64/unit {
		return errors.New("not a size")
	}
	*s = size(int64(n) * unit)
	return nil
}

// seconds is a duration that MQTT counts in whole seconds.
type seconds int64

// UnmarshalText is called by the parser of the environment.
func (s *seconds) UnmarshalText(text []byte) error {
	d, err := time.ParseDuration(string(text))
	if err != nil || d%time.Second != 0 {
		return errors.New("not a number of whole seconds")
	}
	*s = seconds(d / time.Second)
	return nil
}

func (s seconds) duration() time.Duration { return time.Duration(s) * time.Second }

// address is host:port, an empty host being every address of the machine, or
// "off".
type address string

// UnmarshalText is called by the parser of the environment.
func (a *address) UnmarshalText(text []byte) error {
	*a = address(text)
	if !a.on() {
		return nil
	}
	_, port, err := net.SplitHostPort(string(text))
	if err != nil {
		return err
	}
	_, err = strconv.ParseUint(port, 10, 16)
	return err
}

func (a address) on() bool { return a != "off" }

// networks is a list of networks and single addresses.
type networks []netip.Prefix

// UnmarshalText is called by the parser of the environment.
func (n *networks) UnmarshalText(text []byte) error {
	var parts list
	if err := parts.UnmarshalText(text); err != nil {
		return err
	}
	*n = nil
	for _, part := range parts {
		p, err := netip.ParsePrefix(part)
		if err != nil {
			a, aerr := netip.ParseAddr(part)
			if aerr != nil {
				return aerr
			}
			p = netip.PrefixFrom(a, a.BitLen())
		}
		*n = append(*n, p.Masked())
	}
	return nil
}

// fileMode is the permissions of a file, in octal.
type fileMode fs.FileMode

// UnmarshalText is called by the parser of the environment.
func (m *fileMode) UnmarshalText(text []byte) error {
	n, err := strconv.ParseUint(string(text), 8, 9)
	if err != nil || n == 0 {
		return errors.New("no permissions")
	}
	*m = fileMode(n)
	return nil
}

// fullPolicy is a [memory.FullPolicy] by name.
type fullPolicy memory.FullPolicy

// UnmarshalText is called by the parser of the environment.
func (f *fullPolicy) UnmarshalText(text []byte) error {
	switch string(text) {
	case "drop_newest":
		*f = fullPolicy(memory.DropNewest)
	case "drop_oldest":
		*f = fullPolicy(memory.DropOldest)
	default:
		return errors.New("no policy")
	}
	return nil
}

// apiToken is a secret that opens something: long enough not to be guessed.
type apiToken string

// UnmarshalText is called by the parser of the environment.
func (t *apiToken) UnmarshalText(text []byte) error {
	if len(text) < 16 || len(text) > 1024 || strings.TrimSpace(string(text)) != string(text) {
		return errors.New("not a token")
	}
	*t = apiToken(text)
	return nil
}
