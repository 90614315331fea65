package main

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/trialog/trialog/services/config"
	"github.com/trialog/trialog/services/internal/durable"
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

// writeNew writes a file that must not exist yet, durably.
func writeNew(path string, data []byte, mode fs.FileMode) error {
	return durable.WriteNew(path, data, mode)
}

// replace writes a file in place of one that may exist, durably: whoever reads it
// sees the old content or the new one.
func replace(path string, data []byte, mode fs.FileMode) error {
	return durable.Replace(path, data, mode)
}

// makeFolder makes a folder and what is missing above it, durably, for its owner
// only.
func makeFolder(path string) error { return durable.MakeFolder(path) }

// absolute returns a path that a file in dir names.
func absolute(dir, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}
