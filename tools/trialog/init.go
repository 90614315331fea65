package main

import (
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/trialog/trialog/api/client"
	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/api/verify"
	"github.com/trialog/trialog/tools/trialog/filing"
	"github.com/trialog/trialog/tools/trialog/folder"
	"github.com/trialog/trialog/tools/trialog/words"
)

// recoveryPublic keeps the public half of the recovery key, whose private half
// is to be moved away.
const recoveryPublic = "recovery.pub.pem"

type initOptions struct {
	server, organisation, tokenFile, policy string
	roles                                   []string
}

func (p *program) initCommand() *cobra.Command {
	var o initOptions
	cmd := &cobra.Command{
		Use:   "init --server URL --organisation NAME",
		Short: "Set up this folder: keys, policy, and your organisation in the log",
		Long: `Set up this folder for submitting: make the keys, pin the policy, and enrol
your organisation's first key in the log. All of it is kept in .trialog. It is
safe to repeat: what is there is kept, what is missing is made.

Enrolling a new organisation needs a token from the log's operator.

The policy says which log and which witnesses are believed. Without --policy the
log's own is taken, which serves for work but proves nothing to third parties:
they must have it from elsewhere.`,
		Example: `  trialog init --server https://log.example.org --organisation sponsor-a --token-file token.txt
  trialog init --server https://log.example.org --organisation site-b --role site,admin --policy log.policy`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return p.init(cmd.Context(), o) },
	}
	f := cmd.Flags()
	f.StringVar(&o.server, "server", "", "`URL` of the log")
	f.StringVar(&o.organisation, "organisation", "", "short `name` of your organisation in the log, such as sponsor-a")
	f.StringVar(&o.tokenFile, "token-file", "", "`file` with a token from the log's operator")
	f.StringSliceVar(&o.roles, "role", nil,
		"`roles` of the key: "+rolesText()+"; admin may enrol further keys (default sponsor,admin)")
	f.StringVar(&o.policy, "policy", "", "pin this policy `file` (and FILE.json) instead of the log's own")
	return cmd
}

func rolesText() string {
	var names []string
	for _, r := range statement.Roles() {
		if r != statement.Gateway && r != statement.Operator {
			names = append(names, string(r))
		}
	}
	return strings.Join(names, ", ")
}

func (p *program) init(ctx context.Context, o initOptions) error {
	f, err := p.initFolder(o)
	if err != nil {
		return err
	}
	if err := checkRoles(f.Roles); err != nil {
		return err
	}
	token, err := f.Token()
	if err != nil {
		return err
	}
	anonymous, err := p.dial(f.Server, token, nil)
	if err != nil {
		return err
	}
	about, err := anonymous.Describe(ctx)
	if err != nil {
		return err
	}
	if f.Log != "" && f.Log != about.Log {
		return fmt.Errorf("--server: %s is the log %q, this folder was made for %q", f.Server, about.Log, f.Log)
	}
	f.Log = about.Log
	if err := folder.Make(f.Dir); err != nil {
		return err
	}
	p.printf("%s: %s speaks to the log %s at %s\n", f.Dir, f.Organisation, f.Log, f.Server)
	if err := p.makeKey(f.Path(f.Key), "signing key"); err != nil {
		return err
	}
	if err := p.pin(f, o.policy, about); err != nil {
		return err
	}
	if err := f.Save(); err != nil {
		return err
	}
	return p.enrolFirst(ctx, f)
}

// initFolder finds out what the folder is to be, without changing anything.
func (p *program) initFolder(o initOptions) (*folder.Folder, error) {
	dir := p.config
	if dir == "" {
		dir = p.getenv("TRIALOG_CONFIG")
	}
	dir = folder.Place(dir)
	if dir == "" {
		dir = filepath.Join(p.dir, folder.Name)
	}
	f, err := folder.Open(dir)
	if errors.Is(err, folder.ErrNone) {
		f, err = &folder.Folder{Dir: dir, Config: folder.Config{
			Organisation: o.organisation, Key: folder.KeyFile, Policy: folder.PolicyFile,
		}}, nil
	}
	switch {
	case err != nil:
		return nil, err
	case o.server == "" && f.Server == "":
		return nil, errors.New("--server: missing, expected the URL of the log")
	case f.Organisation == "":
		return nil, errors.New("--organisation: missing, expected the short name of your organisation")
	case o.organisation != "" && o.organisation != f.Organisation:
		return nil, fmt.Errorf("--organisation: this folder is for %q; use another folder for %q", f.Organisation, o.organisation)
	}
	if err := statement.CheckToken("--organisation", f.Organisation); err != nil {
		return nil, err
	}
	if o.server != "" {
		f.Server = o.server
	}
	switch {
	case len(o.roles) > 0:
		f.Roles = o.roles
	case len(f.Roles) == 0:
		f.Roles = []string{string(statement.Sponsor), string(statement.Admin)}
	}
	if o.tokenFile != "" {
		if f.TokenFile, err = filepath.Abs(o.tokenFile); err != nil {
			return nil, err
		}
	}
	return f, nil
}

func checkRoles(roles []string) error {
	known := map[string]bool{}
	for _, r := range statement.Roles() {
		known[string(r)] = true
	}
	if len(roles) == 0 {
		return errors.New("--role: missing, expected some of " + rolesText())
	}
	for _, r := range roles {
		if !known[r] {
			return fmt.Errorf("--role: there is no role %q, expected some of %s", r, rolesText())
		}
	}
	return nil
}

