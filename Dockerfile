# The gateway as an image: one static binary and the certificates of the public
# authorities, nothing else. No shell, no package, no root.
#
#   docker build -t sluice --build-arg VERSION="$(git describe --tags --always)" .
#   docker run --rm -p 127.0.0.1:1883:1883 -e AUTH_ANONYMOUS=true sluice
#
# The images are those of a release line, which gets its security fixes without
# an edit here.
FROM golang:1.26-alpine AS build
WORKDIR /src
# A module that is not in go.sum ends the build instead of changing it.
ENV CGO_ENABLED=0 GOFLAGS=-mod=readonly
COPY go.mod go.sum ./
RUN go mod download
COPY backend backend
COPY cmd cmd
COPY gateway gateway
COPY protocol protocol
ARG VERSION=dev
# grpcnotrace: see the Makefile.
RUN go build -tags grpcnotrace -trimpath -buildvcs=false -ldflags "-s -w -X main.version=${VERSION}" -o /out/gateway ./cmd/gateway

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /out/gateway /gateway
# By number, so that Kubernetes can see that it is not root.
USER 65532:65532
# Inside a container every address is the container's own; who may reach it is
# said where its ports are published. Therefore clients without credentials are
# not let in until AUTH_ANONYMOUS=true, or a way to authenticate, is set: the
# start says so in one line.
ENV MQTT_TCP_LISTEN=:1883 MQTT_WS_LISTEN=:8083 HTTP_LISTEN=:18083
# MQTT, MQTT over WebSocket; health and metrics, which are not for the public.
EXPOSE 1883 8083 18083
# 'healthcheck' asks /readyz, and gives up after 3 s by itself.
HEALTHCHECK --interval=5s --timeout=5s --start-period=30s --retries=3 CMD ["/gateway", "healthcheck"]
ARG VERSION=dev
LABEL org.opencontainers.image.title="Sluice" \
      org.opencontainers.image.description="Stateless MQTT gateway: sessions in Redis, fan-out over NATS" \
      org.opencontainers.image.source="https://github.com/sluice-mqtt/sluice" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}"
ENTRYPOINT ["/gateway"]
