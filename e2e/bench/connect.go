package main

import (
	"bufio"
	"bytes"
	"cmp"
	"crypto/tls"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// crowd is what the command connect opens: idle connections over TLS, which
// mqttload can not do. It understands the same words, measures the same way
// and writes the same result. It runs in a process of its own, so that only
// the broker is in the figures.
type crowd struct {
	addr, path, pids string
	conns, at        int
	hold, timeout    time.Duration
}

func connect(args []string) error {
	var c crowd
	f := flag.NewFlagSet("connect", flag.ExitOnError)
	f.StringVar(&c.addr, "addr", "", "address of the broker")
	f.StringVar(&c.path, "ws", "", "path of the WebSocket; empty is none")
	f.StringVar(&c.pids, "pid", "", "processes of the broker, separated by commas")
	f.IntVar(&c.conns, "conns", 3000, "connections")
	f.IntVar(&c.at, "concurrency", 20, "connections being opened at a time")
	f.DurationVar(&c.hold, "hold", 5*time.Second, "time to hold them idle before the memory is read")
	f.DurationVar(&c.timeout, "connect-timeout", time.Minute, "time for all of them to come up")
	f.Bool("quiet", true, "as mqttload has it; there is nothing but the result")
	_ = f.Parse(args) // exits
	o := c.measure()
	if err := json.NewEncoder(os.Stdout).Encode(o); err != nil || o.OK {
		return err
	}
	return errors.New(o.Error)
}

// measure opens all connections, holds them, reads the memory and at last
// makes sure that every one is still served.
func (c *crowd) measure() *output {
	o := &output{Extra: make(map[string]any)}
	rss, cpu, start := memory(c.pids, "VmRSS:"), cpuTime(c.pids), time.Now()
	all, times, first := c.open(start.Add(c.timeout))
	seconds, up := time.Since(start).Seconds(), float64(max(1, len(all)))
	o.Broker.CPUTotal = cpuTime(c.pids) - cpu
	o.Broker.CPU = o.Broker.CPUTotal / up * 1e6
	o.ConnRate = float64(len(all)) / seconds
	if len(times) > 0 {
		slices.Sort(times)
		o.Connect.P99 = float64(times[len(times)*99/100].Microseconds())
	}
	time.Sleep(c.hold)
	o.Broker.PerConn = (memory(c.pids, "VmRSS:") - rss) / up
	o.Broker.PeakMiB = memory(c.pids, "VmHWM:") / (1 << 20)
	held, end := 0, time.Now().Add(10*time.Second)
	for _, l := range all {
		_ = l.nc.SetDeadline(end)
		err := l.ask([]byte{0xc0, 0}, []byte{0xd0, 0}) // PINGREQ, PINGRESP
		if first = cmp.Or(first, err); err == nil {
			held++
		}
	}
	o.Extra["held"] = held
	if o.OK = held == c.conns; !o.OK {
		o.Error = fmt.Sprintf("%d of %d connections came up, %d were kept: %v", len(all), c.conns, held, first)
	}
	return o
}

// open returns the connections that came up, how long each took, and the first
// error of the others.
func (c *crowd) open(end time.Time) (all []*link, times []time.Duration, first error) {
	var mu sync.Mutex
	var group sync.WaitGroup
	next := make(chan int)
	for range c.at {
		group.Go(func() { // ends when next is closed
			for i := range next {
				start := time.Now()
				l, err := c.dial(fmt.Sprintf("bench%06d", i), end)
				took := time.Since(start)
				mu.Lock()
				if err == nil {
					all, times = append(all, l), append(times, took)
				}
				first = cmp.Or(first, err)
				mu.Unlock()
			}
		})
	}
	for i := range c.conns {
		next <- i
	}
	close(next)
	group.Wait()
	return all, times, first
}

// link is one connection; over WebSocket if ws is set.
type link struct {
	nc *tls.Conn
	ws bool
}

// dial connects as MQTT 3.1.1 with a clean session and no keep alive, and
// waits for CONNACK. Whom it speaks to is known, so no chain is verified: that
// would only take time from the broker on the same cores. Every handshake is a
// full one.
func (c *crowd) dial(id string, end time.Time) (*link, error) {
	nc, err := tls.DialWithDialer(&net.Dialer{Deadline: end}, "tcp", c.addr,
		&tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13})
	if err != nil {
		return nil, err
	}
	l := &link{nc: nc, ws: c.path != ""}
	if err = nc.SetDeadline(end); err == nil && l.ws {
		err = l.upgrade(c.addr, c.path)
	}
	if err == nil {
		hello := append([]byte{0x10, byte(12 + len(id)), 0, 4, 'M', 'Q', 'T', 'T', 4, 2, 0, 0, 0, byte(len(id))}, id...)
		err = l.ask(hello, []byte{0x20, 2, 0, 0})
	}
	if err != nil {
		nc.Close()
		return nil, err
	}
	return l, nil
}

func (l *link) upgrade(host, path string) error {
	_, err := fmt.Fprintf(l.nc, "GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Key: c2x1aWNlLWJlbmNoLTEyMw==\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n", path, host)
	if err != nil {
		return err
	}
	// Nothing follows the answer before CONNECT, so the reader keeps nothing.
	resp, err := http.ReadResponse(bufio.NewReader(l.nc), nil)
	if err == nil && resp.StatusCode != http.StatusSwitchingProtocols {
		err = fmt.Errorf("upgrade: %s", resp.Status)
	}
	return err
}

// ask writes a packet and reads the answer, which must be exactly this one.
func (l *link) ask(packet, answer []byte) error {
	if l.ws { // one frame each; the client's masked, with the key 0
		packet = append([]byte{0x82, 0x80 | byte(len(packet)), 0, 0, 0, 0}, packet...)
		answer = append([]byte{0x82, byte(len(answer))}, answer...)
	}
	if _, err := l.nc.Write(packet); err != nil {
		return err
	}
	got := make([]byte, len(answer))
	if _, err := io.ReadFull(l.nc, got); err != nil {
		return err
	}
	if !bytes.Equal(got, answer) {
		return fmt.Errorf("answered %x, not %x", got, answer)
	}
	return nil
}

// memory is a line of /proc/PID/status, summed up over the processes, in bytes.
func memory(pids, line string) (sum float64) {
	for pid := range strings.SplitSeq(pids, ",") {
		text, _ := os.ReadFile("/proc/" + pid + "/status")
		_, rest, _ := strings.Cut(string(text), line)
		if f := strings.Fields(rest); len(f) > 0 {
			kib, _ := strconv.ParseFloat(f[0], 64)
			sum += kib * 1024
		}
	}
	return sum
}

// cpuTime is what the processes have taken so far, in seconds.
func cpuTime(pids string) (sum float64) {
	for pid := range strings.SplitSeq(pids, ",") {
		text, _ := os.ReadFile("/proc/" + pid + "/stat")
		// utime and stime, in hundredths, counted from behind the name.
		if f := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:])); len(f) > 12 {
			user, _ := strconv.ParseFloat(f[11], 64)
			system, _ := strconv.ParseFloat(f[12], 64)
			sum += (user + system) / 100
		}
	}
	return sum
}
