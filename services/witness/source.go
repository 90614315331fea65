package witness

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/services/internal/blob"
	"github.com/trialog/trialog/services/internal/tile"
	"github.com/trialog/trialog/services/internal/tilehttp"
)

// source is a place that may show a checkpoint of one log: the log itself, a
// mirror, or another witness's read interface. It is trusted for nothing: what it
// shows counts by the signatures on it.
type source struct {
	*tilehttp.Source

	// tiles tells that it serves tiles too.
	tiles bool
}

// sourcesOf returns the sources of a log.
func (w *Witness) sourcesOf(l Log) ([]source, error) {
	var out []source
	add := func(url string, tiles bool) error {
		s, err := tilehttp.New(tilehttp.Config{
			URL: url, Transport: w.web, Timeout: askTimeout, Attempts: 1, UserAgent: "trialog-witness",
		})
		if err != nil {
			return err
		}
		out = append(out, source{s, tiles})
		return nil
	}
	if l.URL != "" {
		if err := add(l.URL, true); err != nil {
			return nil, fmt.Errorf("url: %w", err)
		}
	}
	for i, u := range l.Mirrors {
		if err := add(u, true); err != nil {
			return nil, fmt.Errorf("mirrors[%d]: %w", i, err)
		}
	}
	for i, u := range w.peers {
		// SPEC (tlog-witness): "<monitoring prefix>/<origin hash>/checkpoint".
		if err := add(strings.TrimSuffix(u, "/")+"/"+originHash(l.Origin), false); err != nil {
			return nil, fmt.Errorf("peers[%d]: %w", i, err)
		}
	}
	return out, nil
}

// shown is a checkpoint of the log that a source showed, signed by the log.
type shown struct {
	checkpoint.Checkpoint

	note    *checkpoint.Note
	logSigs []checkpoint.Signature
	// own are the witness's own cosignatures, the newest of each key, and time is
	// that of the newest; none if the witness was not shown to have signed it.
	own  []checkpoint.Signature
	time uint64
}

// ask returns what a source shows, or blob.ErrNotFound, which is an answer too.
// Other errors are no answer.
func (w *Witness) ask(ctx context.Context, f *followed, s source) (*shown, error) {
	raw, err := s.Get(ctx, "checkpoint")
	if err != nil {
		return nil, err
	}
	note, err := checkpoint.Parse(raw)
	if err != nil {
		return nil, fmt.Errorf("read from %s: %w", s, err)
	}
	if got := note.Checkpoint().Origin; got != f.origin {
		return nil, fmt.Errorf("read from %s: expected a checkpoint of %q, got one of %q", s, f.origin, got)
	}
	logSigs, err := f.trusted(note)
	if err != nil {
		return nil, fmt.Errorf("read from %s: %w", s, err)
	}
	if err := note.Checkpoint().CheckRoot(); err != nil {
		return nil, fmt.Errorf("read from %s: %w", s, err)
	}
	out := &shown{Checkpoint: note.Checkpoint(), note: note, logSigs: logSigs}
	for _, k := range w.keys {
		best := uint64(0)
		var newest []checkpoint.Signature
		for _, sig := range note.Signatures() {
			// A line in our name that does not verify is the source's doing.
			if at, err := k.Verifier().VerifyCheckpoint(note, sig); err == nil && (newest == nil || at > best) {
				newest, best = []checkpoint.Signature{sig}, at
			}
		}
		out.own, out.time = append(out.own, newest...), max(out.time, best)
	}
	return out, nil
}

// askAll asks all sources of a log at once, and returns what those that answered
// show, in the sources' order. The error says why others did not answer.
func (w *Witness) askAll(ctx context.Context, f *followed, sources []source) (found []*shown, answers int, err error) {
	all, errs := make([]*shown, len(sources)), make([]error, len(sources))
	var work sync.WaitGroup
	for i, s := range sources {
		work.Go(func() { all[i], errs[i] = w.ask(ctx, f, s) })
	}
	work.Wait()
	for i := range sources {
		switch {
		case errors.Is(errs[i], blob.ErrNotFound):
			answers++
			errs[i] = nil
		case errs[i] == nil:
			answers++
			found = append(found, all[i])
		}
	}
	return found, answers, errors.Join(errs...)
}

// errNoTiles: no source of the log serves tiles.
var errNoTiles = errors.New("none of the log's sources serves tiles")

const (
	// treeCache is how many tiles a look keeps: those on two edges.
	treeCache = 16
	// treeTimeout is how long one source may take to show them. A source that is
	// slow on purpose must leave time for the next one.
	treeTimeout = 3 * askTimeout
)

// growth is how a larger tree grew out of a smaller one.
type growth struct {
	root  checkpoint.Hash // that the larger tree had at the smaller size
	proof [][32]byte      // from that root to the larger tree's
}

// growthOf reads how the tree of a checkpoint grew from a size, which is not 0,
// from the first source whose tiles say so. They are checked against the root.
func (w *Witness) growthOf(ctx context.Context, sources []source, from uint64, c checkpoint.Checkpoint) (*growth, error) {
	err := errNoTiles
	for _, s := range sources {
		if !s.tiles {
			continue
		}
		g, e := s.growthOf(ctx, from, c)
		if e == nil {
			return g, nil
		}
		if errors.Is(err, errNoTiles) {
			err = nil
		}
		err = errors.Join(err, fmt.Errorf("tiles of %s at size %d: %w", s, c.Size, e))
	}
	return nil, err
}

func (s source) growthOf(ctx context.Context, from uint64, c checkpoint.Checkpoint) (*growth, error) {
	ctx, cancel := context.WithTimeout(ctx, treeTimeout)
	defer cancel()
	tree, err := tile.NewReader(s.At(c.Size), tile.WithCache(treeCache)).Tree(ctx, c.Size, c.Root)
	if err != nil {
		return nil, err
	}
	root, err := tree.RootAt(ctx, from)
	if err != nil {
		return nil, err
	}
	proof, err := tree.Consistency(ctx, from, c.Size)
	if err != nil {
		return nil, err
	}
	return &growth{root, proof}, nil
}
