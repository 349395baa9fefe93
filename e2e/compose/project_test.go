package compose_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Where the compose file has its clients connect, without any variable set.
const (
	mqttAddress = "127.0.0.1:1883"
	wsURL       = "ws://127.0.0.1:8083/mqtt"
)

// project is the compose file in an engine.
type project struct {
	*engine
	command []string // docker-compose, or docker compose
}

// compose runs a compose command.
func (p *project) compose(args ...string) string {
	p.t.Helper()
	all := append(append([]string{}, p.command...), args...)
	return p.run(all[0], all[1:]...)
}

// with is the project with variables set.
func (p *project) with(env ...string) *project {
	e := *p.engine
	e.env = append(append([]string{}, p.env...), env...)
	return &project{&e, p.command}
}

// containers of a service that run, by identifier.
func (p *project) containers(service string) []string {
	p.t.Helper()
	return strings.Fields(p.docker("ps", "-q", "--no-trunc", "--filter", "label=com.docker.compose.service="+service))
}

// up starts the project with so many gateways and waits until all of it is
// well, and the balancer has found the gateways.
func (p *project) up(gateways int) {
	p.t.Helper()
	p.compose("up", "-d", "--scale", fmt.Sprint("gateway=", gateways))
	p.awaitHealthy("gateway", gateways)
	for _, service := range []string{"haproxy", "redis", "nats"} {
		p.awaitHealthy(service, 1)
	}
	p.awaitBalanced(gateways)
}

// awaitHealthy waits until a service has so many containers, all healthy.
func (p *project) awaitHealthy(service string, count int) {
	p.t.Helper()
	p.eventually(fmt.Sprintf("%d healthy %s", count, service), 90*time.Second, func() error {
		ids := p.containers(service)
		if len(ids) != count {
			return fmt.Errorf("%d containers", len(ids))
		}
		for _, id := range ids {
			state, err := p.try("docker", "inspect", "--format", "{{.State.Health.Status}}", id)
			if err != nil || state != "healthy" {
				return fmt.Errorf("%s is %s: %v\n%s", id[:12], state, err, p.logs(id))
			}
		}
		return nil
	})
}

// awaitBalanced waits until the balancer gives clients to exactly so many
// gateways, over both ports.
func (p *project) awaitBalanced(gateways int) {
	p.t.Helper()
	p.eventually(fmt.Sprintf("balance over %d gateways", gateways), time.Minute, func() error {
		figures, err := p.inside("haproxy", "http://127.0.0.1:8404/metrics")
		if err != nil {
			return err
		}
		for _, backend := range []string{"mqtt", "websocket"} {
			line := fmt.Sprintf(`haproxy_backend_active_servers{proxy="%s"} %d`, backend, gateways)
			if !strings.Contains(figures, line+"\n") {
				return errors.New("not there: " + line)
			}
		}
		return nil
	})
}

// inside fetches a URL from inside the container of a service.
func (p *project) inside(service, url string) (string, error) {
	ids := p.containers(service)
	if len(ids) == 0 {
		return "", fmt.Errorf("no %s runs", service)
	}
	out, err := p.try("docker", "exec", ids[0], "wget", "-q", "-O", "-", url)
	return out + "\n", err
}

// pid of a container's process.
func (p *project) pid(id string) int {
	p.t.Helper()
	n, err := strconv.Atoi(p.docker("inspect", "--format", "{{.State.Pid}}", id))
	if err != nil || n < 2 {
		p.t.Fatalf("%s has process %d, %v", id, n, err)
	}
	return n
}

// logs of a container, of its last start too.
func (p *project) logs(id string) string {
	out, _ := p.try("docker", "logs", id)
	return out
}

// published is where a port of a container is on this machine.
func (p *project) published(id, port string) string {
	p.t.Helper()
	return p.docker("port", id, port+"/tcp")
}

// fetch returns the answer of one gateway's HTTP server.
func (p *project) fetch(id, path string) string {
	p.t.Helper()
	client := http.Client{Timeout: 10 * time.Second}
	r, err := client.Get("http://" + p.published(id, "18083") + path)
	if err != nil {
		p.t.Fatal(err)
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err != nil || r.StatusCode != http.StatusOK {
		p.t.Fatalf("%s: %s, %v: %s", path, r.Status, err, text)
	}
	return string(text)
}
