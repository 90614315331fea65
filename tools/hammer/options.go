package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/trialog/trialog/api/client"
	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/api/verify"
)

// kind is what is sent.
type kind byte

const (
	valid     kind = iota // a new statement
	duplicate             // one that was acknowledged before, again
	invalid               // one that must be refused
	kinds
)

// String names the kind as --mix does.
func (k kind) String() string { return [...]string{"valid", "duplicate", "invalid"}[k] }

// options are the flags.
type options struct {
	server, grpc, policy, tokenFile, organisation string
	rate, readRate                                string
	duration, drain                               time.Duration
	mix, via, wait                                string
	workers, chains, window, readers              int
	full, presign, asJSON, journalSync            bool
	journal                                       string
}

// plan is what the flags mean.
type plan struct {
	options

	perSecond, readsPerSecond float64
	shares                    [kinds]int // of 100
	waitFor                   client.Wait
	believed                  *verify.Policy
	token                     string
}

// plan reads the flags. Its errors name the flag.
func (o options) plan(now time.Time) (*plan, error) {
	p := &plan{options: o}
	var err error
	if p.perSecond, err = parseRate(o.rate); err != nil {
		return nil, fmt.Errorf("--rate: %w", err)
	}
	if p.readsPerSecond, err = parseRate(o.readRate); err != nil {
		return nil, fmt.Errorf("--read-rate: %w", err)
	}
	if p.shares, err = parseMix(o.mix); err != nil {
		return nil, fmt.Errorf("--mix: %w", err)
	}
	switch o.wait {
	case "final":
	case "pending":
		p.waitFor = client.Pending
	default:
		return nil, fmt.Errorf("--wait: expected final or pending, found %q", o.wait)
	}
	if o.via != "stream" && o.via != "batch" && o.via != "unary" {
		return nil, fmt.Errorf("--via: expected stream, batch or unary, found %q", o.via)
	}
	if o.via == "stream" && o.grpc == "" {
		return nil, errors.New("--grpc: missing, expected the address of the log's gRPC interface, or --via batch or unary")
	}
	for _, n := range []struct {
		flag       string
		value, low int
	}{{"workers", o.workers, 1}, {"chains", o.chains, 0}, {"window", o.window, 1}, {"readers", o.readers, 0}} {
		if n.value < n.low || n.value > maxCount {
			return nil, fmt.Errorf("--%s: expected %d to %d, found %d", n.flag, n.low, maxCount, n.value)
		}
	}
	if o.duration <= 0 || o.drain < 0 {
		return nil, errors.New("--duration: expected a time above zero, such as 60s")
	}
	if p.organisation == "" {
		p.organisation = "hammer-" + strconv.FormatInt(now.UnixMilli(), 36)
	}
	if err := statement.CheckToken("--organisation", p.organisation); err != nil {
		return nil, err
	}
	if p.chains == 0 {
		p.chains = min(max(int(2*p.perSecond), 64), 8192)
	}
	if err := p.readFiles(); err != nil {
		return nil, err
	}
	return p, nil
}

// maxCount bounds each number of things.
const maxCount = 1 << 20

func (p *plan) readFiles() error {
	text, err := os.ReadFile(p.policy)
	if err != nil {
		return fmt.Errorf("--policy: %w", err)
	}
	sidecar, err := os.ReadFile(p.policy + ".json")
	if err != nil {
		return fmt.Errorf("--policy: its sidecar: %w", err)
	}
	policy, err := verify.ParsePolicy(text, sidecar)
	if err != nil {
		return fmt.Errorf("--policy: %w", err)
	}
	p.believed = policy.Remembering()
	if p.tokenFile == "" {
		return errors.New("--token-file: missing, expected a file with a token that may enrol an organisation")
	}
	raw, err := os.ReadFile(p.tokenFile)
	if err != nil {
		return fmt.Errorf("--token-file: %w", err)
	}
	p.token = strings.TrimSpace(string(raw))
	return nil
}

// parseRate reads "500/s", "30000/min", "3/h" or a bare number for a second.
func parseRate(text string) (float64, error) {
	number, unit, cut := strings.Cut(text, "/")
	if !cut {
		unit = "s"
	}
	per, ok := map[string]float64{"s": 1, "min": 60, "h": 3600}[unit]
	n, err := strconv.ParseUint(number, 10, 32)
	if err != nil || !ok || n == 0 || n > maxCount {
		return 0, fmt.Errorf("expected a number from 1 to %d and a unit, such as 500/s or 900/min, found %q", maxCount, text)
	}
	return float64(n) / per, nil
}

// parseMix reads shares of 100, such as "valid=90,duplicate=5,invalid=5".
func parseMix(text string) (shares [kinds]int, err error) {
	sum := 0
	seen := [kinds]bool{}
	for part := range strings.SplitSeq(text, ",") {
		name, number, ok := strings.Cut(part, "=")
		n, numberErr := strconv.ParseUint(number, 10, 7)
		k := kind(0)
		for k < kinds && k.String() != name {
			k++
		}
		if !ok || numberErr != nil || k == kinds || seen[k] {
			return shares, fmt.Errorf("expected shares such as valid=90,duplicate=5,invalid=5, found %q", part)
		}
		seen[k], shares[k] = true, int(n)
		sum += int(n)
	}
	if sum != 100 {
		return shares, fmt.Errorf("the shares make %d, expected 100", sum)
	}
	if shares[duplicate] > 0 && shares[valid] == 0 {
		return shares, errors.New("duplicates need valid statements to be duplicates of")
	}
	return shares, nil
}

// at returns the kind of the n-th statement: the shares hold in each hundred, and
// the kinds take turns rather than come in blocks.
func (p *plan) at(n int) kind {
	place := n * 37 % 100 // 37 and 100 have no common factor
	for k := range kinds {
		if place -= p.shares[k]; place < 0 {
			return k
		}
	}
	return valid
}
