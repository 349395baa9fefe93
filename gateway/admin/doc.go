// Package admin is what operators see of a gateway over HTTP: whether it
// lives, whether it is ready, its figures for Prometheus, and a page that
// links to them. It answers whoever can reach its address, so that address
// belongs on a private network.
package admin
