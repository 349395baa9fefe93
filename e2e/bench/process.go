package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// child is one process of a peer.
type child struct {
	cmd     *exec.Cmd
	backend bool // stands behind the broker: Redis, NATS
	exited  chan struct{}
}

// rig is one run's processes, with a folder for what they write.
type rig struct {
	ctx       context.Context
	dir       string
	cert, key string // PEM files for the peer's listeners; empty: no TLS
	children  []*child
}

func newRig(ctx context.Context) (*rig, error) {
	dir, err := os.MkdirTemp("", "sluice-bench-")
	return &rig{ctx: ctx, dir: dir}, err
}

// start runs a process and waits until it listens on the ports.
func (r *rig) start(backend bool, ports []int, env []string, name string, args ...string) error {
	log, err := os.Create(filepath.Join(r.dir, fmt.Sprintf("log.%d", len(r.children))))
	if err != nil {
		return err
	}
	defer log.Close()
	c := &child{cmd: exec.Command(name, args...), backend: backend, exited: make(chan struct{})}
	c.cmd.Dir, c.cmd.Stdout, c.cmd.Stderr = r.dir, log, log
	c.cmd.Env = append(os.Environ(), env...)
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := c.cmd.Start(); err != nil {
		return err
	}
	r.children = append(r.children, c)
	go func() { // ends with the process
		_ = c.cmd.Wait()
		close(c.exited)
	}()
	for _, port := range ports {
		if err := r.listens(c, port); err != nil {
			text, _ := os.ReadFile(log.Name())
			return fmt.Errorf("%s: %w: %s", filepath.Base(name), err, tail(text))
		}
	}
	return nil
}

func tail(text []byte) string {
	return strings.TrimSpace(string(text[max(0, len(text)-400):]))
}

func (r *rig) listens(c *child, port int) error {
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); {
		select {
		case <-c.exited:
			return fmt.Errorf("exited: %v", c.cmd.ProcessState)
		case <-r.ctx.Done():
			return r.ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
		if nc, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port))); err == nil {
			return nc.Close()
		}
	}
	return fmt.Errorf("does not listen on port %d", port)
}

// pids lists the processes of one kind, for the generator to measure.
func (r *rig) pids(backend bool) string {
	var list []string
	for _, c := range r.children {
		if c.backend == backend {
			list = append(list, strconv.Itoa(c.cmd.Process.Pid))
		}
	}
	return strings.Join(list, ",")
}

// stop ends all processes, the last first, and removes what they wrote.
func (r *rig) stop() {
	for i := len(r.children) - 1; i >= 0; i-- {
		c := r.children[i]
		_ = syscall.Kill(-c.cmd.Process.Pid, syscall.SIGTERM)
		select {
		case <-c.exited:
		case <-time.After(4 * time.Second):
		}
		_ = syscall.Kill(-c.cmd.Process.Pid, syscall.SIGKILL) // what is left of the group
		<-c.exited
	}
	_ = os.RemoveAll(r.dir)
}

// write puts a file of the peer's into the rig's folder.
func (r *rig) write(name, text string) (string, error) {
	path := filepath.Join(r.dir, name)
	return path, os.WriteFile(path, []byte(text), 0o600)
}

// certify makes a certificate of its own for the run, with a key on P-256.
func (r *rig) certify() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "bench"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	if r.cert, err = r.write("cert.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}))); err != nil {
		return err
	}
	r.key, err = r.write("key.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})))
	return err
}

// freePorts returns ports of loopback that were free a moment ago.
func freePorts(n int) ([]int, error) {
	ports := make([]int, n)
	var open []io.Closer
	defer func() {
		for _, c := range open {
			c.Close()
		}
	}()
	for i := range ports {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		open = append(open, l)
		ports[i] = l.Addr().(*net.TCPAddr).Port
	}
	return ports, nil
}

func at(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
