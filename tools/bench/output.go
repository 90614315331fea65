package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/trialog/trialog/tools/bench/calm"
	"github.com/trialog/trialog/tools/bench/score"
)

// document is bench.json.
type document struct {
	Rows    []score.Result `json:"rows"`
	Limits  []limitResult  `json:"limits"`
	Machine machine        `json:"machine"`
	Short   bool           `json:"short"`
	Count   int            `json:"rounds"`
	// Probes are the figures behind the rows: every one of every round.
	Probes []score.Round           `json:"probes"`
	Notes  map[string][]string     `json:"notes"`
	Watch  map[string][]calm.Watch `json:"watch"`
}

// machineLimit is what the machine can do at most in one respect.
type machineLimit struct {
	probe, figure, what string
}

func limits() []machineLimit {
	return []machineLimit{
		{"fdatasync", "per_second", "4 KiB pwrite and fdatasync, one at a time"},
		{"sha256", "per_second", "SHA-256 of 301 bytes, all cores"},
		{"ed25519", "per_second", "Ed25519 verifications, all cores"},
		{"ed25519", "per_core_second", "Ed25519 verifications in a second of one core's time"},
		{"grpc", "per_second", "unary gRPC calls that carry nothing, 64 clients, TCP"},
	}
}

// limitResult is a limit of the machine, as it was measured.
type limitResult struct {
	ID        string  `json:"id"`
	What      string  `json:"what"`
	PerSecond float64 `json:"per_second"`
}

// measuredLimits are the medians of those limits that were measured.
func measuredLimits(rounds []score.Round) []limitResult {
	var list []limitResult
	for _, l := range limits() {
		if v := score.Of(l.probe, l.figure).Median(rounds); v != nil {
			list = append(list, limitResult{ID: l.probe, What: l.what, PerSecond: *v})
		}
	}
	return list
}

// write puts the results into files and prints the table.
func (s *session) write(results []score.Result, rounds []score.Round, grown *growth) error {
	d := document{
		Rows: results, Limits: measuredLimits(rounds), Machine: s.machine, Short: s.o.short, Count: s.o.rounds,
		Probes: rounds, Notes: s.notes, Watch: s.seen,
	}
	if err := os.MkdirAll(s.o.out, 0o755); err != nil { //nolint:gosec // the folder that was asked for
		return err
	}
	if err := writeJSON(filepath.Join(s.o.out, "bench.json"), d); err != nil {
		return err
	}
	text, err := s.text(results, rounds, grown, score.Aligned, "")
	if err != nil {
		return err
	}
	page, err := s.text(results, rounds, grown, score.Markdown, "- ")
	if err != nil {
		return err
	}
	if grown != nil {
		err = writeJSON(filepath.Join(s.o.out, "growth.json"), grown)
	}
	err = errors.Join(err, os.WriteFile(filepath.Join(s.o.out, "bench.md"), page, 0o644)) //nolint:gosec // as above
	_, failed := os.Stdout.Write(text)
	return errors.Join(err, failed)
}

func writeJSON(path string, v any) error {
	raw, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(raw, '\n'), 0o644) //nolint:gosec // in the folder that was asked for
}

// text writes what a person reads.
func (s *session) text(results []score.Result, rounds []score.Round, grown *growth, table tabler, item string) ([]byte, error) {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s; %d rounds, medians; ratios are medians of the rounds' ratios\n\n", s.machine, s.o.rounds)
	if s.o.short {
		fmt.Fprint(&b, "A short run: it shows that everything works. Its figures mean nothing.\n\n")
	}
	if err := table(&b, score.Cells(results)); err != nil {
		return nil, err
	}
	fmt.Fprintln(&b)
	for _, line := range score.Remarks(results) {
		fmt.Fprintln(&b, item+line)
	}
	for i := range results {
		if r := &results[i]; r.PeerName != "" || r.LimitIs != "" {
			fmt.Fprintf(&b, "%s%s: %s", item, r.ID, r.What)
			if r.PeerName != "" {
				fmt.Fprintf(&b, "; peer: %s", r.PeerName)
			}
			if r.LimitIs != "" {
				fmt.Fprintf(&b, "; limit: %s", r.LimitIs)
			}
			fmt.Fprintln(&b)
		}
	}
	cells := [][]string{{"limit of the machine", "a second"}}
	for _, l := range measuredLimits(rounds) {
		cells = append(cells, []string{l.What, score.Number(&l.PerSecond)})
	}
	fmt.Fprintln(&b)
	if err := table(&b, cells); err != nil {
		return nil, err
	}
	if grown != nil {
		fmt.Fprintln(&b)
		if err := table(&b, grown.cells()); err != nil {
			return nil, err
		}
	}
	return b.Bytes(), nil
}
