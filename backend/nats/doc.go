// Package nats is the [backend.Backend] over core NATS: what joins the
// gateways of a cluster.
//
// Core NATS delivers at most once and says little about what it loses. This
// package adds what the contract asks for:
//
//   - Subscribe returns when every NATS server that is known has the interest,
//     not when the request was written. On one server that is a round trip; in
//     a cluster of servers, where interest travels between them on its own
//     time, a message is sent after it that comes back from each ([posts]).
//   - Publish fails while there is no connection that has proved itself.
//     Nothing is buffered for a connection to come.
//   - A connection is proved by a message that comes back, when it is made and
//     every few seconds: a server that answers pings and delivers nothing is
//     left.
//   - Whatever may have lost a message is told to the handler, once: a new
//     connection, a queue that ran over, a server that was cut off, and the
//     same at another gateway that had messages on the way.
//
// The connection is remade here and not by the client library. Its own
// reconnection holds the lock that Publish needs while it dials, writes each
// subscription with a system call of its own, and gives up for good on some
// errors of the server.
package nats
