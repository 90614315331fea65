// Package socket is how a person asks a process on the same machine: over a Unix
// socket that only its owner can open.
package socket

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"

	"github.com/trialog/trialog/services/internal/durable"
)

// ErrNobody says that no process answers on a socket.
var ErrNobody = errors.New("no process answers there")

// longest is what fits into the address of a socket everywhere, in bytes.
const longest = 100

// shortened returns a path of a socket that fits into an address: the data folder
// may lie deep. It is good until done is called.
func shortened(path string) (short string, done func() error, err error) {
	if len(path) <= longest {
		return path, func() error { return nil }, nil
	}
	folder, err := filepath.Abs(filepath.Dir(path))
	if err != nil {
		return "", nil, err
	}
	dir, err := os.MkdirTemp("", "trialog-")
	if err != nil {
		return "", nil, err
	}
	done = func() error { return os.RemoveAll(dir) }
	link := filepath.Join(dir, "d")
	if err := os.Symlink(folder, link); err != nil {
		return "", nil, errors.Join(err, done())
	}
	return filepath.Join(link, filepath.Base(path)), done, nil
}

// Listen makes the socket at path, in a folder of its own that it makes too. The
// caller has seen to it that no other process has the socket, such as by a lock,
// and removes it after the listener was closed.
func Listen(ctx context.Context, path string) (net.Listener, error) {
	// The folder keeps everybody else out, also before the socket has its mode.
	folder := filepath.Dir(path)
	if err := durable.MakeFolder(folder); err != nil {
		return nil, err
	}
	if err := os.Chmod(folder, 0o700); err != nil { //nolint:gosec // a folder
		return nil, err
	}
	// A socket that a killed process left behind keeps a new one out.
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	short, done, err := shortened(path)
	if err != nil {
		return nil, err
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "unix", short)
	if err := errors.Join(err, done()); err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	if l, ok := listener.(*net.UnixListener); ok {
		l.SetUnlinkOnClose(false) // it knows the short path, which is gone
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	return listener, nil
}

// Dial connects to the process that has the socket; ErrNobody if there is none.
func Dial(ctx context.Context, path string) (net.Conn, error) {
	short, done, err := shortened(path)
	if err != nil {
		return nil, err
	}
	conn, err := new(net.Dialer).DialContext(ctx, "unix", short)
	err = errors.Join(err, done())
	// A process that was killed leaves its socket behind.
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
		return nil, ErrNobody
	}
	return conn, err
}
