package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// probeLimit is less than the usual 5 s of what calls a health check, so that
// the answer is ours.
const probeLimit = 3 * time.Second

// healthcheck asks a running gateway whether it is ready. It is for images
// without a shell, where there is nothing else to ask with.
func healthcheck(p process) int {
	flags := flag.NewFlagSet("healthcheck", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	url := flags.String("url", "", "")
	if err := flags.Parse(p.args); err != nil {
		return p.usage("healthcheck: %v", err)
	}
	if flags.NArg() > 0 {
		return p.usage("healthcheck takes no arguments but --url, got %q", flags.Arg(0))
	}
	if *url == "" {
		var c config
		load(p.environ, &c) // Whatever else is wrong, the gateway has said.
		if !c.HTTPListen.on() {
			return p.fail(errors.New("HTTP_LISTEN is off: nothing to ask; use --url"))
		}
		*url = "http://" + c.HTTPListen.reachable() + "/readyz"
	}
	if err := probe(*url); err != nil {
		return p.fail(err)
	}
	return exitOK
}

// probe returns nil for an answer of 200.
func probe(url string) error {
	ctx, cancel := context.WithTimeout(context.Background(), probeLimit)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(answer.Body, 4096))
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", answer.Status, strings.TrimSpace(string(text)))
	}
	return nil
}

// reachable is where to connect to for what listens on the address: if that
// is on every address of the machine, on the loopback one.
func (a address) reachable() string {
	host, port, err := net.SplitHostPort(string(a))
	if err != nil {
		return string(a)
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
		if ip != nil && ip.To4() == nil {
			host = "::1"
		}
	}
	return net.JoinHostPort(host, port)
}
