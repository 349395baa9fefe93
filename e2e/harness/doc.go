// Package harness runs the built gateway for end-to-end tests, or stands for a
// broker that runs already.
//
// Every test package that uses it has
//
//	func TestMain(m *testing.M) { harness.Main(m) }
//
// which removes the binary and stops the shared gateway at the end. [Shared]
// is the gateway to use; [Start] is for tests that configure, signal or kill
// one; [StartCluster] is several with a Redis, a NATS and a balancer, all of
// which can be killed, paused and started again.
//
// Environment of the tests:
//
//	E2E_RACE=1       build the gateway with the race detector
//	E2E_GATEWAY      path of a binary to use instead of building one
//	E2E_CLUSTER=n    Shared and Start are n gateways on a Redis and a NATS
//	E2E_TCP          host:port list, by comma: test this broker instead. With
//	                 more than one (a cluster), connections are spread at random
//	E2E_WS, E2E_HTTP its WebSocket and HTTP URLs, lists in the same order;
//	                 tests that need a missing one are skipped
package harness
