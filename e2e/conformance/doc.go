// Package conformance proves over sockets that a server follows MQTT: every
// normative statement of 3.1.1 (mqtt311.tsv) and 5.0 (mqtt5v5.tsv) has a test
// here, or in the gateway's own module, or a reason in its list why it has
// none.
//
//	go run ./conformance/table
//
// runs the tests and prints the table of statements. Tests run in parallel
// against one server or any number of gateways of a cluster, and so never rely
// on two clients being connected to the same process.
package conformance
