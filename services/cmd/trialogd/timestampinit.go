package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/services/config"
	"github.com/trialog/trialog/services/internal/signing"
	"github.com/trialog/trialog/services/timestamp"
)

// Names of the files of an authority, in its folder.
const (
	unitKey       = "tsu.pem"
	unitChain     = "tsu-chain.pem"
	unitRequest   = "tsu.csr"
	caKey         = "ca-key.pem"
	recordsKey    = "statements.pem"
	unitState     = "timestamp.state"
	loggedFolder  = "logged"
	examplePolicy = "1.3.6.1.4.1.32473.1" // of RFC 5612, for documentation
)

// timestampOptions are what a person may choose.
type timestampOptions struct {
	dir, name, policy, listen, key string
	request                        bool     // a certificate by another authority
	sources                        []string // of time
	beside                         string   // data folder of a log on this machine
}

func (p *program) newTimestampInit() *cobra.Command {
	var o timestampOptions
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Make the key, a certificate and the configuration of an authority",
		Long: `Make the key, a certificate and the configuration of an authority in a folder.

The certificate is by a small certificate authority that is made with it, whose
root certificate verifiers are given. For a certificate by another one, say --csr:
then ` + unitRequest + ` goes to it, and what it answers, with the certificates of its issuers
behind, becomes ` + unitChain + `.

--beside names the data folder of a log that runs on this machine. Its operator's
recovery key then enrols the key that signs batches of token records, and if no
other sources of time are given, its witnesses are asked: good to try things out,
as they have the clock of the same machine.`,
		Example: `  trialogd timestamp init --dir tsa --beside data
  trialogd timestamp init --dir tsa --name "Example University TSU 1" --policy-oid 1.3.6.1.4.1.99999.1 \
    --clock-source ntp://0.example.org,ntp://1.example.org,ntp://2.example.org
  trialogd timestamp init --dir tsa --csr --key 'pkcs11:token=tsa;object=tsu?pin-source=file:/run/pin' --beside data`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return p.initTimestamp(cmd, o) },
	}
	f := cmd.Flags()
	f.StringVar(&o.dir, "dir", "tsa", "folder of the authority")
	f.StringVar(&o.name, "name", "Trialog time-stamping unit", "common name in the certificate")
	f.StringVar(&o.policy, "policy-oid", examplePolicy, "policy under which tokens are made; the default is one for documentation")
	f.StringVar(&o.listen, "listen", config.DefaultTimestampListen, "address to listen at")
	f.StringVar(&o.key, "key", unitKey, "where the key is: a file, which is made if it is absent, or pkcs11:…, awskms://… and so on")
	f.BoolVar(&o.request, "csr", false, "make a certificate request instead of a certificate")
	f.StringSliceVar(&o.sources, "clock-source", nil, "what to compare the clock with; three or more")
	f.StringVar(&o.beside, "beside", "", "data folder of a log on this machine, which holds the records of tokens")
	return cmd
}

func (p *program) initTimestamp(cmd *cobra.Command, o timestampOptions) error {
	ctx := cmd.Context()
	path := filepath.Join(o.dir, timestampConfig)
	if _, err := os.Stat(path); err == nil {
		return fmt.Errorf("%s holds an authority already", o.dir)
	}
	c := &config.Timestamp{
		Listen: o.listen, Key: o.key, CertificateFile: unitChain, Policy: o.policy, ClockSources: o.sources, StateFile: unitState,
	}
	if o.beside != "" {
		if err := besideLog(c, layout{o.beside}); err != nil {
			return err
		}
	}
	if len(c.ClockSources) == 0 {
		return errors.New("--clock-source: expected three or more, or --beside a log whose witnesses can be asked")
	}
	raw, err := formatTimestamp(c)
	if err != nil {
		return err
	}
	if err := p.checkTimestamp(cmd, o.dir, raw); err != nil {
		return err // nothing was made yet
	}
	if err := p.makeUnit(ctx, cmd, o); err != nil {
		return err
	}
	if c.Log != nil {
		if _, err := makeKey(filepath.Join(o.dir, recordsKey)); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	// Last: a folder without it is one in which init has not come to its end.
	if err := writeNew(path, raw, 0o600); err != nil {
		return err
	}
	if c.Log == nil {
		cmd.Printf("Token records will be logged nowhere. To log them, add \"log\" to %s; see docs/timestamp.md.\n", path)
	} else {
		recovery := layout{o.beside}.key(recoveryKey)
		if err := p.enrolTimestamp(ctx, cmd, path, recovery); err != nil {
			return fmt.Errorf("%w\nThe authority is made, but its key is not enrolled yet. When the log runs:\n"+
				"  trialogd timestamp enrol --config %s --recovery-key %s", err, path, recovery)
		}
	}
	cmd.Printf("Start it with: trialogd timestamp --config %s\n", path)
	return nil
}

// formatTimestamp writes a configuration for people to read: with the ampersands of
// references as they are.
func formatTimestamp(c *config.Timestamp) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	err := enc.Encode(c)
	return b.Bytes(), err
}

