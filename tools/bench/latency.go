package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"syscall"

	"github.com/trialog/trialog/tools/bench/score"
)

// rate is the load under which latency is measured, in statements a second.
const rate = 500

func latency(ctx context.Context, s *session) (*measured, error) {
	return onLog(ctx, s, func(p *product) (*measured, error) { return p.paced(ctx) })
}

// latencyDown stops a witness without ending it: it takes connections and does
// not answer, which is worse than not being there.
func latencyDown(ctx context.Context, s *session) (*measured, error) {
	return onLog(ctx, s, func(p *product) (*measured, error) {
		ids, err := p.witnesses()
		if err != nil {
			return nil, err
		}
		if len(ids) != 3 {
			return nil, fmt.Errorf("expected 3 witnesses, found %d", len(ids))
		}
		if err := syscall.Kill(ids[0], syscall.SIGSTOP); err != nil {
			return nil, err
		}
		m, err := p.paced(ctx)
		return m, errors.Join(err, syscall.Kill(ids[0], syscall.SIGCONT))
	})
}

// paced has the hammer submit at a steady rate, whether or not earlier statements
// were answered. It verifies each answer, and looks each entry up afterwards.
func (p *product) paced(ctx context.Context) (*measured, error) {
	out, err := p.s.output(ctx, filepath.Join(p.s.bin, "hammer"),
		"--server", "http://"+p.http, "--grpc", p.grpc, "--policy", filepath.Join(p.data, "policy", "trialog.policy"),
		"--token-file", filepath.Join(p.data, "tokens", "enrol"), "--rate", fmt.Sprintf("%d/s", rate),
		"--duration", fmt.Sprintf("%ds", p.s.scale(14, 1)), "--presign", "--json")
	if err != nil {
		return nil, fmt.Errorf("%w; the log says: %s", err, p.s.without(tail(p.output.String())))
	}
	return parseHammer(out)
}

// parseHammer reads what the hammer prints. A statement that did not become FINAL
// makes the times those of the others only: then there is no figure.
func parseHammer(out []byte) (*measured, error) {
	var r struct {
		OK       bool               `json:"ok"`
		Reason   string             `json:"reason"`
		Seconds  float64            `json:"seconds"`
		Outcomes map[string]float64 `json:"outcomes"`
		Goodput  float64            `json:"goodput_per_second"`
		Accepted struct {
			Count float64 `json:"count"`
			P50   float64 `json:"p50"`
			P99   float64 `json:"p99"`
			Max   float64 `json:"max"`
		} `json:"latency_accepted_ms"`
	}
	if err := json.Unmarshal(out, &r); err != nil {
		return nil, fmt.Errorf("the hammer's output: %w", err)
	}
	if !r.OK {
		return nil, fmt.Errorf("the hammer says: %s", r.Reason)
	}
	if r.Accepted.Count == 0 || r.Accepted.Count != r.Outcomes["final"] {
		return nil, fmt.Errorf("%v statements were taken in, %v became final", r.Accepted.Count, r.Outcomes["final"])
	}
	m := &measured{
		Figures: score.Figures{
			"p50_ms": r.Accepted.P50, "p99_ms": r.Accepted.P99, "max_ms": r.Accepted.Max, "per_second": r.Goodput, "seconds": r.Seconds,
		},
		Notes: []string{fmt.Sprintf("open loop of %d statements a second, times from when each was due, every answer verified", rate)},
	}
	for name, n := range r.Outcomes {
		if name != "final" && n > 0 {
			m.Figures[name] = n
		}
	}
	return m, nil
}
