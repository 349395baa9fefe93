package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/sluice-mqtt/sluice/gateway/auth/password"
)

// userFile is a password file as a [userTable].
type userFile struct {
	path  string
	mode  fs.FileMode
	table *password.Table
}

// openUserFile reads a file; with create it must not be there.
func openUserFile(path string, create bool) (*userFile, error) {
	stat, err := os.Stat(path)
	switch {
	case create && err == nil:
		return nil, fmt.Errorf("%s is there already; without --create it is changed", path)
	case create && errors.Is(err, fs.ErrNotExist):
		table, err := password.ParseTable(nil)
		return &userFile{path, 0o600, table}, err
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%s is not there; --create makes it", path)
	case err != nil:
		return nil, err
	}
	// The file itself is replaced, not a link to it.
	if path, err = filepath.EvalSymlinks(path); err != nil {
		return nil, err
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	table, err := password.ParseTable(content)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return &userFile{path, stat.Mode().Perm(), table}, nil
}

func (f *userFile) set(_ context.Context, user, hash string) error { return f.table.Set(user, hash) }

func (f *userFile) remove(_ context.Context, user string) (bool, error) {
	return f.table.Delete(user), nil
}

func (f *userFile) list(_ context.Context, each func(string, *password.Hash)) error {
	for _, u := range f.table.Users() {
		each(u, f.table.Lookup(u))
	}
	return nil
}

// save replaces the file in one step: whoever reads it sees the old or the new
// one, also after a crash.
func (f *userFile) save(context.Context) (err error) {
	to, err := os.CreateTemp(filepath.Dir(f.path), "."+filepath.Base(f.path)+".*")
	if err != nil {
		return err
	}
	defer func() {
		to.Close()
		if err != nil {
			os.Remove(to.Name())
		}
	}()
	if stat, err := os.Stat(f.path); err == nil {
		keepOwner(to, stat)
	}
	if err = to.Chmod(f.mode); err != nil {
		return err
	}
	if _, err = to.Write(f.table.Bytes()); err != nil {
		return err
	}
	if err = to.Sync(); err != nil {
		return err
	}
	if err = os.Rename(to.Name(), f.path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(f.path))
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

// keepOwner gives a file the owner of the one that it replaces, if that may be
// done: a gateway that runs as somebody else still has to read it.
func keepOwner(to *os.File, old fs.FileInfo) {
	if uid, gid, ok := owner(old); ok {
		to.Chown(uid, gid)
	}
}
