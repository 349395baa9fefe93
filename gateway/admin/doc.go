// Package admin is what operators see of a gateway over HTTP: whether it
// lives, whether it is ready, its figures for Prometheus, a status page for
// people, and an API for programs.
//
// Any gateway answers for the cluster. What the store knows it reads there;
// what only another gateway knows it asks that one over the bus, for a second
// at most, and says which did not answer.
//
// Health, figures and the overview of the page are for whoever can reach the
// address, so that address belongs on a private network. They name gateways,
// and servers that do not answer, but no client, topic or message. What does, and what changes anything, is the
// API, with [Options].Token; openapi.yaml describes it and is served with it.
// The page's other views are a client of the API, and one of MQTT over
// WebSocket, which connects as any client does.
package admin
