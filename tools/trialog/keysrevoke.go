package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/trialog/trialog/api/client"
	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/tools/trialog/filing"
	"github.com/trialog/trialog/tools/trialog/folder"
	"github.com/trialog/trialog/tools/trialog/words"
)

type revokeOptions struct{ recovery, suspectFrom, suspectShard, reason string }

func (p *program) revokeCommand() *cobra.Command {
	var o revokeOptions
	cmd := &cobra.Command{
		Use:   "revoke KEY --recovery RECOVERY --suspect-from N",
		Short: "Say that a key was lost or stolen",
		Long: `Say that a key of your organisation was lost or stolen, signed by its recovery
key. KEY is the key's id, or a file with its public or private half. What it
signed before entry N stays good, what it signed from there on does not verify
any more for anybody who has a keyring that is new enough. The key signs
nothing more in the log.

N is the first entry that may not be yours: look at trialog log entry. Say 0 if
you do not know. Saying it again with another N replaces what was said.`,
		Example: `  trialog key revoke laptop.pem --recovery recovery.pem --suspect-from 1207 --reason "laptop lost"
  trialog key revoke 9f86d0… --recovery recovery.pem --suspect-from 0`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return p.revoke(cmd.Context(), args[0], o) },
	}
	f := cmd.Flags()
	f.StringVar(&o.recovery, "recovery", "", "your organisation's recovery key `file`, PEM (default: the one of the work folder)")
	f.StringVar(&o.suspectFrom, "suspect-from", "", "`number` of the first entry that is suspect")
	f.StringVar(&o.suspectShard, "suspect-shard", "", "`origin` of the part (shard) of the log that N counts in (default: the present one)")
	f.StringVar(&o.reason, "reason", "", "`text` for the public record; no names")
	return cmd
}

func (p *program) revoke(ctx context.Context, which string, o revokeOptions) error {
	from, err := strconv.ParseUint(o.suspectFrom, 10, 53)
	if err != nil {
		return errors.New("--suspect-from: expected the number of the first entry that is suspect")
	}
	id, err := keyID(which)
	if err != nil {
		return err
	}
	desk, err := p.desk()
	if err != nil {
		return err
	}
	if o.recovery == "" {
		o.recovery = desk.Folder.Path(folder.RecoveryFile)
	}
	if desk.Key, err = folder.ReadKey(o.recovery); err != nil {
		return fmt.Errorf("--recovery: %w", err)
	}
	if o.suspectShard == "" {
		about, err := desk.Client.Describe(ctx)
		if err != nil {
			return err
		}
		o.suspectShard = about.Origin
	}
	r := revocation(desk.Folder, id, from, o)
	res, err := desk.File(ctx, r, client.Final)
	if err != nil {
		return err
	}
	state := "revoked"
	if res.Already {
		state = "revoked already"
	}
	p.printf("key %s: %s by entry %d, suspect from entry %d of %s on, %s\n",
		id, state, res.Index, from, o.suspectShard, words.Seen(res.Verdict))
	return nil
}

// revocation is the statement that a key is suspect. Its files are named after what
// it says, so that repeating the command finds them.
func revocation(f *folder.Folder, id statement.KeyID, from uint64, o revokeOptions) *filing.Request {
	attributes := []statement.Member{
		statement.TextMember("action", "revoke"), statement.TextMember("revokes", id.String()),
		statement.TextMember("suspectOrigin", o.suspectShard), statement.CountMember("suspectFrom", from),
	}
	if o.reason != "" {
		attributes = append(attributes, statement.TextMember("reason", o.reason))
	}
	base := fmt.Sprintf("revoked-%s-from-%s-%d", id.String()[:16], o.suspectShard[strings.LastIndexByte(o.suspectShard, '/')+1:], from)
	return &filing.Request{
		Base: f.Path(base), Meaning: statement.Responsibility,
		Statement: statement.Statement{Organisation: f.Organisation, Kind: statement.KindKey, Attributes: attributes},
	}
}

// keyID reads a key's id, or that of the key in a file.
func keyID(which string) (statement.KeyID, error) {
	if id, err := statement.ParseDigest(which); err == nil {
		return id, nil
	}
	if !folder.Exists(which) {
		return statement.KeyID{}, fmt.Errorf("KEY: %q is neither a key's id nor a file", which)
	}
	if public, err := readPublic(which); err == nil {
		return public.ID(), nil
	}
	key, err := folder.ReadKey(which)
	if err != nil {
		return statement.KeyID{}, err
	}
	return key.ID(), nil
}
