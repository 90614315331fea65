package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/trialog/trialog/api/client"
	"github.com/trialog/trialog/api/statement"
)

func (p *program) newTimestampEnrol() *cobra.Command {
	var path, recovery string
	cmd := &cobra.Command{
		Use:   "enrol",
		Short: "Enrol the key that signs batches of token records",
		Long: `Enrol the key that signs batches of token records in the log, as one of the
operator's. It takes the operator's recovery key, which is used once and not
kept. A key that is enrolled already is left as it is.`,
		Example: `  trialogd timestamp enrol --config tsa/timestamp.json --recovery-key data/keys/operator-recovery.pem`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return p.enrolTimestamp(cmd.Context(), cmd, path, recovery)
		},
	}
	cmd.Flags().StringVar(&path, "config", timestampConfig, "configuration file of the authority")
	cmd.Flags().StringVar(&recovery, "recovery-key", "", "recovery key of the operator's organisation")
	if err := cmd.MarkFlagRequired("recovery-key"); err != nil {
		panic(err) //nolint:forbidigo // the flag is defined above
	}
	return cmd
}

// enrolTimestamp enrols the key of an authority's configuration. An enrolment
// whose outcome is not known is found by the next call.
func (p *program) enrolTimestamp(ctx context.Context, cmd *cobra.Command, path, recoveryRef string) error {
	c, err := readTimestamp(path)
	if err != nil {
		return err
	}
	if c.Log == nil {
		return errors.New("this authority logs its tokens nowhere")
	}
	logs, err := p.openLog(ctx, c.Log)
	if err != nil {
		return err
	}
	defer logs.close()
	chain, err := logs.client.Chain(ctx, logs.key.ID(), "")
	if err != nil {
		return err
	}
	switch chain.Organisation {
	case c.Log.Organisation:
		cmd.Printf("The key is enrolled already.\n")
		return nil
	case "":
	default:
		return fmt.Errorf("the key is enrolled for another organisation, %q", chain.Organisation)
	}
	signer, err := openKey(ctx, recoveryRef)
	if err != nil {
		return err
	}
	defer func() { _ = signer.Close() }()
	recovery, err := statement.NewPrivateKey(signer)
	if err != nil {
		return err
	}
	envelope, beacon, err := p.recordsKeyEnrolment(ctx, logs, c.Log.Organisation, chain, recovery)
	if err != nil {
		return err
	}
	ack, err := logs.client.Submit(ctx, envelope, beacon, client.Final)
	if err != nil {
		return fmt.Errorf("enrol the key that signs batches: %w", err)
	}
	cmd.Printf("Enrolled the key that signs batches of token records: entry %d.\n", ack.Index)
	return nil
}

// recordsKeyEnrolment is the statement that makes the key one of the operator's.
func (p *program) recordsKeyEnrolment(
	ctx context.Context, logs *logAccess, organisation string, chain *client.Chain, recovery *statement.PrivateKey,
) (envelope, note []byte, err error) {
	beacon, note, err := logs.client.Beacon(ctx)
	if err != nil {
		return nil, nil, err
	}
	at := statement.Date(p.now().UTC().Format("2006-01-02T15:04:05Z"))
	payload, err := statement.Build(&statement.Statement{
		Log: logs.name, Organisation: organisation, Kind: statement.KindKey,
		Signers: []statement.Signer{
			{Key: logs.key.ID(), Meaning: statement.Authorship, At: at}, {Key: recovery.ID(), Meaning: statement.Approval, At: at},
		},
		Chain: chain.Next(), Beacon: beacon, Subject: statement.SubjectKey, Digest: logs.key.ID(),
		Attributes: []statement.Member{
			statement.TextMember("action", "enrol"),
			statement.KeyMember("publicKey", logs.key.Public()),
			statement.ListMember("roles", string(statement.Operator)),
		},
	})
	if err != nil {
		return nil, nil, err
	}
	env, err := statement.Sign(payload, logs.key, recovery)
	if err != nil {
		return nil, nil, err
	}
	return env.Bytes(), note, nil
}
