package fsck

import (
	"context"
	"fmt"

	"github.com/trialog/trialog/api/statement"
)

// CheckShards checks the shards of one log, the oldest first, and the links
// between them: the last entry of each names the next one, whose first entry
// names it and the digest of its last cosigned checkpoint note. Keys, chains and
// identities go over from shard to shard. The reports are in the order of the
// shards; those of which nothing is known are missing if there is an error.
func CheckShards(ctx context.Context, shards ...Config) ([]*Report, error) {
	var reports []*Report
	var past *history
	for i, cfg := range shards {
		if past == nil {
			var log string
			if cfg.Policy != nil {
				log = cfg.Policy.Trust().Log
			}
			past = newHistory(log)
		}
		r, err := check(ctx, cfg, past)
		if r != nil {
			reports = append(reports, r)
		}
		if err != nil {
			return reports, fmt.Errorf("shard %d of %d: %w", i+1, len(shards), err)
		}
		if i > 0 {
			r.link(reports[i-1])
		}
	}
	return reports, nil
}

// link checks that r goes on where before ended.
func (r *Report) link(before *Report) {
	find := func(to *Report, entry *uint64, detail string) {
		f := Finding{Shard: to.Origin, Kind: KindShard, Entry: entry, Detail: detail}
		if entry != nil {
			f.Entries = 1
		}
		to.Findings = sorted(append(to.Findings, f))
	}
	if before.Complete && before.Size > 0 {
		last := before.last
		at := new(before.Size - 1)
		switch {
		case last == nil || last.stmt == nil:
			find(before, at, "its last entry is damaged, so that nothing says which shard follows")
		case last.stmt.Kind != statement.KindShardEnd:
			find(before, at, "its last entry is not the shard's end, but another shard follows")
		case last.stmt.TextAttribute("successor") != r.Origin:
			find(before, at, "its end names another successor than the shard that follows")
		}
	}
	if !r.Complete || r.Size == 0 {
		return
	}
	first := r.first
	at := new(uint64(0))
	switch {
	case first == nil || first.stmt == nil:
		find(r, at, "its first entry is damaged, so that nothing says which shard came before")
	case first.stmt.Kind != statement.KindShardStart:
		find(r, at, "its first entry is not a shard's start, but another shard came before")
	case first.stmt.TextAttribute("predecessor") != before.Origin:
		find(r, at, "its start names another predecessor than the shard before it")
	case first.stmt.TextAttribute("checkpoint") != before.NoteDigest:
		find(r, at, "its start does not name the last checkpoint of the shard before it")
	}
}
