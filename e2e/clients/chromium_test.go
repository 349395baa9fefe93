package clients_test

import (
	"strings"
	"testing"

	"github.com/sluice-mqtt/sluice/e2e/harness"
)

// TestChromium does in a web page, with its forms and its list of messages, what
// the other tests do with the other clients. The page takes text only.
func TestChromium(t *testing.T) {
	g := harness.Shared(t)
	startBrowser(t)
	large := strings.Repeat("0123456789 äöü ", 300<<10/len("0123456789 äöü "))
	for _, test := range []struct {
		name string
		run  func(*testing.T, variant)
	}{
		{"matrix", func(t *testing.T, v variant) { testMatrix(t, g, v) }},
		{"wildcards", func(t *testing.T, v variant) { testWildcards(t, g, v) }},
		{"retained", func(t *testing.T, v variant) { testRetained(t, g, v) }},
		{"empty", func(t *testing.T, v variant) { testPayload(t, g, v, nil) }},
		{"300 KiB", func(t *testing.T, v variant) { testPayload(t, g, v, []byte(large)) }},
	} {
		t.Run(test.name, func(t *testing.T) { each(t, inPage, test.run) })
	}
}