// makeKey makes a private key, unless it is there.
func (p *program) makeKey(path, what string) error {
	if folder.Exists(path) {
		_, err := folder.ReadKey(path)
		return err
	}
	key, err := statement.GenerateKey(p.random)
	if err != nil {
		return err
	}
	text, err := key.EncodePEM()
	if err != nil {
		return err
	}
	if err := folder.WriteNew(path, text, 0o600); err != nil {
		return err
	}
	p.printf("  made the %s %s\n", what, path)
	return nil
}

// pin puts the policy in its place, unless one is there.
func (p *program) pin(f *folder.Folder, from string, about *client.Description) error {
	path := f.Path(f.Policy)
	text, sidecar, source := about.Policy, about.Sidecar, "the log itself"
	switch {
	case from != "":
		var err error
		if text, err = folder.Read(from, folder.MaxFile); err == nil {
			sidecar, err = folder.Read(from+folder.Sidecar, folder.MaxFile)
		}
		if err != nil {
			return fmt.Errorf("--policy: %w", err)
		}
		source = from
	case folder.Exists(path):
		policy, err := f.PinnedPolicy()
		if err != nil {
			return err
		}
		p.printf("  kept the policy %s, fingerprint %s\n", path, policy.Fingerprint())
		if own, err := verify.ParsePolicy(text, sidecar); err != nil || own.Fingerprint() != policy.Fingerprint() {
			p.printf("  note: the log publishes by another policy now; if its operator has announced that, pin it with --policy\n")
		}
		return nil
	}
	policy, err := verify.ParsePolicy(text, sidecar)
	if err != nil {
		return fmt.Errorf("the policy of %s: %w", source, err)
	}
	if got := policy.Trust().Log; got != f.Log {
		return fmt.Errorf("the policy of %s is about the log %q, expected %q", source, got, f.Log)
	}
	// The half that is looked for last is written last.
	if err := errors.Join(
		folder.WriteFile(path+folder.Sidecar, sidecar, 0o644), folder.WriteFile(path, text, 0o644),
	); err != nil {
		return err
	}
	p.printf("  pinned the policy %s from %s, fingerprint %s\n", path, source, policy.Fingerprint())
	if from == "" {
		p.printf("  note: a policy that was fetched from the log itself proves nothing to third parties.\n" +
			"        They need it from somebody they trust; compare the fingerprint with the one its operator announced.\n")
	}
	return nil
}

// enrolFirst enrols the organisation's first key, unless the log knows it.
func (p *program) enrolFirst(ctx context.Context, f *folder.Folder) error {
	desk, err := p.deskOf(f)
	if err != nil {
		return err
	}
	base := filepath.Join(f.Dir, "key")
	if !folder.Exists(base + filing.PendingEnding) {
		chain, err := desk.Client.Chain(ctx, desk.Key.ID(), "")
		if err != nil {
			return err
		}
		if chain.Organisation == f.Organisation {
			p.printf("  the key is enrolled for %s already\n", f.Organisation)
			return nil
		}
		if chain.Organisation != "" {
			return fmt.Errorf("the key %s is enrolled for another organisation, %q", f.Path(f.Key), chain.Organisation)
		}
	}
	recovery, err := p.recoveryKey(f)
	if err != nil {
		return err
	}
	res, err := desk.File(ctx, enrolment(base, f.Organisation, desk.Key.Public(), recovery, f.Roles), client.Final)
	var refused *client.Problem
	if errors.As(err, &refused) && refused.Status == 401 {
		return fmt.Errorf("%w\nA new organisation needs a token from the log's operator: trialog init --token-file FILE", err)
	}
	if err != nil {
		return err
	}
	p.printf("  enrolled the key of %s as %s: entry %d, %s\n",
		f.Organisation, strings.Join(f.Roles, ", "), res.Index, words.Seen(res.Verdict))
	p.notes(res.Verdict, "key status unknown")
	return nil
}

// recoveryKey returns the public half of the recovery key, which it makes if
// neither half is there.
func (p *program) recoveryKey(f *folder.Folder) (*statement.PublicKey, error) {
	private, public := filepath.Join(f.Dir, folder.RecoveryFile), filepath.Join(f.Dir, recoveryPublic)
	raw, err := folder.Read(public, folder.MaxFile)
	if err == nil {
		block, rest := pem.Decode(raw)
		if block == nil || block.Type != "PUBLIC KEY" || len(bytes.TrimSpace(rest)) > 0 {
			return nil, fmt.Errorf("%s: expected one PEM block of type PUBLIC KEY", public)
		}
		return statement.ParsePublicKey(block.Bytes)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err := p.makeKey(private, "recovery key"); err != nil {
		return nil, err
	}
	key, err := folder.ReadKey(private)
	if err != nil {
		return nil, err
	}
	p.printf("  IMPORTANT: move %s away from this machine now, to a safe place.\n"+
		"  Only it can revoke a key of yours that is lost or stolen. Whoever has it speaks for your organisation.\n", private)
	text := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: key.Public().DER()})
	return key.Public(), folder.WriteFile(public, text, 0o644)
}

// enrolment makes the request that enrols a key; recovery is nil for a further
// one.
func enrolment(base, organisation string, key, recovery *statement.PublicKey, roles []string) *filing.Request {
	attributes := []statement.Member{
		statement.TextMember("action", "enrol"), statement.KeyMember("publicKey", key), statement.ListMember("roles", roles...),
	}
	if recovery != nil {
		attributes = append(attributes, statement.KeyMember("recovery", recovery))
	}
	return &filing.Request{Base: base, Statement: statement.Statement{
		Organisation: organisation, Kind: statement.KindKey, Attributes: attributes,
	}}
}
