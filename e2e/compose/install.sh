#!/bin/sh
# Installs what e2e/compose/run needs beyond e2e/install.sh: a Docker engine,
# docker-compose, and the programs that its stand-in images are made of. Nothing
# of it is started as a service.
set -eu

packages=
need() { command -v "$1" >/dev/null || packages="$packages $2"; }
need dockerd docker.io
need docker-compose docker-compose
need iptables iptables
need haproxy haproxy
need busybox busybox-static
need ip iproute2
need redis-server redis-server
need nats-server nats-server
need mosquitto_pub mosquitto-clients
[ -e /etc/ssl/certs/ca-certificates.crt ] || packages="$packages ca-certificates"
[ -n "$packages" ] || exit 0

if ! command -v apt-get >/dev/null || [ "$(id -u)" -ne 0 ]; then
	echo "install for the tests (names of Debian):$packages" >&2
	exit 1
fi
export DEBIAN_FRONTEND=noninteractive
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
	printf '#!/bin/sh\nexit 101\n' >"$policy"
	chmod +x "$policy"
	trap 'rm -f "$policy"' EXIT
fi
apt-get -qq update
# shellcheck disable=SC2086 # several words
apt-get -qq install --no-install-recommends $packages
