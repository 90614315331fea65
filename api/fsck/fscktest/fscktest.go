// Package fscktest makes logs as files, for the tests of programs that check
// them. Its hash tiles are computed by golang.org/x/mod/sumdb/tlog, which shares
// no code with package fsck.
package fscktest

import (
	"fmt"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/trialog/trialog/api/internal/testlog"
	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/api/tile"
)

// Said returns a world in whose first shard a sponsor enrolled a key, opened a
// trial and reported n milestones.
func Said(n int) *testlog.World {
	w := testlog.New()
	m := &testlog.Member{
		Org: "sponsor-a", Key: testlog.Ed25519Key("admin of sponsor-a"), Recovery: testlog.Ed25519Key("recovery of sponsor-a"),
		Roles: []statement.Role{statement.Admin, statement.Sponsor},
	}
	w.Enrol(m, nil)
	beacon := testlog.WithBeacon(w.Note(w.First, 1))
	trial := w.Say(statement.Statement{
		Kind: statement.KindTrial, Subject: statement.SubjectTrial,
		Digest: statement.TrialDigest(testlog.Log, m.Org, testlog.Trial),
	}, []*testlog.Member{m}, beacon)
	w.TrialID = trial.Statement.Identity(trial.Envelope.Payload)
	for range n {
		w.Say(statement.Statement{
			Kind: statement.KindMilestone, Attributes: []statement.Member{statement.TextMember("milestone", "first-site-open")},
		}, []*testlog.Member{m}, beacon)
	}
	return w
}

// Sample is a log with what judges it.
type Sample struct {
	// Origin names the shard.
	Origin string
	// Entries are its entries, all of them statements.
	Entries [][]byte
	// Policy and Sidecar are the two halves of the policy.
	Policy, Sidecar []byte

	world *testlog.World
}

// New returns a log of n+2 statements.
func New(n int) (s *Sample, err error) {
	err = testlog.Do(func() {
		w := Said(n)
		s = &Sample{
			Origin: w.First.Origin, Entries: w.First.Entries, Policy: w.PolicyText(), Sidecar: w.Sidecar().Encode(), world: w,
		}
	})
	return s, err
}

// Note returns the cosigned checkpoint at size.
func (s *Sample) Note(size uint64) (note []byte, err error) {
	err = testlog.Do(func() { note = s.world.Note(s.world.First, size).Bytes() })
	return note, err
}

// Files returns the objects of the log by their paths, with its checkpoint.
func (s *Sample) Files() (map[string][]byte, error) {
	files, err := Tree(s.Entries)
	if err != nil {
		return nil, err
	}
	files["checkpoint"], err = s.Note(uint64(len(s.Entries)))
	return files, err
}

// Tree returns the bundles and hash tiles over entries by their paths: the full
// ones, and of the growing ones those of this size.
func Tree(entries [][]byte) (map[string][]byte, error) {
	var hashes memory
	n := int64(len(entries))
	for i, e := range entries {
		more, err := tlog.StoredHashes(int64(i), e, hashes)
		if err != nil {
			return nil, fmt.Errorf("hash entry %d: %w", i, err)
		}
		hashes = append(hashes, more...)
	}
	files := map[string][]byte{}
	for _, at := range tlog.NewTiles(8, 0, n) {
		data, err := tlog.ReadTileData(at, hashes)
		if err != nil {
			return nil, fmt.Errorf("read tile %v: %w", at, err)
		}
		files[tile.Path{Level: at.L, Index: uint64(at.N), Width: at.W}.String()] = data //nolint:gosec // not negative
	}
	for from := 0; from < len(entries); from += tile.FullWidth {
		to := min(from+tile.FullWidth, len(entries))
		var data []byte
		for i, e := range entries[from:to] {
			var err error
			if data, err = tile.AppendEntry(data, e); err != nil {
				return nil, fmt.Errorf("entry %d: %w", from+i, err)
			}
		}
		files[tile.Path{Entries: true, Index: uint64(from / tile.FullWidth), Width: to - from}.String()] = data
	}
	return files, nil
}

type memory []tlog.Hash

// ReadHashes implements tlog.HashReader.
func (m memory) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	for i, at := range indexes {
		out[i] = m[at]
	}
	return out, nil
}
