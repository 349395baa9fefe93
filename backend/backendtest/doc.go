// Package backendtest checks that an implementation of a role of package
// backend keeps its promises. [TestStore] and [TestBackend] take a harness
// that knows how to reach the implementation and run the same cases against
// each: there are no feature flags, and a driver that passes is finished.
//
// The suites assume neither the speed of one process nor exact times. What is
// to happen is waited for, up to the harness's Patience; what is not to happen
// is looked for after something that happens later on the same path. Only a
// lapse of the store's own clock (a lease, an expiry, a claim) is slept
// through, because nothing announces it.
//
// A case that fails logs the promise that it checks.
package backendtest
