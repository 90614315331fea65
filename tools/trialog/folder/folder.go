// Package folder is the work folder of a person who submits: where the log is,
// for whom they speak, with which key, and the policy that they pinned.
package folder

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/api/verify"
)

// Name is the folder's name, which is looked for upwards from where one works.
const Name = ".trialog"

// Names of the files in it.
const (
	ConfigFile   = "config.json"
	KeyFile      = "key.pem"
	RecoveryFile = "recovery.pem"
	PolicyFile   = "trialog.policy"
	// Sidecar is appended to a policy's name.
	Sidecar = ".json"
)

// Config is the content of the configuration file. Relative paths begin at the
// folder.
type Config struct {
	// Server is the base URL of the log.
	Server string `json:"server"`
	// Log is the log's name, which statements carry.
	Log string `json:"log"`
	// Organisation is who speaks.
	Organisation string `json:"organisation"`
	// Key is the file of the private key, PEM.
	Key string `json:"key"`
	// Policy is the file of the pinned policy; its sidecar is beside it.
	Policy string `json:"policy"`
	// Roles are those that the key is, or is to be, enrolled in.
	Roles []string `json:"roles,omitempty"`
	// TokenFile holds a bearer token; optional.
	TokenFile string `json:"token_file,omitempty"`
}

// ErrNone says that there is no work folder.
var ErrNone = errors.New("there is no .trialog folder here or above; make one with: trialog init")

// Folder is a work folder.
type Folder struct {
	Dir string
	Config
}

// Find opens the work folder: the one that was named, by its own path or its
// configuration file's, else the first one from the folder from upwards.
func Find(named, from string) (*Folder, error) {
	if named != "" {
		return Open(Place(named))
	}
	dir, err := filepath.Abs(from)
	if err != nil {
		return nil, err
	}
	for {
		if candidate := filepath.Join(dir, Name); Exists(filepath.Join(candidate, ConfigFile)) {
			return Open(candidate)
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return nil, ErrNone
		}
		dir = parent
	}
}

// Place returns the folder that a path names: itself, or the configuration file
// in it.
func Place(named string) string {
	if filepath.Base(named) == ConfigFile {
		return filepath.Dir(named)
	}
	return named
}

// Open reads the configuration of a work folder.
func Open(dir string) (*Folder, error) {
	path := filepath.Join(dir, ConfigFile)
	raw, err := Read(path, MaxFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", path, ErrNone)
	}
	if err != nil {
		return nil, err
	}
	f := &Folder{Dir: dir}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&f.Config); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s: expected one JSON object", path)
	}
	if err := f.check(); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return f, nil
}

func (c Config) check() error {
	if err := statement.CheckToken("organisation", c.Organisation); err != nil {
		return err
	}
	if err := statement.CheckLog("log", c.Log); err != nil {
		return err
	}
	for _, m := range []struct{ name, value string }{{"server", c.Server}, {"key", c.Key}, {"policy", c.Policy}} {
		if m.value == "" {
			return fmt.Errorf("%s: missing", m.name)
		}
	}
	return nil
}

// Make makes the folder, which may be there already, and keeps its content out
// of version control: it holds keys.
func Make(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	ignore := filepath.Join(dir, ".gitignore")
	if Exists(ignore) {
		return nil
	}
	return WriteFile(ignore, []byte("*\n"), 0o644)
}

// Save writes the configuration.
func (f *Folder) Save() error {
	if err := f.check(); err != nil {
		return err
	}
	raw, err := json.MarshalIndent(f.Config, "", "  ")
	if err != nil {
		return err
	}
	return WriteFile(filepath.Join(f.Dir, ConfigFile), append(raw, '\n'), 0o600)
}

// Path returns where a file of the configuration is.
func (f *Folder) Path(name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(f.Dir, name)
}

// SigningKey reads the private key.
func (f *Folder) SigningKey() (*statement.PrivateKey, error) { return ReadKey(f.Path(f.Key)) }

// ReadKey reads a private key, PEM.
func ReadKey(path string) (*statement.PrivateKey, error) {
	raw, err := Read(path, MaxFile)
	if err != nil {
		return nil, fmt.Errorf("the signing key: %w", err)
	}
	key, err := statement.ParsePrivateKey(raw)
	if err != nil {
		return nil, fmt.Errorf("the signing key %s: %w", path, err)
	}
	return key, nil
}

// PinnedPolicy reads the pinned policy.
func (f *Folder) PinnedPolicy() (*verify.Policy, error) {
	path := f.Path(f.Policy)
	policy, err := ReadPolicy(path, path+Sidecar)
	if err != nil {
		return nil, err
	}
	if got := policy.Trust().Log; got != f.Log {
		return nil, fmt.Errorf("%s is about the log %q, the configuration about %q", path, got, f.Log)
	}
	return policy, nil
}

// ReadPolicy reads a policy and its sidecar.
func ReadPolicy(path, sidecar string) (*verify.Policy, error) {
	text, err := Read(path, MaxFile)
	if err != nil {
		return nil, fmt.Errorf("the policy: %w", err)
	}
	trust, err := Read(sidecar, MaxFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("the policy %s has a second half, which is not there: %w", path, err)
	}
	if err != nil {
		return nil, fmt.Errorf("the policy: %w", err)
	}
	return verify.ParsePolicy(text, trust)
}

// Token reads the bearer token; "" if none is configured.
func (f *Folder) Token() (string, error) {
	if f.TokenFile == "" {
		return "", nil
	}
	return ReadToken(f.Path(f.TokenFile))
}

// ReadToken reads a bearer token from a file.
func ReadToken(path string) (string, error) {
	raw, err := Read(path, MaxFile)
	if err != nil {
		return "", fmt.Errorf("the token: %w", err)
	}
	return strings.TrimSpace(string(raw)), nil
}
