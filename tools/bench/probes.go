package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/trialog/trialog/tools/bench/score"
)

// probes are everything that is measured, in the order of a round.
func probes() []probe {
	return []probe{
		{"add", 1, raw("trialog-bench", "add")},
		{"tessera", 1, raw("tessera")},
		{"stream", 1, raw("trialog-bench", "stream")},
		{"tessera_dedupe", 1, raw("tessera", "-dedupe")},
		{"fdatasync", 2, limit("fdatasync")},
		{"sha256", 2, limit("sha256")},
		{"ed25519", 3, limit("ed25519")},
		{"signed", 3, signed},
		{"queueleaf", 4, queueLeaf},
		{"signed_postgres", 4, signedPostgres},
		{"proof", 5, proof},
		{"grpc", 5, limit("grpc")},
		{"trillian_proof", 5, trillianProof},
		{"latency", 6, latency},
		{"latency_down", 6, latencyDown},
		{"verify", 7, verify},
	}
}

type probeFunc = func(ctx context.Context, s *session) (*measured, error)

// inFolder gives work a new folder, which is removed afterwards.
func inFolder(s *session, work func(dir string) (*measured, error)) (_ *measured, err error) {
	dir, err := s.folder()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }() //nolint:gosec // a folder of our own
	return work(dir)
}

// raw measures a program that fills a log in a new folder.
func raw(program string, args ...string) probeFunc {
	return func(ctx context.Context, s *session) (*measured, error) {
		return inFolder(s, func(dir string) (*measured, error) {
			all := slices.Concat(args, []string{"--dir", filepath.Join(dir, "log")}, s.time(2*time.Second, 6*time.Second))
			return s.child(ctx, program, all...)
		})
	}
}

func limit(what string) probeFunc {
	return func(ctx context.Context, s *session) (*measured, error) {
		return s.child(ctx, "trialog-bench", append(s.time(500*time.Millisecond, 2*time.Second), "limit", what, "--dir", s.dir)...)
	}
}

// queueLeaf measures stock Trillian on a new database.
func queueLeaf(ctx context.Context, s *session) (*measured, error) {
	db, err := s.postgres(ctx)
	if err != nil {
		return nil, err
	}
	name := fmt.Sprintf("queue_%d", s.number())
	m, err := s.child(ctx, "trillian", slices.Concat([]string{
		"-server", db.uri("postgres"), "-schema", s.schema, "-database", name, "-mode", "queue", "-clients", "64",
	}, s.time(2*time.Second, 6*time.Second))...)
	return m, errors.Join(err, db.drop(ctx, name))
}

// trillianProof measures Trillian's proofs; its tree is filled in the first round
// and kept.
func trillianProof(ctx context.Context, s *session) (*measured, error) {
	db, err := s.postgres(ctx)
	if err != nil {
		return nil, err
	}
	return s.child(ctx, "trillian", slices.Concat([]string{
		"-server", db.uri("postgres"), "-schema", s.schema, "-database", "proof", "-mode", "proof", "-clients", "64",
		"-leaves", strconv.Itoa(s.scale(proofLeaves, 2_000)),
	}, s.time(1*time.Second, 5*time.Second))...)
}

// proofLeaves is the size of the trees in which inclusion is proven.
const proofLeaves = 100_000

func proof(ctx context.Context, s *session) (*measured, error) {
	return inFolder(s, func(dir string) (*measured, error) {
		return s.child(ctx, "trialog-bench", slices.Concat([]string{
			"proof", "--dir", dir, "--clients", "64", "--leaves", strconv.Itoa(s.scale(proofLeaves, 2_000)),
		}, s.time(1*time.Second, 5*time.Second))...)
	})
}

// verify runs the benchmark that stands beside the verifier.
func verify(ctx context.Context, s *session) (*measured, error) {
	out, err := s.output(ctx, filepath.Join(s.bin, "verify.test"), "-test.run", "^$", "-test.bench", "^BenchmarkVerify$",
		"-test.benchtime", fmt.Sprintf("%dx", s.scale(500, 5)))
	if err != nil {
		return nil, err
	}
	return parseBenchmark(out)
}

// parseBenchmark reads lines such as "BenchmarkVerify/small/floor-2  500  812345
// ns/op" and names them small_floor_us.
func parseBenchmark(out []byte) (*measured, error) {
	m := &measured{Figures: score.Figures{}, Notes: []string{"the benchmark of api/verify, on one core"}}
	for lines := bufio.NewScanner(bytes.NewReader(out)); lines.Scan(); {
		words := strings.Fields(lines.Text())
		at := slices.Index(words, "ns/op")
		if at < 2 {
			continue
		}
		path := strings.Split(words[0], "/")
		if len(path) != 3 {
			continue
		}
		ns, err := strconv.ParseFloat(words[at-1], 64)
		if err != nil {
			return nil, fmt.Errorf("benchmark line %q: %w", lines.Text(), err)
		}
		what, _, _ := strings.Cut(path[2], "-")
		switch what {
		case "verify":
			m.Figures[path[1]+"_us"] = ns / 1000
		case "floor":
			m.Figures[path[1]+"_floor_us"] = ns / 1000
		}
	}
	for _, c := range verifyCases() {
		for _, suffix := range []string{"_us", "_floor_us"} {
			if m.Figures[c+suffix] == 0 {
				return nil, fmt.Errorf("the benchmark of api/verify has not measured %s%s", c, suffix)
			}
		}
	}
	return m, nil
}
