package proofs

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"strings"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/services/internal/blob"
	"github.com/trialog/trialog/services/internal/tile"
)

func (p *Proofs) serve(rw http.ResponseWriter, r *http.Request) {
	p.route(rw, r).write(rw)
}

// route does not use http.ServeMux: that cleans paths and redirects, and here a
// path has one spelling. The escaped path is what the client wrote; no path of
// ours needs escaping, so one with a % in it is none of them.
func (p *Proofs) route(rw http.ResponseWriter, r *http.Request) answer {
	if r.URL.EscapedPath() == refreshPath {
		return p.serveRefresh(rw, r)
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return refuse(http.StatusMethodNotAllowed, "method", "", "expected GET or HEAD")
	}
	ctx, path := r.Context(), r.URL.EscapedPath()
	switch path {
	case "/checkpoint":
		return p.serveCheckpoint(ctx)
	case "/v1/proofs/inclusion":
		return p.serveInclusion(ctx, r.URL.RawQuery)
	case "/v1/proofs/consistency":
		return p.serveConsistency(ctx, r.URL.RawQuery)
	}
	if strings.HasPrefix(path, "/tile/") {
		return p.serveTile(ctx, path[1:])
	}
	if index, ok := strings.CutPrefix(path, "/v1/entries/"); ok {
		return p.serveEntry(ctx, index)
	}
	if digest, ok := strings.CutPrefix(path, "/v1/beacons/"); ok {
		return p.serveBeacon(ctx, digest)
	}
	return refuse(http.StatusNotFound, "no-such-path", "path",
		"expected /checkpoint, /tile/…, /v1/proofs/inclusion, /v1/proofs/consistency, /v1/entries/…, /v1/beacons/… or /v1/receipts:refresh")
}

// serveCheckpoint answers with the published note, verbatim.
//
// SPEC (C2SP tlog-tiles, "Checkpoints"): "MUST be served as a checkpoint at
// <prefix>/checkpoint with Content-Type: text/plain; charset=utf-8. This endpoint
// is mutable, so its headers SHOULD prevent caching beyond a few seconds."
func (p *Proofs) serveCheckpoint(ctx context.Context) answer {
	// Never one that is held: who asks for this wants to see what is published.
	latest, err := p.latest(ctx)
	if err != nil {
		return unavailable(err) // latest has reported it
	}
	return answer{status: http.StatusOK, contentType: typeText, cache: cacheAsk, body: latest.raw}
}

// covering returns a verified checkpoint, and looks for a newer one before it
// returns one that is too small for the caller.
func (p *Proofs) covering(ctx context.Context, covers func(*tile.Tree) bool) (*published, error) {
	held, err := p.current(ctx)
	if err != nil || p.cfg.Refresh == 0 || covers(held.tree) {
		return held, err
	}
	return p.anyVerified(ctx)
}

// serveTile answers with a hash tile or an entry bundle.
//
// SPEC (C2SP tlog-tiles): "Logs MUST serve partial tiles corresponding to tree
// sizes for which a checkpoint was produced", and none beyond the published one is
// served here; "Empty tiles MUST NOT be served"; "This endpoint is immutable, so
// its caching headers SHOULD be long-lived", also for a partial tile, whose width
// is a part of its path.
func (p *Proofs) serveTile(ctx context.Context, s string) answer {
	path, err := tile.ParsePath(s)
	if err != nil {
		return refuse(http.StatusBadRequest, "path", "path",
			"expected tile/<level>/<index> or tile/entries/<index>, perhaps with .p/<width>, in the spelling of C2SP tlog-tiles")
	}
	var body []byte
	at, err := p.covering(ctx, func(t *tile.Tree) bool { return t.Has(path) })
	if err != nil {
		return unavailable(err)
	}
	if path.Entries {
		body, err = at.tree.BundleBytes(ctx, path)
	} else {
		body, err = at.tree.TileBytes(ctx, path)
	}
	if errors.Is(err, tile.ErrRange) {
		return refuse(http.StatusNotFound, "not-published", "path", "expected a tile of the published tree of size %d", at.tree.Size())
	}
	if err != nil {
		return p.fail(ctx, err)
	}
	return answer{status: http.StatusOK, contentType: typeBytes, cache: cacheForEver, body: body}
}

// serveBeacon answers with a checkpoint note that somebody has named by its
// digest, which may be one of another shard: what vouches for it is the digest,
// and whoever uses it checks its signatures by a policy of their own.
func (p *Proofs) serveBeacon(ctx context.Context, digest string) answer {
	want, err := hex.DecodeString(digest)
	if err != nil || len(want) != sha256.Size || hex.EncodeToString(want) != digest {
		return refuse(http.StatusBadRequest, "digest", "sha256", "expected a SHA-256 in 64 lower-case hexadecimal digits")
	}
	key := "beacon/" + digest
	note, err := p.cfg.Store.Get(ctx, key)
	if errors.Is(err, blob.ErrNotFound) {
		return refuse(http.StatusNotFound, "no-such-beacon", "sha256", "expected the digest of a checkpoint note that was used as a beacon")
	}
	if err != nil {
		return p.fail(ctx, err)
	}
	if got := sha256.Sum256(note); [sha256.Size]byte(want) != got {
		return p.fail(ctx, &tile.CorruptError{Object: key, Reason: "its digest is not its name"})
	}
	if _, err := checkpoint.Parse(note); err != nil {
		return p.fail(ctx, &tile.CorruptError{Object: key, Reason: "it is no checkpoint note"})
	}
	return answer{status: http.StatusOK, contentType: typeText, cache: cacheForEver, body: note}
}
