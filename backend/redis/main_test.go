package redis

import (
	"log/slog"
	"os"
	"testing"
)

func TestMain(m *testing.M) {
	SetClientLogger(slog.New(slog.DiscardHandler)) // connections are broken on purpose
	os.Exit(m.Run())
}
