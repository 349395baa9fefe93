# Needs Go and nothing else, but for the clients of the end-to-end tests, which
# e2e/install.sh installs on Debian.
.DEFAULT_GOAL := help

GO       ?= go
FUZZTIME ?= 60s
BENCH    ?= .
COUNT    ?= 6
SCALE    ?= 1000000
# The source of the load generator that make bench measures with.
MQTTLOAD ?= ../shared/mqttload
SEED     ?= 1
MINUTES  ?= 30
VERSION  := $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)

# Tools run at these versions, on every machine.
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
GOVULNCHECK := golang.org/x/vuln/cmd/govulncheck@v1.9.0
BENCHSTAT   := golang.org/x/perf/cmd/benchstat@v0.0.0-20260908200009-22c9c6c9d4da

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' Makefile

# grpcnotrace: the OpenTelemetry exporter links gRPC, whose own traces, which nobody
# sees here, would cost 11 MB.
.PHONY: build
build: ## build bin/gateway, linked statically
	CGO_ENABLED=0 $(GO) build -tags grpcnotrace -trimpath -ldflags '-s -w -X main.version=$(VERSION)' -o bin/gateway ./cmd/gateway

.PHONY: run
run: build ## serve MQTT on 127.0.0.1:1883, WebSocket on :8083/mqtt, health and metrics on :18083
	@exec bin/gateway

.PHONY: test
test: unit e2e cluster ## all tests

.PHONY: unit
unit: clients ## the tests of the module, with the race detector
	$(GO) test -race -shuffle=on -count=1 -parallel 16 ./...

.PHONY: redis-newest
redis-newest: ## the same against the newest Redis and Valkey that Debian has
	.ci/newest-redis bin/newest
	for s in redis valkey; do REDIS_SERVER=$(CURDIR)/bin/newest/$$s-server $(GO) test -count=1 -parallel 16 ./backend/redis || exit 1; done

.PHONY: scale
scale: ## SCALE (a million) subscriptions and retained topics in Redis: what they cost
	SCALE=$(SCALE) $(GO) test -count=1 -v -timeout 30m -run 'TestMany(Subscriptions|Retained)$$' ./backend/redis

# One package at a time: clusters of processes under fault need the cores.
.PHONY: e2e
e2e: clients ## the built gateway against real clients
	cd e2e && E2E_RACE=1 $(GO) test -count=1 -p 1 ./...

.PHONY: cluster
cluster: clients ## the end-to-end tests with clients spread at random over three gateways
	cd e2e && E2E_CLUSTER=3 $(GO) test -count=1 -parallel 12 ./conformance ./clients

.PHONY: soak
soak: clients ## the fault tests of a cluster in their long form
	cd e2e && E2E_SOAK=1 $(GO) test -count=1 -timeout 2h -v -parallel 2 ./cluster ./security

.PHONY: chaos
chaos: clients ## break a cluster at random (SEED) for MINUTES, and check that nothing is lost
	cd e2e && CHAOS_SEED=$(SEED) CHAOS_MINUTES=$(MINUTES) $(GO) test -count=1 -timeout 0 -v -run TestChaos ./chaos

.PHONY: compose-test
compose-test: clients ## docker-compose.yml in a Docker engine of its own, three gateways, one killed (root on Linux)
	e2e/compose/run

.PHONY: clients
clients: ## install the clients and servers that the tests need (Debian, as root)
	@if [ "$$(id -u)" = 0 ] && [ -f /etc/debian_version ]; then e2e/install.sh; \
	else echo "not root on Debian: what is missing of e2e/install.sh is skipped"; fi

.PHONY: conformance
conformance: ## every statement of MQTT 3.1.1 and 5.0 that binds a server, with its tests
	cd e2e && $(GO) run ./conformance/table

.PHONY: fuzz
fuzz: ## each fuzz target for FUZZTIME
	.ci/fuzz $(FUZZTIME)

.PHONY: microbench
microbench: ## Go benchmarks that match BENCH, COUNT times, summed up
	@mkdir -p bin
	$(GO) test -run '^$$' -bench '$(BENCH)' -benchmem -count $(COUNT) ./... | tee bin/bench.txt
	$(GO) run $(BENCHSTAT) bin/bench.txt

.PHONY: bench
bench: ## compare with other brokers, interleaved; BENCHFLAGS='-add -reps 3 -scenarios pairs0,conn10k -peers sluice,nats'
	@if [ "$$(id -u)" = 0 ] && [ -f /etc/debian_version ]; then e2e/install.sh mosquitto; fi
	cd e2e && $(GO) run ./bench -mqttload '$(abspath $(MQTTLOAD))' $(BENCHFLAGS)

.PHONY: lint
lint: ## format, vet and staticcheck, both modules
	@test -z "$$(gofmt -s -l . | tee /dev/stderr)"
	$(GO) vet ./... && cd e2e && $(GO) vet ./...
	$(GO) run $(STATICCHECK) ./... && cd e2e && $(GO) run $(STATICCHECK) ./...

.PHONY: fmt
fmt: ## format the source
	gofmt -s -w .

.PHONY: vuln
vuln: ## known vulnerabilities in what is used
	$(GO) run $(GOVULNCHECK) ./...

.PHONY: cover
cover: ## coverage by the unit tests, in bin/cover.html
	@mkdir -p bin
	$(GO) test -count=1 -coverpkg ./... -coverprofile bin/cover.out ./...
	$(GO) tool cover -func bin/cover.out | tail -1
	$(GO) tool cover -html bin/cover.out -o bin/cover.html
