package main

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/entry"
	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/tools/trialog/words"
)

func (p *program) logCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "log",
		Short: "Look at the log: its tree, its checkpoint, an entry",
		Long: `Look at the log. Whatever is shown was verified by the pinned policy: a
checkpoint by the log's and the witnesses' signatures, an entry by its inclusion.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	for _, sub := range []struct {
		use, short, example string
		args                cobra.PositionalArgs
		run                 func(context.Context, []string, string) error
	}{
		{"tree", "Say how long the log is and which witnesses saw it when", "  trialog log tree", cobra.NoArgs, p.logTree},
		{"checkpoint", "Print the newest checkpoint as witnesses signed it", "  trialog log checkpoint", cobra.NoArgs, p.logCheckpoint},
		{"entry N", "Show what entry N says", "  trialog log entry 7\n  trialog log entry 7 -o json", cobra.ExactArgs(1), p.logEntry},
	} {
		var output string
		c := &cobra.Command{
			Use: sub.use, Short: sub.short, Example: sub.example, Args: sub.args,
			RunE: func(cmd *cobra.Command, args []string) error {
				if err := checkOutput(output); err != nil {
					return err
				}
				return sub.run(cmd.Context(), args, output)
			},
		}
		outputFlag(c, &output)
		cmd.AddCommand(c)
	}
	return cmd
}

// treeJSON is a verified checkpoint.
type treeJSON struct {
	Origin    string        `json:"origin"`
	Size      uint64        `json:"size"`
	Root      string        `json:"root"` // hexadecimal
	Witnesses []witnessJSON `json:"witnesses"`
	Note      string        `json:"note,omitempty"`
}

type witnessJSON struct {
	Name string    `json:"name"`
	Time time.Time `json:"time"`
}

func newTree(c *checkpoint.Cosigned) treeJSON {
	t := treeJSON{Origin: c.Origin, Size: c.Size, Root: hex.EncodeToString(c.Root[:]), Witnesses: []witnessJSON{}}
	for _, w := range c.Witnesses {
		t.Witnesses = append(t.Witnesses, witnessJSON{w.Witness, time.Unix(int64(w.Time), 0).UTC()})
	}
	return t
}

func (p *program) checkpoint(ctx context.Context) (*checkpoint.Cosigned, *checkpoint.Note, error) {
	f, err := p.folder()
	if err != nil {
		return nil, nil, err
	}
	c, _, err := p.client(f)
	if err != nil {
		return nil, nil, err
	}
	return c.Checkpoint(ctx)
}

func (p *program) logTree(ctx context.Context, _ []string, output string) error {
	c, _, err := p.checkpoint(ctx)
	if err != nil {
		return err
	}
	t := newTree(c)
	if output == "json" {
		return p.json(t)
	}
	p.printf("%s: %d entries\n", t.Origin, t.Size)
	for _, w := range t.Witnesses {
		p.printf("  seen by %s at %s\n", w.Name, words.Time(w.Time))
	}
	return nil
}

func (p *program) logCheckpoint(ctx context.Context, _ []string, output string) error {
	c, note, err := p.checkpoint(ctx)
	if err != nil {
		return err
	}
	if output == "json" {
		t := newTree(c)
		t.Note = string(note.Bytes())
		return p.json(t)
	}
	p.printf("%s", note.Bytes())
	return nil
}

// entryJSON is a verified entry.
type entryJSON struct {
	Index    uint64             `json:"index"`
	TreeSize uint64             `json:"treeSize"`
	LeafHash string             `json:"leafHash"`
	Received time.Time          `json:"claimedReceiveTime"`
	Identity statement.Identity `json:"identity"`
	Payload  json.RawMessage    `json:"statement"`
}

func (p *program) logEntry(ctx context.Context, args []string, output string) error {
	index, err := strconv.ParseUint(args[0], 10, 63)
	if err != nil {
		return fmt.Errorf("expected the number of an entry, from 0, found %q", args[0])
	}
	f, err := p.folder()
	if err != nil {
		return err
	}
	c, _, err := p.client(f)
	if err != nil {
		return err
	}
	got, err := c.Entry(ctx, index)
	if err != nil {
		return err
	}
	framed, err := entry.Parse(got.Raw)
	if err != nil {
		return fmt.Errorf("entry %d is in the log, but cannot be read: %w", index, err)
	}
	env, s, err := statement.Parse(framed.Envelope)
	if err != nil {
		return fmt.Errorf("entry %d is in the log, but its statement cannot be read: %w", index, err)
	}
	if output == "json" {
		leaf := entry.LeafHash(got.Raw)
		return p.json(entryJSON{
			Index: index, TreeSize: got.Under.Size, LeafHash: hex.EncodeToString(leaf[:]), Received: framed.Received,
			Identity: s.Identity(env.Payload), Payload: env.Payload,
		})
	}
	p.entry(index, got.Under.Size, framed.Received, s)
	return nil
}

// entry writes what an entry says, in plain words.
func (p *program) entry(index, size uint64, received time.Time, s *statement.Statement) {
	p.printf("entry %d of %d: %s\n", index, size, words.Said(s))
	p.printf("  received: %s by the log's own clock\n", words.Time(received))
	if s.HasDocument() {
		state := "public"
		if s.Subject == statement.SubjectCommit {
			state = "sealed"
		}
		p.printf("  document: %s, %s\n", s.MediaType, state)
	}
	for _, d := range s.Dates {
		p.printf("  stated date %s: %s\n", d.Name, d.Date)
	}
	for _, m := range s.Attributes {
		if text, ok := words.Attribute(m); ok {
			p.printf("  %s: %s\n", m.Name, text)
		}
	}
	if !s.Sealed.IsZero() {
		p.printf("  further details are sealed\n")
	}
	for _, signer := range s.Signers {
		p.printf("  signed for %s on %s\n", signer.Meaning, signer.At)
	}
	p.printf("  note: that it is in the log was verified; who may sign for the organisation is verified with a receipt\n")
}