// checkTimestamp reads a configuration as the authority will. The certificate of a
// source of time may come later.
func (p *program) checkTimestamp(cmd *cobra.Command, dir string, raw []byte) error {
	c, err := config.ParseTimestamp(raw)
	if err != nil {
		return err
	}
	_, err = p.timestampGuard(c, dir, slog.New(slog.DiscardHandler))
	if missing, ok := errors.AsType[*fs.PathError](err); ok && errors.Is(missing, fs.ErrNotExist) {
		cmd.Printf("Put %s there before the start: it is the certificate of a source of time.\n", missing.Path)
		return nil
	}
	return err
}

// makeUnit makes the key, unless it is there, and its certificate or the request
// for one.
func (p *program) makeUnit(ctx context.Context, cmd *cobra.Command, o timestampOptions) error {
	ref := signing.Under(o.dir, o.key)
	// What a reference file says cannot be made up.
	if signing.IsFile(ref) && !strings.HasSuffix(ref, signing.ReferenceSuffix) {
		if err := makeP256Key(strings.TrimPrefix(ref, "file:")); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	key, err := openKey(ctx, ref)
	if err != nil {
		return err
	}
	defer func() { _ = key.Close() }()
	if o.request {
		request, err := timestamp.CertificateRequest(o.name, key)
		if err != nil {
			return err
		}
		if err := replace(filepath.Join(o.dir, unitRequest), request, 0o644); err != nil {
			return err
		}
		cmd.Printf("%s\nHave this request, %s, signed by a certificate authority. Put the certificate,\n"+
			"and those of its issuers behind it, into %s.\n",
			request, filepath.Join(o.dir, unitRequest), filepath.Join(o.dir, unitChain))
		return nil
	}
	chain, ca, err := timestamp.Certify(o.name, key.Public(), p.now())
	if err != nil {
		return err
	}
	if err := errors.Join(
		replace(filepath.Join(o.dir, caKey), ca, 0o600), replace(filepath.Join(o.dir, unitChain), chain, 0o644),
	); err != nil {
		return err
	}
	cmd.Printf("Made a key and its certificate in %s. Give verifiers the last certificate in %s.\n"+
		"Move %s away from this machine; it is needed for the next key only.\n",
		o.dir, filepath.Join(o.dir, unitChain), filepath.Join(o.dir, caKey))
	return nil
}

func makeP256Key(path string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	return writeNew(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600)
}

// besideLog completes a configuration for an authority whose records go into a log
// on this machine.
func besideLog(c *config.Timestamp, l layout) error {
	dir, err := filepath.Abs(l.dir)
	if err != nil {
		return err
	}
	l = layout{dir}
	settings, err := l.readSettings()
	if err != nil {
		return err
	}
	raw, err := os.ReadFile(l.policy())
	if err != nil {
		return err
	}
	policy, err := checkpoint.ParsePolicy(raw)
	if err != nil {
		return fmt.Errorf("%s: %w", l.policy(), err)
	}
	c.Log = &config.TimestampLog{
		PolicyFile: l.policy(), SidecarFile: l.sidecar(), Organisation: operatorOrganisation, Key: recordsKey, Folder: loggedFolder,
	}
	for _, known := range policy.Logs() {
		if known.URL != "" {
			c.Log.URL = known.URL
		}
	}
	if len(c.ClockSources) == 0 {
		c.ClockSources = witnessSources(policy, settings.Shards[0].Origin)
	}
	return nil
}

// witnessSources are the policy's witnesses as sources of time, each once.
func witnessSources(policy *checkpoint.Policy, origin string) []string {
	var list []string
	seen := map[string]bool{}
	for _, w := range policy.Witnesses() {
		if w.URL == "" || seen[w.Key.Name()] {
			continue
		}
		seen[w.Key.Name()] = true
		list = append(list, fmt.Sprintf("witness+%s?origin=%s#%s", strings.TrimSuffix(w.URL, "/"), url.QueryEscape(origin), w.Key))
	}
	return list
}
