package proofs

import (
	"context"
	"errors"
	"net/http"
	"strings"

	apitile "github.com/trialog/trialog/api/tile"
	"github.com/trialog/trialog/services/internal/tile"
)

func (p *Proofs) serve(rw http.ResponseWriter, r *http.Request) {
	a, bad := p.route(rw, r)
	// Everything here is public and the same for everybody, and a verifier may
	// be a page that was opened from a disk.
	rw.Header().Set("Access-Control-Allow-Origin", "*")
	if bad != nil {
		bad.problem().Write(rw)
		return
	}
	a.write(rw)
}

// route does not use http.ServeMux: that cleans paths and redirects, and here a
// path has one spelling. The escaped path is what the client wrote; no path of
// ours needs escaping, so one with a % in it is none of them.
func (p *Proofs) route(rw http.ResponseWriter, r *http.Request) (*answer, *fault) {
	path := r.URL.EscapedPath()
	if path == refreshPath {
		return p.serveRefresh(rw, r)
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return nil, refuse(http.StatusMethodNotAllowed, "method", "", "expected GET or HEAD")
	}
	if digest, ok := strings.CutPrefix(path, beaconPath); ok {
		return okNote(p.anyBeacon(r.Context(), digest))
	}
	s := p.active.Load()
	if rest, ok := strings.CutPrefix(path, "/shards/"); ok {
		name, rest, ok := strings.Cut(rest, "/")
		if s = p.named(name); s == nil || !ok {
			return nil, refuse(http.StatusNotFound, "no-such-shard", "path", "expected /shards/<name>/… with the last element of a shard's origin")
		}
		path = "/" + rest
	}
	return p.routeShard(r.Context(), s, path, r.URL.RawQuery)
}

const beaconPath = "/v1/beacons/"

// routeShard answers what every shard is asked.
func (p *Proofs) routeShard(ctx context.Context, s *shard, path, query string) (*answer, *fault) {
	switch path {
	case "/checkpoint":
		return s.serveCheckpoint(ctx)
	case "/v1/proofs/inclusion":
		return s.serveInclusion(ctx, query)
	case "/v1/proofs/consistency":
		return s.serveConsistency(ctx, query)
	}
	if strings.HasPrefix(path, "/tile/") {
		return p.serveTile(ctx, s, path[1:])
	}
	if index, ok := strings.CutPrefix(path, "/v1/entries/"); ok {
		return p.serveEntry(ctx, s, index)
	}
	if digest, ok := strings.CutPrefix(path, beaconPath); ok {
		return okNote(s.beacon(ctx, digest))
	}
	return nil, refuse(http.StatusNotFound, "no-such-path", "path",
		"expected /checkpoint, /tile/…, /v1/proofs/inclusion, /v1/proofs/consistency, /v1/entries/…, /v1/beacons/…, "+
			"/v1/receipts:refresh or /shards/…")
}

// serveCheckpoint answers with the published note, verbatim.
//
// SPEC (C2SP tlog-tiles, "Checkpoints"): "MUST be served as a checkpoint at
// <prefix>/checkpoint with Content-Type: text/plain; charset=utf-8. This endpoint
// is mutable, so its headers SHOULD prevent caching beyond a few seconds."
func (s *shard) serveCheckpoint(ctx context.Context) (*answer, *fault) {
	// Never one that is held: who asks for this wants to see what is published.
	latest, err := s.latest(ctx)
	if err != nil {
		return nil, unavailable(err) // latest has reported it
	}
	return &answer{contentType: typeText, cache: cacheAsk, body: latest.raw}, nil
}

// serveTile answers with a hash tile or an entry bundle.
//
// SPEC (C2SP tlog-tiles): "Logs MUST serve partial tiles corresponding to tree
// sizes for which a checkpoint was produced", and none beyond the published one is
// served here; "Empty tiles MUST NOT be served"; "This endpoint is immutable, so
// its caching headers SHOULD be long-lived", also for a partial tile, whose width
// is a part of its path.
func (p *Proofs) serveTile(ctx context.Context, s *shard, name string) (*answer, *fault) {
	path, err := apitile.ParsePath(name)
	if err != nil {
		return nil, refuse(http.StatusBadRequest, "path", "path",
			"expected tile/<level>/<index> or tile/entries/<index>, perhaps with .p/<width>, in the spelling of C2SP tlog-tiles")
	}
	at, err := s.covering(ctx, func(t *tile.Tree) bool { return t.Has(path) })
	if err != nil {
		return nil, unavailable(err)
	}
	var body []byte
	if path.Entries {
		err = p.withBundle(ctx, func() (err error) {
			body, err = at.tree.BundleBytes(ctx, path)
			return err
		})
	} else {
		body, err = at.tree.TileBytes(ctx, path)
	}
	if errors.Is(err, tile.ErrRange) {
		return nil, refuse(http.StatusNotFound, "not-published", "path", "expected a tile of the published tree of size %d", at.tree.Size())
	}
	if err != nil {
		return nil, s.fail(ctx, err)
	}
	return &answer{contentType: typeBytes, cache: cacheForEver, body: body}, nil
}

// okNote answers with a note that does not change.
func okNote(note []byte, bad *fault) (*answer, *fault) {
	if bad != nil {
		return nil, bad
	}
	return &answer{contentType: typeText, cache: cacheForEver, body: note}, nil
}
