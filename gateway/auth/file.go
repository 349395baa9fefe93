package auth

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-mqtt/sluice/gateway/auth/password"
)

// maxFile bounds a file that is read whole.
const maxFile = 256 << 20

// File is a parsed file that is read again when it has changed. What can not be
// read or parsed leaves the last good content in force, so that a file that is
// half written, or wrong, never lets anybody in or locks everybody out.
type File[T any] struct {
	path  string
	parse func([]byte) (T, error)
	log   *slog.Logger
	value atomic.Pointer[T]

	mu      sync.Mutex
	digest  [32]byte
	stat    os.FileInfo
	looked  time.Time
	failing string
}

// OpenFile reads a file for the first time.
func OpenFile[T any](path string, log *slog.Logger, parse func([]byte) (T, error)) (*File[T], error) {
	f := &File[T]{path: path, parse: parse, log: log}
	if _, err := f.reload(true); err != nil {
		return nil, err
	}
	return f, nil
}

// Value is the content in force.
func (f *File[T]) Value() T { return *f.value.Load() }

// Path of the file.
func (f *File[T]) Path() string { return f.path }

// Reload looks whether the file has changed and reports whether its content
// is another one now. With force it reads the file even if its time and size
// are the same. A fault is logged, once.
func (f *File[T]) Reload(force bool) bool {
	changed, err := f.reload(force)
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case err != nil && f.failing != err.Error():
		f.failing = err.Error()
		f.log.Error("file is of no use, the last good one stays in force", "file", f.path, "err", err)
	case err == nil:
		f.failing = ""
		if changed {
			f.log.Info("file was read again", "file", f.path)
		}
	}
	return changed
}

// settled is how old a file must be for its time to tell that it is the same:
// file systems count in steps.
const settled = 3 * time.Second

func (f *File[T]) reload(force bool) (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	stat, err := os.Stat(f.path)
	if err != nil {
		return false, err
	}
	if stat.Size() > maxFile {
		return false, fmt.Errorf("%s: %d bytes; allowed is up to %d", f.path, stat.Size(), maxFile)
	}
	if !force && f.stat != nil && os.SameFile(f.stat, stat) && f.stat.Size() == stat.Size() && f.stat.ModTime().Equal(stat.ModTime()) &&
		f.looked.Sub(stat.ModTime()) > settled {
		return false, nil
	}
	now := time.Now()
	content, err := os.ReadFile(f.path)
	if err != nil {
		return false, err
	}
	digest := sha256.Sum256(content)
	if f.value.Load() == nil || digest != f.digest {
		v, err := f.parse(bytes.TrimPrefix(content, []byte("\ufeff")))
		if err != nil {
			return false, fmt.Errorf("%s: %w", f.path, err)
		}
		first := f.value.Load() == nil
		f.value.Store(&v)
		f.digest, f.stat, f.looked = digest, stat, now
		return !first, nil
	}
	f.stat, f.looked = stat, now
	return false, nil
}

// PasswordFile is a [Directory] out of a file.
type PasswordFile struct{ *File[*password.Table] }

var _ Directory = PasswordFile{}

// OpenPasswordFile reads a password file for the first time.
func OpenPasswordFile(path string, log *slog.Logger) (PasswordFile, error) {
	f, err := OpenFile(path, log, password.ParseTable)
	return PasswordFile{f}, err
}

// Lookup asks the file in force.
func (f PasswordFile) Lookup(_ context.Context, user string) (*password.Hash, error) {
	return f.Value().Lookup(user), nil
}

// Decoy is the hash of some user.
func (f PasswordFile) Decoy(user string) *password.Hash { return f.Value().Decoy(user) }
