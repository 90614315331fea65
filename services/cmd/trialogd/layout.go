package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/statement"
)

// layout is the data folder of "trialogd all". The register and the tiles stand
// beside the store here; where it matters each is put on a volume of its own.
type layout struct{ dir string }

func (l layout) path(parts ...string) string {
	return filepath.Join(append([]string{l.dir}, parts...)...)
}

func (l layout) settings() string         { return l.path("trialog.json") }
func (l layout) store() string            { return l.path("store") }
func (l layout) ledger() string           { return l.path("ledger") }
func (l layout) tiles() string            { return l.path("tiles") }
func (l layout) register() string         { return l.path("register", "register") }
func (l layout) documents() string        { return l.path("documents") }
func (l layout) gatewayState() string     { return l.path("gateway.state") }
func (l layout) key(name string) string   { return l.path("keys", name) }
func (l layout) policy() string           { return l.path("policy", "trialog.policy") }
func (l layout) sidecar() string          { return l.path("policy", "trialog.policy.json") }
func (l layout) token(name string) string { return l.path("tokens", name) }

func (l layout) witness(n int, parts ...string) string {
	return l.path(append([]string{fmt.Sprintf("witness-%d", n)}, parts...)...)
}

// settings are what init decided for good.
type settings struct {
	Log       string   `json:"log"`
	Origin    string   `json:"origin"`
	Operator  string   `json:"operator"`
	Witnesses []string `json:"witnesses"` // addresses, host:port
}

// readSettings reads what init wrote; fs.ErrNotExist before it.
func (l layout) readSettings() (settings, error) {
	var s settings
	raw, err := os.ReadFile(l.settings())
	if err != nil {
		return s, err
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&s); err != nil {
		return s, fmt.Errorf("%s: %w", l.settings(), err)
	}
	return s, nil
}

// disk makes files and folders that are there after a power failure too.
type disk struct {
	sync func(*os.File) error // (*os.File).Sync; tests look on
}

// writeNew writes a file that must not exist yet, durably.
func writeNew(path string, data []byte, mode fs.FileMode) error {
	return disk{(*os.File).Sync}.writeNew(path, data, mode)
}

// makeFolder makes a folder and what is missing above it, durably, for its owner
// only.
func makeFolder(path string) error {
	return disk{(*os.File).Sync}.makeFolder(filepath.Clean(path))
}

func (d disk) writeNew(path string, data []byte, mode fs.FileMode) error {
	if err := d.makeFolder(filepath.Dir(path)); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err := errors.Join(err, d.sync(f), f.Close()); err != nil {
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

// readLogKey reads a key that signs checkpoints.
func readLogKey(path string) (*checkpoint.SigningKey, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	k, err := checkpoint.ParseSigningKey(string(bytes.TrimSuffix(raw, []byte("\n"))))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return k, nil
}

// readKey reads a key that signs statements.
func readKey(path string) (*statement.PrivateKey, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	k, err := statement.ParsePrivateKey(raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return k, nil
}
