package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/api/trustbundle"
	"github.com/trialog/trialog/api/verify"
	"github.com/trialog/trialog/services/internal/problem"
)

// trustPath is where the newest trust bundle is served; behind a slash and its
// number each version is.
const trustPath = "/v1/trust"

// trustValid is for how long a trust bundle is good unless somebody says otherwise.
const trustValid = 365 * 24 * time.Hour

// bundleFile is where a version of the log's trust bundle is kept. They are kept
// all: who holds an old one needs each that follows it.
func (l layout) bundleFile(version uint64) string {
	return l.path("policy", "trust", strconv.FormatUint(version, 10)+".json")
}

// newestBundle returns the number of the newest trust bundle; 0 if there is none.
func (l layout) newestBundle() (newest uint64, err error) {
	entries, err := os.ReadDir(l.path("policy", "trust"))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	for _, entry := range entries {
		name, ok := strings.CutSuffix(entry.Name(), ".json")
		if n, bad := strconv.ParseUint(name, 10, 64); ok && bad == nil {
			newest = max(newest, n)
		}
	}
	return newest, err
}

func (p *program) newTrust() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "trust",
		Short:   "Issue the log's trust bundle: all that a verifier believes in one file",
		Example: `  trialogd trust issue --data data`,
		Args:    cobra.NoArgs,
	}
	var dir, keyring string
	var valid time.Duration
	issue := &cobra.Command{
		Use:   "issue",
		Short: "Issue a new version of the log's trust bundle",
		Long: `Issue a new version of the log's trust bundle: the policy in force, the log list,
and the keyring that an auditor has handed in last. It is signed by the log's
trust key and served at ` + trustPath + `. The log may be running.

A verifier takes the first one by its fingerprint, which must come by another
way, and later ones with "trialog trust update". A bundle that is to carry the
word of several people is made with "trialog trust make".`,
		Example: `  trialogd trust issue --data data
  trialogd trust issue --data data --keyring log.keyring --valid 2160h`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			b, err := layout{dir}.issueTrust(p.now(), valid, keyring)
			if err != nil {
				return err
			}
			c := b.Content()
			cmd.Printf("Issued version %d of the trust bundle, good until %s UTC.\nFingerprint: %s\n",
				c.Version, c.Expires.UTC().Format(time.DateTime), b.Fingerprint())
			return nil
		},
	}
	issue.Flags().StringVar(&dir, "data", "data", "folder of the log's data")
	issue.Flags().StringVar(&keyring, "keyring", "", "keyring of an auditor that the policy names (default: that of the version before)")
	issue.Flags().DurationVar(&valid, "valid", trustValid, "for how long it is good")
	cmd.AddCommand(issue)
	return cmd
}

// trustKey reads the key that signs the log's trust bundles, and makes it where a
// log has none yet.
func (l layout) trustKey() (*statement.PrivateKey, error) {
	key, err := readKey(l.key(trustKey))
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := makeKey(l.key(trustKey)); err != nil {
			return nil, err
		}
		return readKey(l.key(trustKey))
	}
	return key, err
}

