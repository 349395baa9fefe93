// Package session holds the protocol rules of one MQTT client: what it may
// publish, which packet identifiers are in use, what is sent again. It decides
// and never acts: no sockets, no clock, no goroutines, no store.
//
// A session has two halves with two owners. [Inbound] are the client's own
// publishes; the goroutine that reads the connection owns it. [Outbound] are
// the deliveries to the client; whoever holds the connection's lock owns it.
//
// The answers name what must be stored before what is sent:
//
//   - PUBACK and PUBREC leave after the message was appended ([Take]).
//   - PUBCOMP leaves after the identifier was forgotten ([Forget]).
//   - PUBREL leaves after the entry was stored as released ([Release]).
package session
