package nats

import (
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-mqtt/sluice/backend"
)

// complaintEvery is how often the log says that foreign bytes come.
const complaintEvery = time.Minute

// foreign counts what comes on the subjects of this cluster and is not for
// this program, and tells the log now and then.
type foreign struct {
	log                             *slog.Logger
	malformed, versions, otherNames atomic.Uint64

	mu sync.Mutex
	// told is when the log was told last, of each reason.
	told map[error]time.Time
}

// refuse counts a frame that can not be read.
func (f *foreign) refuse(err error) {
	reason := backend.ErrMalformed
	switch {
	case errors.Is(err, backend.ErrVersion):
		reason = backend.ErrVersion
		f.versions.Add(1)
	case errors.Is(err, errForeign):
		reason = errForeign
		f.otherNames.Add(1)
	default:
		f.malformed.Add(1)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if now := time.Now(); now.Sub(f.told[reason]) >= complaintEvery {
		f.told[reason] = now
		f.log.Warn("messages on the bus are not for this program and are dropped", "err", err)
	}
}