// issueTrust makes the bundle that follows the newest one from what the data folder
// has. keyringFile is empty for the keyring of the version before.
func (l layout) issueTrust(now time.Time, valid time.Duration, keyringFile string) (*trustbundle.Bundle, error) {
	if valid < time.Millisecond {
		return nil, errors.New("valid: expected for how long the bundle is good, such as 8760h")
	}
	settings, err := l.readSettings()
	if err != nil {
		return nil, noLog(l, err)
	}
	key, err := l.trustKey()
	if err != nil {
		return nil, err
	}
	now = now.UTC().Truncate(time.Millisecond)
	c := trustbundle.Content{
		Log: settings.Log, Version: 1, Issued: now, Expires: now.Add(valid), Threshold: 1, Signers: []*statement.PublicKey{key.Public()},
	}
	before, err := l.lastBundle()
	if err != nil {
		return nil, err
	}
	if before != nil {
		c.Version, c.Previous = before.Content().Version+1, before.Digest()
		c.KeyringRaw = before.Keyring()
	}
	if keyringFile != "" {
		if c.KeyringRaw, err = os.ReadFile(keyringFile); err != nil {
			return nil, fmt.Errorf("keyring: %w", err)
		}
	}
	if err := l.readTrust(&c); err != nil {
		return nil, err
	}
	payload, err := c.Encode()
	if err != nil {
		return nil, err
	}
	raw, err := trustbundle.Sign(payload, key)
	if err != nil {
		return nil, err
	}
	b, err := trustbundle.Parse(raw)
	if err != nil {
		return nil, err
	}
	if before != nil {
		// A replaced trust key would leave everybody behind who holds the one before.
		if err := trustbundle.Follows(before, b); err != nil {
			return nil, fmt.Errorf("version %d cannot follow version %d: %w", c.Version, before.Content().Version, err)
		}
	}
	return b, writeNew(l.bundleFile(c.Version), raw, 0o644)
}

// readTrust reads the parts of a bundle that are files of the log.
func (l layout) readTrust(c *trustbundle.Content) error {
	var err error
	if c.PolicyText, err = os.ReadFile(l.policy()); err != nil {
		return err
	}
	if c.Sidecar, err = os.ReadFile(l.sidecar()); err != nil {
		return err
	}
	policy, err := readPolicy(l)
	if err != nil {
		return err
	}
	if both, err := verify.ParsePolicy(c.PolicyText, c.Sidecar); err != nil || both.Fingerprint() != policy.Fingerprint() {
		return errors.Join(errors.New("the policy was changed meanwhile"), err)
	}
	if len(policy.Trust().LogListKeys) == 0 {
		return nil // a policy of the first version: nobody could check the list
	}
	c.LogListRaw, err = os.ReadFile(l.logList())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// lastBundle reads the newest bundle; nil if there is none.
func (l layout) lastBundle() (*trustbundle.Bundle, error) {
	newest, err := l.newestBundle()
	if err != nil || newest == 0 {
		return nil, err
	}
	raw, err := os.ReadFile(l.bundleFile(newest))
	if err != nil {
		return nil, err
	}
	b, err := trustbundle.Parse(raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", l.bundleFile(newest), err)
	}
	return b, nil
}

// isTrust tells whether a path is that of a trust bundle.
func isTrust(path string) bool {
	_, ok := trustVersion(path)
	return ok
}

// trustVersion reads which version a path names; 0 for the newest one.
func trustVersion(path string) (version uint64, ok bool) {
	rest, ok := strings.CutPrefix(path, trustPath)
	if !ok || rest == "" {
		return 0, ok
	}
	number, ok := strings.CutPrefix(rest, "/")
	version, err := strconv.ParseUint(number, 10, 53)
	return version, ok && err == nil && version > 0 && strconv.FormatUint(version, 10) == number
}

// serveTrust hands out a version of the trust bundle, the newest one for 0.
func (l layout) serveTrust(w http.ResponseWriter, r *http.Request, version uint64) {
	cache := "public, max-age=31536000, immutable"
	if version == 0 {
		var err error
		cache = "no-cache"
		if version, err = l.newestBundle(); err != nil || version == 0 {
			problem.New("https://trialog.dev/problems/trust/none", http.StatusServiceUnavailable, "", "no trust bundle was issued yet").Write(w)
			return
		}
	}
	f, err := os.Open(l.bundleFile(version))
	if err != nil {
		problem.New("https://trialog.dev/problems/trust/no-such-version", http.StatusNotFound, "path",
			"expected /v1/trust, or behind a slash the number of a version that was issued").Write(w)
		return
	}
	defer f.Close()
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", cache)
	http.ServeContent(w, r, "", time.Time{}, f)
}
