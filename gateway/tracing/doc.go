// Package tracing gives the spans of a gateway to an OpenTelemetry collector, over
// OTLP/HTTP. It is the [gateway.Tracer] of a program that is told by the standard's
// variables (OTEL_…) where that is.
//
// Nothing waits for the collector. A span that is not sampled is made and
// forgotten; the others wait in a queue of bounded length, and what it can not
// take, or what the collector does not, is lost, counted and logged.
package tracing
