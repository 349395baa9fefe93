// Package bridge gives applications on NATS what MQTT clients publish, and MQTT
// clients what applications publish, each under subjects of its own:
//
//	<prefix>.message.<topic>  what was published to a topic, by whomever
//	<prefix>.publish.<topic>  where applications publish
//
// Payloads are as they are, properties of MQTT are headers. Every gateway of a
// cluster has a bridge: the one that took a message from its client forwards it,
// and one of them, by a queue group, takes what an application has published.
package bridge
