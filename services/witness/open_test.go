package witness

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/trialog/trialog/services/config"
)

// fileConfig is a configuration with key files that are as they should be.
func fileConfig(t *testing.T) *config.Witness {
	dir := t.TempDir()
	c := &config.Witness{
		Name:      testName,
		StateFile: filepath.Join(dir, "state"),
		Logs: []config.WitnessLog{{
			Origin: testOrigin,
			Keys:   []string{logKey(t).Verifier().String(), logKeyPQ(t).Verifier().String()},
			Rate:   &config.WitnessRate{PerMinute: 60, Burst: 3},
		}},
	}
	for i, k := range witnessKeys(t) {
		path := filepath.Join(dir, []string{"ed25519.key", "mldsa44.key"}[i])
		if err := os.WriteFile(path, []byte(k.Encode()+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		c.KeyFiles = append(c.KeyFiles, path)
	}
	return c
}

func TestOpen(t *testing.T) {
	w, err := Open(t.Context(), fileConfig(t), newClock().now, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = w.Close() }()
	body := grown(t, 5, 5, "").step(t, 0)
	cosignatures(t, body, mustAdd(t, w, body).Body.Bytes(), witnessKeys(t)...)
	if w.table.Load().byOrigin[testOrigin].bucket == nil {
		t.Error("the rate of the configuration is not applied")
	}
}

func TestOpenRejects(t *testing.T) {
	write := func(t *testing.T, path, text string, mode os.FileMode) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	secret := witnessKeys(t)[0].Encode()
	for name, tc := range map[string]struct {
		change func(t *testing.T, c *config.Witness)
		want   string
	}{
		"not valid":     {func(_ *testing.T, c *config.Witness) { c.StateFile = "" }, "state_file"},
		"no key file":   {func(_ *testing.T, c *config.Witness) { c.KeyFiles[1] += ".gone" }, "key_files[1]"},
		"a directory":   {func(t *testing.T, c *config.Witness) { c.KeyFiles[1] = t.TempDir() }, "regular file"},
		"readable":      {func(t *testing.T, c *config.Witness) { write(t, c.KeyFiles[0], secret, 0o604) }, "key_files[0]"},
		"not a key":     {func(t *testing.T, c *config.Witness) { write(t, c.KeyFiles[0], secret[:40], 0o600) }, "key_files[0]"},
		"two lines":     {func(t *testing.T, c *config.Witness) { write(t, c.KeyFiles[0], secret+"\n\n", 0o600) }, "key_files[0]"},
		"too large":     {func(t *testing.T, c *config.Witness) { write(t, c.KeyFiles[0], strings.Repeat("x", 70000), 0o600) }, "65536"},
		"another name":  {func(_ *testing.T, c *config.Witness) { c.Name = "w2" }, "w2"},
		"bad log key":   {func(_ *testing.T, c *config.Witness) { c.Logs[0].Keys[1] = "a+b+c" }, "logs[0].keys[1]"},
		"wrong log key": {func(_ *testing.T, c *config.Witness) { c.Logs[0].Origin = "other" }, "named like the origin"},
	} {
		t.Run(name, func(t *testing.T) {
			c := fileConfig(t)
			tc.change(t, c)
			w, err := Open(t.Context(), c, nil, nil)
			if err == nil {
				t.Fatal("accepted", w.Close())
			}
			if !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %q does not say %q", err, tc.want)
			}
			if strings.Contains(err.Error(), secret[30:]) {
				t.Error("the error shows the private key")
			}
		})
	}
}
