//go:build race

package auth

// raceEnabled: the race detector is on.
const raceEnabled = true
