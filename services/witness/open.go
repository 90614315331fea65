package witness

import (
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/services/config"
)

// maxKeyFile is more than any signing key needs.
const maxKeyFile = 64 << 10

// Open makes a witness from its configuration file's content: it reads the key
// files, parses the logs' keys and opens the state file.
func Open(c *config.Witness, now func() time.Time, logger *slog.Logger) (*Witness, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	own := Config{StatePath: c.StateFile, Now: now, Logger: logger}
	for i, path := range c.KeyFiles {
		key, err := readKey(path)
		if err != nil {
			return nil, fmt.Errorf("key_files[%d]: %w", i, err)
		}
		if got := key.Verifier().Name(); got != c.Name {
			return nil, fmt.Errorf("key_files[%d]: expected a key named %q, got %q", i, c.Name, got)
		}
		own.Keys = append(own.Keys, key)
	}
	for i, l := range c.Logs {
		log := Log{Origin: l.Origin}
		for j, text := range l.Keys {
			key, err := checkpoint.ParseVerifierKey(text)
			if err != nil {
				return nil, fmt.Errorf("logs[%d].keys[%d]: %w", i, j, err)
			}
			log.Keys = append(log.Keys, key)
		}
		if l.Rate != nil {
			log.Rate = &Rate{PerMinute: l.Rate.PerMinute, Burst: l.Rate.Burst}
		}
		own.Logs = append(own.Logs, log)
	}
	return New(own)
}

// readKey reads a signing key. Errors never show the file's content.
func readKey(path string) (*checkpoint.SigningKey, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("reading a signing key: %w", err)
	}
	if info.Size() > maxKeyFile || !info.Mode().IsRegular() {
		return nil, fmt.Errorf("reading a signing key: expected a small regular file, got %d bytes, mode %s", info.Size(), info.Mode())
	}
	if info.Mode().Perm()&0o007 != 0 {
		return nil, fmt.Errorf("reading a signing key: %s is open to everybody on this machine (mode %s), expected 0600 or 0640",
			path, info.Mode())
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading a signing key: %w", err)
	}
	key, err := checkpoint.ParseSigningKey(strings.TrimSuffix(string(raw), "\n"))
	if err != nil {
		return nil, fmt.Errorf("reading the signing key in %s: %w", path, err)
	}
	return key, nil
}
