package redis

import (
	"context"
	"fmt"
	"log/slog"

	goredis "github.com/redis/go-redis/v9"
)

// SetClientLogger has what the client library says of its connections logged at
// Debug. It writes to standard error otherwise, for all who use it in this
// program, which is why a main function calls this and no Store does: errors
// reach the callers anyway.
func SetClientLogger(l *slog.Logger) { goredis.SetLogger(clientLog{l}) }

type clientLog struct{ to *slog.Logger }

func (l clientLog) Printf(ctx context.Context, format string, args ...any) {
	if l.to.Enabled(ctx, slog.LevelDebug) {
		l.to.DebugContext(ctx, "redis client", "says", fmt.Sprintf(format, args...))
	}
}
