// Package events tells others what happens at a gateway: who connects and
// disconnects, what is subscribed to, what is dropped. It is the
// [gateway.Observer] of a program that has HTTP servers or NATS subjects to be
// told.
//
// The gateway never waits for it. Each receiver has a queue of its own; an event
// that finds it full is lost, which is counted, and which a receiver sees by the
// gap in the numbers. No payload of a message and no password is ever told.
package events
