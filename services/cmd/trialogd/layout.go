package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/trialog/trialog/services/config"
)

// layout is the data folder of a log on one machine. The shards and their
// registers have folders of their own in it; where it matters each is put on a
// volume of its own, or into a database and an object store.
type layout struct{ dir string }

func (l layout) path(parts ...string) string {
	return filepath.Join(append([]string{l.dir}, parts...)...)
}

func (l layout) settings() string         { return l.path("trialog.json") }
func (l layout) documents() string        { return l.path("documents") }
func (l layout) gatewayState() string     { return l.path("gateway.state") }
func (l layout) key(name string) string   { return l.path("keys", name) }
func (l layout) policy() string           { return l.path("policy", "trialog.policy") }
func (l layout) sidecar() string          { return l.path("policy", "trialog.policy.json") }
func (l layout) logList() string          { return l.path("policy", "loglist.json") }
func (l layout) token(name string) string { return l.path("tokens", name) }
func (l layout) admin() string            { return l.path("admin", "socket") }

func (l layout) witness(n int, parts ...string) string {
	return l.path(append([]string{fmt.Sprintf("witness-%d", n)}, parts...)...)
}

// readSettings reads what init wrote; fs.ErrNotExist before it.
func (l layout) readSettings() (*config.Log, error) {
	raw, err := os.ReadFile(l.settings())
	if err != nil {
		return nil, err
	}
	c, err := config.ParseLog(raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", l.settings(), err)
	}
	return c, nil
}

// writeSettings makes c the log's configuration. It is validated first.
func (l layout) writeSettings(c *config.Log) error {
	if err := c.Validate(); err != nil {
		return err
	}
	raw, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return err
	}
	return replace(l.settings(), append(raw, '\n'), 0o600)
}

// disk makes files and folders that are there after a power failure too.
type disk struct {
	sync func(*os.File) error // (*os.File).Sync; tests look on
}

// writeNew writes a file that must not exist yet, durably.
func writeNew(path string, data []byte, mode fs.FileMode) error {
	return disk{(*os.File).Sync}.writeNew(path, data, mode)
}

// replace writes a file in place of one that may exist, durably: whoever reads it
// sees the old content or the new one.
func replace(path string, data []byte, mode fs.FileMode) error {
	return disk{(*os.File).Sync}.replace(path, data, mode)
}

// makeFolder makes a folder and what is missing above it, durably, for its owner
// only.
func makeFolder(path string) error {
	return disk{(*os.File).Sync}.makeFolder(filepath.Clean(path))
}

// writeNew puts the file at its place when it is whole: a crash leaves no half of
// a key, on which a second try would stumble.
func (d disk) writeNew(path string, data []byte, mode fs.FileMode) error {
	if _, err := os.Lstat(path); err == nil {
		return &fs.PathError{Op: "create", Path: path, Err: fs.ErrExist}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return d.replace(path, data, mode)
}

func (d disk) replace(path string, data []byte, mode fs.FileMode) error {
	if err := d.makeFolder(filepath.Dir(path)); err != nil {
		return err
	}
	temp := path + ".new"
	if err := os.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(temp, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err := errors.Join(err, d.sync(f), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(temp, path); err != nil {
		return err
	}
	// The file's name is in the folder.
	return d.syncFolder(filepath.Dir(path))
}

func (d disk) makeFolder(path string) error {
	err := os.Mkdir(path, 0o700)
	if errors.Is(err, fs.ErrNotExist) {
		if err := d.makeFolder(filepath.Dir(path)); err != nil {
			return err
		}
		err = os.Mkdir(path, 0o700)
	}
	if errors.Is(err, fs.ErrExist) {
		return nil // if it is no folder, its user will say so
	}
	if err != nil {
		return err
	}
	return d.syncFolder(filepath.Dir(path))
}

func (d disk) syncFolder(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	if err := errors.Join(d.sync(f), f.Close()); err != nil {
		return fmt.Errorf("sync folder %s: %w", path, err)
	}
	return nil
}
