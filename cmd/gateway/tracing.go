package main

import (
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/sluice-mqtt/sluice/gateway/tracing"
)

// service is what traces are of unless OTEL_SERVICE_NAME says otherwise.
const service = "sluice"

// collector reports whether there is one to send traces to.
func (c *config) collector() bool { return c.OTelEndpoint != "" || c.OTelTraces != "" }

// traces reports whether traces are sent.
func (c *config) traces() bool {
	return c.collector() && !strings.EqualFold(c.OTelDisabled, "true") && c.OTelExporter != "none"
}

// checkTracing finds what is wrong with the variables of OpenTelemetry, if there
// is a collector: a machine may have them for other programs. What the SDK would
// take for its default without a word, or for something else, is wrong.
func (c *config) checkTracing() error {
	if !c.collector() {
		return nil
	}
	for _, v := range []struct{ name, value string }{
		{"OTEL_EXPORTER_OTLP_ENDPOINT", c.OTelEndpoint}, {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", c.OTelTraces},
	} {
		u, err := url.Parse(v.value)
		if v.value != "" && (err != nil || u.Host == "" || !slices.Contains([]string{"http", "https"}, strings.ToLower(u.Scheme))) {
			return &problem{v.name, v.value, "allowed is a URL, as http://127.0.0.1:4318"}
		}
	}
	words := func(all ...string) []string { return append(all, "") }
	for _, v := range []struct {
		name, value string
		allowed     []string
	}{
		{"OTEL_EXPORTER_OTLP_PROTOCOL", c.OTelProtocol, words("http/protobuf", "http/json")},
		{"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", c.OTelTraceProtocol, words("http/protobuf", "http/json")},
		{"OTEL_TRACES_SAMPLER", strings.ToLower(strings.TrimSpace(c.OTelSampler)), words("always_on", "always_off", "traceidratio",
			"parentbased_always_on", "parentbased_always_off", "parentbased_traceidratio")},
		{"OTEL_TRACES_EXPORTER", c.OTelExporter, words("otlp", "none")},
		{"OTEL_SDK_DISABLED", strings.ToLower(c.OTelDisabled), words("true", "false")},
	} {
		if n := len(v.allowed) - 1; !slices.Contains(v.allowed, v.value) {
			return &problem{v.name, v.value, "allowed is " + strings.Join(v.allowed[:n], ", ")}
		}
	}
	// Others than those with a ratio have no argument, or none that is known here.
	if arg := strings.TrimSpace(c.OTelSamplerArg); arg != "" && strings.Contains(strings.ToLower(c.OTelSampler), "ratio") {
		if f, err := strconv.ParseFloat(arg, 64); err != nil || !(f >= 0 && f <= 1) {
			return &problem{"OTEL_TRACES_SAMPLER_ARG", c.OTelSamplerArg, "allowed is 0 to 1"}
		}
	}
	if _, err := pairs(c.OTelResource); err != nil {
		return &problem{"OTEL_RESOURCE_ATTRIBUTES", c.OTelResource, err.Error()}
	}
	if _, err := pairs(c.OTelHeaders); err != nil {
		return &problem{"OTEL_EXPORTER_OTLP_HEADERS", masked, err.Error()}
	}
	if _, err := pairs(c.OTelTraceHeaders); err != nil {
		return &problem{"OTEL_EXPORTER_OTLP_TRACES_HEADERS", masked, err.Error()}
	}
	return nil
}

// pairs takes a list of name=value apart, whose values are written as in URLs.
func pairs(list string) (map[string]string, error) {
	all := map[string]string{}
	for i, item := range strings.Split(list, ",") {
		if strings.TrimSpace(item) == "" {
			continue
		}
		name, value, ok := strings.Cut(item, "=")
		name = strings.TrimSpace(name)
		plain, err := url.PathUnescape(strings.TrimSpace(value))
		if !ok || name == "" || err != nil {
			return nil, fmt.Errorf("item %d is not name=value, with the value as in URLs", i+1)
		}
		all[name] = plain
	}
	return all, nil
}

// newTracer makes the tracer that is configured.
func (c *config) newTracer(id string, log *slog.Logger) (*tracing.Tracer, error) {
	list := c.OTelHeaders
	if c.OTelTraceHeaders != "" {
		list = c.OTelTraceHeaders
	}
	headers, err := pairs(list)
	if err != nil {
		return nil, err
	}
	t, err := tracing.New(tracing.Options{Service: service, Version: versionText(), Gateway: id, Headers: headers, Logger: log})
	if err != nil {
		return nil, fmt.Errorf("OTEL_EXPORTER_OTLP_…: %w", err)
	}
	return t, nil
}
