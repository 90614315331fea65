package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/services/internal/signing"
)

func newKey() *cobra.Command {
	var name string
	var witness bool
	cmd := &cobra.Command{
		Use:   "key REFERENCE",
		Short: "Try a key in a token or a key management service, and write its reference file",
		Long: `Try a key where a reference says it is: open it, sign with it, and verify that.
What is printed is the content of a reference file: the public key, and where the
private one is. In place of a key file such as keys/gateway.pem, put it into
keys/gateway.ref; for a witness, name the file in key_files.

A reference is a path, a PKCS#11 URI (RFC 7512) with module-path= and
pin-source=file:, or awskms://, azurekms://, gcpkms://, hashivault://. What is where,
step by step: docs/keys.md.`,
		Example: `  trialogd key --name log.example.org/trials/2027 'pkcs11:token=trialog;object=log-2027` +
			`?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source=file:/etc/trialog/pin' > log-ed25519.ref`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), openTimeout)
			defer cancel()
			return tryKey(ctx, args[0], name, witness, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	cmd.Flags().StringVar(&name, "name", "", "of a key that signs checkpoints: the shard's origin or the witness's name")
	cmd.Flags().BoolVar(&witness, "witness", false, "the key is a witness's, not a log's")
	return cmd
}

// tryKey opens a key, writes its reference file to out and remarks to notes.
func tryKey(ctx context.Context, ref, name string, witness bool, out, notes io.Writer) (err error) {
	if name == "" && witness {
		return errors.New("name: expected the witness's name")
	}
	var r signing.Reference
	var opened io.Closer
	switch {
	case name == "":
		var k signing.Key
		if k, err = signing.Open(ctx, ref); err != nil {
			return err
		}
		opened = k
		r, err = signing.NewReference(ref, k.Public())
	default:
		var k *checkpoint.SigningKey
		if witness {
			k, opened, err = signing.OpenCosignerKey(ctx, ref, name)
		} else {
			k, opened, err = signing.OpenNoteKey(ctx, ref, name, checkpoint.AlgEd25519)
		}
		if err != nil {
			return err
		}
		r, err = signing.NewNoteReference(ref, k.Verifier())
	}
	err = errors.Join(err, opened.Close())
	if err != nil {
		return err
	}
	if k, ok := opened.(signing.Key); ok {
		for _, remark := range signing.Remarks(k) {
			fmt.Fprintf(notes, "note: %s\n", remark)
		}
	}
	_, err = out.Write(r.Format())
	return err
}
