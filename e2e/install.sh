#!/bin/sh
# install.sh [PACKAGE...] installs what the tests use: the Mosquitto commands,
# OpenSSL, Paho for Python, Chromium, Node, Prometheus and the NATS and Redis
# servers from Debian, MQTT.js from npm; and each PACKAGE of Debian that has no
# command of its name here. Says nothing and takes a moment where all is there.
# Without apt-get or root it names what is missing.
set -eu
cd "$(dirname "$0")"

packages=
need() { packages="$packages $1"; }
for command in mosquitto_pub mosquitto_sub mosquitto_rr; do
	command -v "$command" >/dev/null || { need mosquitto-clients; break; }
done
# Debian's own interpreter, which alone sees Debian's packages.
/usr/bin/python3 -c 'import paho.mqtt.client' 2>/dev/null || need python3-paho-mqtt
command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null || need chromium
command -v node >/dev/null || need nodejs
command -v npm >/dev/null || need npm
command -v openssl >/dev/null || need openssl
# The broker comes with mosquitto_passwd, whose files the tests read.
command -v mosquitto_passwd >/dev/null || need mosquitto
command -v nats-server >/dev/null || need nats-server
command -v redis-server >/dev/null || need redis-server
command -v prometheus >/dev/null || need prometheus

for package in "$@"; do
	command -v "$package" >/dev/null || [ -x "/usr/sbin/$package" ] || need "$package"
done

if [ -n "$packages" ]; then
	if ! command -v apt-get >/dev/null || [ "$(id -u)" -ne 0 ]; then
		echo "install for the tests (names of Debian):$packages" >&2
		exit 1
	fi
	export DEBIAN_FRONTEND=noninteractive
	# The tests start servers of their own: Debian's are not to run as services.
	policy=/usr/sbin/policy-rc.d
	if [ ! -e "$policy" ]; then
		printf '#!/bin/sh\nexit 101\n' >"$policy"
		chmod +x "$policy"
		trap 'rm -f "$policy"' EXIT
	fi
	apt-get -qq update
	# shellcheck disable=SC2086 # several words
	apt-get -qq install --no-install-recommends $packages
fi

# npm ci empties node_modules first; done only where the lock file is newer.
cd clients/mqttjs
if [ ! -e node_modules/.package-lock.json ] || [ package-lock.json -nt node_modules/.package-lock.json ]; then
	npm ci --omit=dev --ignore-scripts --no-audit --no-fund
fi
