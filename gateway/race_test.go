//go:build race

package gateway

// raceEnabled: the race detector is on.
const raceEnabled = true
