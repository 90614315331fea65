package command

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/trialog/trialog/api/evidence"
	"github.com/trialog/trialog/services/config"
	"github.com/trialog/trialog/services/internal/durable"
	"github.com/trialog/trialog/services/internal/socket"
	"github.com/trialog/trialog/services/witness"
)

// inspected is a witness that can be asked how it stands: the running process, or
// its state file when none runs.
type inspected struct {
	client *http.Client // nil without a process
	file   *witness.File
}

// inspect finds out which of the two there is.
func inspect(ctx context.Context, c *config.Witness) (*inspected, error) {
	path := socketOf(c)
	conn, err := socket.Dial(ctx, path)
	if err == nil {
		return &inspected{client: &http.Client{Transport: &http.Transport{
			DisableKeepAlives: true,
			DialContext:       func(ctx context.Context, _, _ string) (net.Conn, error) { return socket.Dial(ctx, path) },
		}}}, conn.Close()
	}
	if !errors.Is(err, socket.ErrNobody) {
		return nil, fmt.Errorf("ask the witness: %w", err)
	}
	// Opening it would make one.
	if _, err := os.Stat(c.StateFile); err != nil {
		return nil, err
	}
	f, err := witness.OpenFile(c.StateFile)
	if err != nil {
		return nil, err
	}
	return &inspected{file: f}, nil
}

func (i *inspected) close() error {
	if i.file == nil {
		return nil
	}
	return i.file.Close()
}

func (i *inspected) report(ctx context.Context) (*witness.Report, error) {
	if i.file != nil {
		return i.file.Report()
	}
	var r witness.Report
	return &r, i.get(ctx, witness.InspectStatus, &r)
}

func (i *inspected) journal(ctx context.Context, origin string) (*witness.Journal, error) {
	if i.file != nil {
		return i.file.Journal(origin)
	}
	var j witness.Journal
	return &j, i.get(ctx, witness.InspectJournal+"?origin="+url.QueryEscape(origin), &j)
}

func (i *inspected) get(ctx context.Context, path string, v any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://witness"+path, http.NoBody)
	if err != nil {
		return err
	}
	resp, err := i.client.Do(req)
	if err != nil {
		return fmt.Errorf("ask the witness: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("the witness answered with %s; its log says why", resp.Status)
	}
	if err := json.NewDecoder(resp.Body).Decode(v); err != nil {
		return fmt.Errorf("read the witness's answer: %w", err)
	}
	return nil
}

func newStatus(name string, path *string) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Print how a witness stands with each log",
		Long: `Print how a witness stands with each log: the size and the time of its newest
cosignature, and whether it cosigns. The running process is asked; if there is
none, the state file says what it holds.`,
		Example: "  " + name + ` status --config witness/witness.json`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := readConfig(*path)
			if err != nil {
				return err
			}
			i, err := inspect(cmd.Context(), c)
			if err != nil {
				return err
			}
			report, err := i.report(cmd.Context())
			if err := errors.Join(err, i.close()); err != nil {
				return err
			}
			return printReport(cmd, report, asJSON)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func printReport(cmd *cobra.Command, r *witness.Report, asJSON bool) error {
	if asJSON {
		raw, err := json.MarshalIndent(r, "", "  ")
		cmd.Printf("%s\n", raw)
		return err
	}
	if !r.Running {
		cmd.Println("No witness is running; this is what its state file holds.")
	}
	out := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
	fmt.Fprintln(out, "LOG\tSTATE\tSIZE\tLAST COSIGNED (UTC)\tEVIDENCE")
	for _, l := range r.Logs {
		at := "-"
		if l.Time > 0 {
			at = time.Unix(int64(l.Time), 0).UTC().Format(time.DateTime)
		}
		state := cmp.Or(l.State, "-")
		if l.Reason != "" {
			state += ": " + l.Reason
		}
		fmt.Fprintf(out, "%s\t%s\t%d\t%s\t%d\n", l.Origin, state, l.Size, at, l.Evidence)
	}
	for i, l := range r.Lists {
		if i == 0 {
			fmt.Fprintln(out, "\nLIST OF\tVERSION\tTAKEN (UTC)\tREFUSED\tFROM")
		}
		fmt.Fprintf(out, "%s\t%d\t%s\t%d\t%s\n", l.Log, l.Version, time.Unix(l.Taken, 0).UTC().Format(time.DateTime), l.Disputed, l.From)
	}
	return out.Flush()
}

func newEvidence(name string, path *string) *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "evidence",
		Short: "Write what a witness keeps about misbehaving logs as evidence files",
		Long: `Write what a witness keeps about misbehaving logs as evidence files. Whoever has
the log's policy can check them offline with "trialog evidence verify"; they hold
signed checkpoints, and nothing else about anybody.`,
		Example: "  " + name + ` evidence --config witness/witness.json --out evidence`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := readConfig(*path)
			if err != nil {
				return err
			}
			i, err := inspect(cmd.Context(), c)
			if err != nil {
				return err
			}
			written, err := writeEvidence(cmd.Context(), i, c.Name, dir)
			if err := errors.Join(err, i.close()); err != nil {
				return err
			}
			for _, file := range written {
				cmd.Println(file)
			}
			if len(written) == 0 {
				cmd.Println("The witness keeps no evidence that is not there already.")
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&dir, "out", "evidence", "folder to write to; files that are there stay as they are")
	return cmd
}

// writeEvidence writes the journal of every log, a file each, named by its
// content: what is there already is not written again.
func writeEvidence(ctx context.Context, i *inspected, by, dir string) (written []string, err error) {
	report, err := i.report(ctx)
	if err != nil {
		return nil, err
	}
	names := map[string]bool{}
	for _, l := range report.Logs {
		if l.Evidence > 0 {
			names[l.Origin] = true
		}
	}
	for _, l := range report.Lists {
		if l.Disputed > 0 {
			names[l.Log] = true
		}
	}
	for name := range names {
		journal, err := i.journal(ctx, name)
		if err != nil {
			return written, err
		}
		all, err := journal.Portable(by)
		if err != nil {
			return written, err
		}
		for _, e := range all {
			raw, err := e.Encode()
			if err != nil {
				return written, fmt.Errorf("writing evidence about %s: %w", name, err)
			}
			sum := sha256.Sum256(raw)
			path := filepath.Join(dir, fmt.Sprintf("%s-%s%s", e.Kind, hex.EncodeToString(sum[:8]), evidence.Ending))
			if _, err := os.Lstat(path); err == nil {
				continue
			}
			if err := durable.WriteNew(path, raw, 0o644); err != nil {
				return written, err
			}
			written = append(written, path)
		}
	}
	return written, nil
}
