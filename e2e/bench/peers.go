package main

import (
	"fmt"
	"path/filepath"
)

// peer is one broker, or one way to run the gateway.
type peer struct {
	name  string
	group group
	what  string // for the report
	// start starts it in r and returns the address of each process, and of
	// WebSocket where a scenario asks for it and the peer has one. Both are
	// of TLS if r has a certificate and the peer knows what to do with it.
	start func(k *kit, r *rig) (tcp []string, ws string, err error)
}

// everyone lists the peers, the gateway first in each group.
func everyone() []*peer {
	return []*peer{
		{"sluice", alone, "this gateway, GATEWAY_STORE=memory, MQTT_CONNECT_RATE=0", startSluice},
		{"mosquitto", alone, "Debian's, no persistence, set_tcp_nodelay true", startMosquitto},
		{"mochi", alone, "defaults, in memory", startMochi},
		{"nats", alone, "nats-server's MQTT listener, JetStream in files", startNATS},
		{"relay", alone, "the generator's own relay on goroutines: frames copied, no broker at all", startRelay},
		{"sluice-redis", durable, "this gateway, GATEWAY_STORE=redis, MQTT_CONNECT_RATE=0; Redis with AOF everysec", startSluiceRedis},
		{"aedes-redis", durable, "aedes-persistence-redis, mqemitter-redis; Redis with AOF everysec", startAedes(1)},
		{"nats-js", durable, "nats-server's MQTT listener, JetStream in files", startNATS},
		{"sluice-2", pair, "two gateways, MQTT_CONNECT_RATE=0, Redis with AOF everysec, NATS", startSluicePair},
		{"aedes-redis-2", pair, "two aedes, one Redis with AOF everysec", startAedes(2)},
		{"nats-2", pair, "two nats-servers as a cluster, JetStream in files, one replica", startNATSPair},
	}
}

func (k *kit) gateway(r *rig, id string, env ...string) (tcp, ws string, err error) {
	p, err := freePorts(3)
	if err != nil {
		return "", "", err
	}
	env = append(env, "GATEWAY_ID="+id, "MQTT_CONNECT_RATE=0", "HTTP_LISTEN="+at(p[2]), "LOG_LEVEL=warn")
	if r.cert == "" {
		env = append(env, "MQTT_TCP_LISTEN="+at(p[0]), "MQTT_WS_LISTEN="+at(p[1]))
	} else {
		env = append(env, "MQTT_TCP_LISTEN=off", "MQTT_WS_LISTEN=off", "MQTT_TLS_LISTEN="+at(p[0]), "MQTT_WSS_LISTEN="+at(p[1]),
			"TLS_CERT_FILE="+r.cert, "TLS_KEY_FILE="+r.key)
	}
	return at(p[0]), at(p[1]), r.start(false, p, env, k.binaries["sluice"], "serve")
}

func startSluice(k *kit, r *rig) ([]string, string, error) {
	tcp, ws, err := k.gateway(r, "bench-1")
	return []string{tcp}, ws, err
}

// redis starts Redis as the compose file does.
func (k *kit) redis(r *rig) (string, error) {
	p, err := freePorts(1)
	if err != nil {
		return "", err
	}
	err = r.start(true, p, nil, k.binaries["redis"], "--port", fmt.Sprint(p[0]), "--bind", "127.0.0.1", "--dir", r.dir,
		"--save", "", "--appendonly", "yes", "--appendfsync", "everysec", "--maxmemory-policy", "noeviction")
	return at(p[0]), err
}

func startSluiceRedis(k *kit, r *rig) ([]string, string, error) {
	redis, err := k.redis(r)
	if err != nil {
		return nil, "", err
	}
	tcp, ws, err := k.gateway(r, "bench-1", "GATEWAY_STORE=redis", "REDIS_URL=redis://"+redis+"/0")
	return []string{tcp}, ws, err
}

func startSluicePair(k *kit, r *rig) ([]string, string, error) {
	redis, err := k.redis(r)
	if err != nil {
		return nil, "", err
	}
	p, err := freePorts(1)
	if err != nil {
		return nil, "", err
	}
	if err := r.start(true, p, nil, k.binaries["nats"], "-a", "127.0.0.1", "-p", fmt.Sprint(p[0])); err != nil {
		return nil, "", err
	}
	var all []string
	for _, id := range []string{"bench-1", "bench-2"} {
		tcp, _, err := k.gateway(r, id, "GATEWAY_BACKEND=nats", "NATS_URL=nats://"+at(p[0]),
			"GATEWAY_STORE=redis", "REDIS_URL=redis://"+redis+"/0")
		if err != nil {
			return nil, "", err
		}
		all = append(all, tcp)
	}
	return all, "", nil
}

