package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/trialog/trialog/api/client"
	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/tools/trialog/folder"
	"github.com/trialog/trialog/tools/trialog/words"
)

func (p *program) keygenCommand() *cobra.Command {
	var p256 bool
	var out, public string
	cmd := &cobra.Command{
		Use:   "keygen",
		Short: "Make a signing key",
		Long: `Make a signing key, as openssl genpkey would: PEM, PKCS #8, Ed25519. It is
written to a file that only you may read, never over one that is there.

trialog init makes the first key by itself. A further one is made here, on the
device that is to use it, and enrolled with trialog key enrol.`,
		Example: `  trialog keygen -o laptop.pem
  trialog keygen --p256 -o laptop.pem
  trialog keygen -o anna.pem --public anna.pub.pem`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return p.keygen(p256, out, public) },
	}
	cmd.Flags().BoolVar(&p256, "p256", false, "make an ECDSA P-256 key, for devices that know no Ed25519")
	cmd.Flags().StringVarP(&out, "out", "o", "key.pem", "`file` of the new key")
	cmd.Flags().StringVar(&public, "public", "", "`file` of its public half, to give to others")
	return cmd
}

func (p *program) keygen(p256 bool, out, public string) error {
	key, err := p.newKey(p256)
	if err != nil {
		return err
	}
	text, err := key.EncodePEM()
	if err != nil {
		return err
	}
	if err := folder.WriteNew(out, text, 0o600); errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("--out: %s is there already; a key is never written over", out)
	} else if err != nil {
		return err
	}
	if public != "" {
		half := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: key.Public().DER()})
		if err := folder.WriteFile(public, half, 0o644); err != nil {
			return err
		}
	}
	p.printf("made the %s key %s\n  key id %s\n", key.Public().Algorithm(), out, key.ID())
	return nil
}

func (p *program) newKey(p256 bool) (*statement.PrivateKey, error) {
	if !p256 {
		return statement.GenerateKey(p.random)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), p.random)
	if err != nil {
		return nil, fmt.Errorf("generate a key: %w", err)
	}
	return statement.NewPrivateKey(key)
}

func (p *program) keyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "key",
		Short: "Enrol and revoke keys of your organisation",
		Example: `  trialog key enrol laptop.pem --role sponsor
  trialog key revoke laptop.pem --recovery recovery.pem --suspect-from 1207`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	var roles []string
	enrol := &cobra.Command{
		Use:   "enrol FILE --role ROLE",
		Short: "Enrol a further key",
		Long: `Enrol a further key of your organisation. Each device has a key of its own, so
that one that is lost can be revoked alone. The key in the work folder must have
the role admin; FILE is the new private key, which signs too.`,
		Example: `  trialog keygen -o laptop.pem
  trialog key enrol laptop.pem --role sponsor`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return p.enrol(cmd.Context(), args[0], roles) },
	}
	enrol.Flags().StringSliceVar(&roles, "role", nil, "`roles` of the key: "+rolesText())
	cmd.AddCommand(enrol, p.revokeCommand())
	return cmd
}

func (p *program) enrol(ctx context.Context, path string, roles []string) error {
	if err := checkRoles(roles); err != nil {
		return err
	}
	key, err := folder.ReadKey(path)
	if err != nil {
		return err
	}
	desk, err := p.desk()
	if err != nil {
		return err
	}
	if key.ID() == desk.Key.ID() {
		return errors.New("this is the key of the work folder; trialog init enrols it")
	}
	r := enrolment(path, desk.Folder.Organisation, key.Public(), nil, slices.Compact(roles))
	r.Meaning, r.Cosigners = statement.Authorship, []*statement.PrivateKey{key}
	res, err := desk.File(ctx, r, client.Final)
	if err != nil {
		return err
	}
	if res.Already {
		p.printf("%s: enrolled already by entry %d\n", path, res.Index)
		return nil
	}
	p.printf("%s: enrolled for %s as %s by entry %d, %s\n",
		path, desk.Folder.Organisation, strings.Join(roles, ", "), res.Index, words.Seen(res.Verdict))
	return nil
}
