//go:build unix

package main

import (
	"io/fs"
	"syscall"
)

func owner(i fs.FileInfo) (uid, gid int, ok bool) {
	s, ok := i.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, 0, false
	}
	return int(s.Uid), int(s.Gid), true
}