func startMosquitto(k *kit, r *rig) ([]string, string, error) {
	p, err := freePorts(1)
	if err != nil {
		return nil, "", err
	}
	text := fmt.Sprintf("user root\nlistener %d 127.0.0.1\nallow_anonymous true\nset_tcp_nodelay true\nmax_queued_messages 0\n", p[0])
	if r.cert != "" {
		text += fmt.Sprintf("certfile %s\nkeyfile %s\n", r.cert, r.key)
	}
	file, err := r.write("mosquitto.conf", text)
	if err != nil {
		return nil, "", err
	}
	return []string{at(p[0])}, "", r.start(false, p, nil, k.binaries["mosquitto"], "-c", file)
}

func startMochi(k *kit, r *rig) ([]string, string, error) {
	p, err := freePorts(3)
	if err != nil {
		return nil, "", err
	}
	args := []string{"--tcp", at(p[0]), "--ws", at(p[1]), "--info", at(p[2])}
	if r.cert != "" {
		args = append(args, "--tls-cert-file", r.cert, "--tls-key-file", r.key)
	}
	return []string{at(p[0])}, "", r.start(false, p[:1], nil, k.binaries["mochi"], args...)
}

const natsConfig = `listen: "127.0.0.1:%d"
server_name: %s
jetstream { store_dir: %q }
mqtt { listen: "127.0.0.1:%d"%s }
`

func startNATS(k *kit, r *rig) ([]string, string, error) {
	p, err := freePorts(2)
	if err != nil {
		return nil, "", err
	}
	var tls string
	if r.cert != "" {
		tls = fmt.Sprintf(", tls { cert_file: %q, key_file: %q }", r.cert, r.key)
	}
	file, err := r.write("nats.conf", fmt.Sprintf(natsConfig, p[0], "bench-1", filepath.Join(r.dir, "js"), p[1], tls))
	if err != nil {
		return nil, "", err
	}
	return []string{at(p[1])}, "", r.start(false, p, nil, k.binaries["nats"], "-c", file)
}

func startNATSPair(k *kit, r *rig) ([]string, string, error) {
	p, err := freePorts(6)
	if err != nil {
		return nil, "", err
	}
	var all []string
	for i := range 2 {
		text := fmt.Sprintf(natsConfig, p[i], fmt.Sprintf("bench-%d", i+1), filepath.Join(r.dir, fmt.Sprintf("js%d", i)), p[2+i], "") +
			fmt.Sprintf("cluster { name: bench, listen: \"127.0.0.1:%d\", routes: [\"nats-route://127.0.0.1:%d\", \"nats-route://127.0.0.1:%d\"] }\n", p[4+i], p[4], p[5])
		file, err := r.write(fmt.Sprintf("nats%d.conf", i), text)
		if err != nil {
			return nil, "", err
		}
		if err := r.start(false, []int{p[i]}, nil, k.binaries["nats"], "-c", file); err != nil {
			return nil, "", err
		}
		all = append(all, at(p[2+i]))
	}
	return all, "", nil
}

func startRelay(k *kit, r *rig) ([]string, string, error) {
	p, err := freePorts(1)
	if err != nil {
		return nil, "", err
	}
	return []string{at(p[0])}, "", r.start(false, p, nil, k.binaries["mqttload"], "relay", "--io", "goroutine", "--addr", at(p[0]))
}

func startAedes(n int) func(k *kit, r *rig) ([]string, string, error) {
	return func(k *kit, r *rig) ([]string, string, error) {
		redis, err := k.redis(r)
		if err != nil {
			return nil, "", err
		}
		p, err := freePorts(n)
		if err != nil {
			return nil, "", err
		}
		var all []string
		for _, port := range p {
			env := []string{"REDIS=" + redis, fmt.Sprintf("PORT=%d", port)}
			if err := r.start(false, []int{port}, env, k.binaries["node"], filepath.Join(k.aedes, "broker.mjs")); err != nil {
				return nil, "", err
			}
			all = append(all, at(port))
		}
		return all, "", nil
	}
}
