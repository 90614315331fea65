// Package secret reads small secret files: private keys and PINs.
package secret

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
)

// MaxSize is more than any key or PIN needs.
const MaxSize = 64 << 10

// anybody are the permissions that no secret file may have: those of people who
// are neither its owner nor in its group. A group is let in because that is how
// Kubernetes hands a secret to a process that is not root.
const anybody fs.FileMode = 0o007

// Read returns the content of a secret file. It refuses one that is open to
// everybody on the machine, that is not a regular file (a symbolic link to one is
// good), or that is larger than MaxSize. Errors name the path, never the content;
// fs.ErrNotExist is found in them.
func Read(path string) ([]byte, error) {
	// Without the flag, opening a named pipe would wait for somebody to write.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("read a secret file: %w", err)
	}
	defer f.Close()
	// Of the open file: what is at the path may be exchanged meanwhile.
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("read a secret file: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("read a secret file: expected a regular file, %s has mode %s", path, info.Mode())
	}
	if info.Mode().Perm()&anybody != 0 {
		return nil, fmt.Errorf("read a secret file: %s is open to everybody on this machine (mode %s), expected 0600 or 0640",
			path, info.Mode())
	}
	raw, err := io.ReadAll(io.LimitReader(f, MaxSize+1))
	if err != nil {
		return nil, fmt.Errorf("read a secret file: %w", err)
	}
	if len(raw) > MaxSize {
		return nil, fmt.Errorf("read a secret file: %s has more than %d bytes", path, MaxSize)
	}
	return raw, nil
}
