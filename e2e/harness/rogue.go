package harness

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"testing"

	"golang.org/x/mod/sumdb/tlog" //nolint:depguard // tests alone import this package

	"github.com/trialog/trialog/api/checkpoint"
)

// Rogue has a log's keys and a history of its own: the log's first entries, and
// others behind them. It is what a log is that lies. The tree is x/mod's.
type Rogue struct {
	t      testing.TB
	origin string
	keys   []*checkpoint.SigningKey
	hashes storedHashes
}

// storedHashes are the hashes of a tree in the order of x/mod.
type storedHashes []tlog.Hash

// ReadHashes implements tlog.HashReader.
func (h storedHashes) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	found := make([]tlog.Hash, len(indexes))
	for i, x := range indexes {
		if x >= int64(len(h)) {
			return nil, fmt.Errorf("no hash %d", x)
		}
		found[i] = h[x]
	}
	return found, nil
}

// Fork takes the keys of the log's first shard, its first shared entries, which
// are published, and others until the tree has size leaves.
func (l *Log) Fork(shared, size uint64) *Rogue {
	l.t.Helper()
	r := &Rogue{t: l.t, origin: l.Origin(), keys: readKeys(l.t, l.Part("keys"), "log-ed25519.key", "log-mldsa44.key")}
	entries := l.published(shared)
	for i := range size {
		leaf := fmt.Appendf(nil, "an entry that nobody else has seen: %d", i)
		if i < shared {
			leaf = entries[i]
		}
		more, err := tlog.StoredHashes(int64(i), leaf, r.hashes)
		if err != nil {
			l.t.Fatal(err)
		}
		r.hashes = append(r.hashes, more...)
	}
	return r
}

// published returns the first n entries of the first shard.
func (l *Log) published(n uint64) [][]byte {
	l.t.Helper()
	for index := uint64(len(l.entries)); index < n; index++ {
		status, body, err := l.Get(fmt.Sprintf("/shards/1/v1/entries/%d", index))
		if err != nil || status != http.StatusOK {
			l.t.Fatalf("entry %d: status %d, %v: %s", index, status, err, body)
		}
		var e struct {
			Entry []byte `json:"entry"`
		}
		if err := json.Unmarshal(body, &e); err != nil {
			l.t.Fatal(err)
		}
		l.entries = append(l.entries, e.Entry)
	}
	return l.entries[:n]
}

// Sign signs the checkpoint of a size with all keys of the log.
func (r *Rogue) Sign(size uint64) *checkpoint.Note {
	r.t.Helper()
	root, err := tlog.TreeHash(int64(size), r.hashes)
	if err != nil {
		r.t.Fatal(err)
	}
	c := checkpoint.Checkpoint{Origin: r.origin, Size: size, Root: checkpoint.Hash(root)}
	n, err := checkpoint.SignLog(c, 0, r.keys...)
	if err != nil {
		r.t.Fatal(err)
	}
	return n
}

// Proof proves growth from old to size in this history.
func (r *Rogue) Proof(old, size uint64) []tlog.Hash {
	r.t.Helper()
	if old == 0 || old >= size {
		return nil // there is none
	}
	proof, err := tlog.ProveTree(int64(size), int64(old), r.hashes)
	if err != nil {
		r.t.Fatal(err)
	}
	return proof
}

// Offer asks a witness to cosign the checkpoint of a size, with a proof of its
// growth from old that is right in this history.
func (r *Rogue) Offer(ctx context.Context, w *Witness, old, size uint64) (status int, body []byte, err error) {
	r.t.Helper()
	return r.OfferWith(ctx, w, old, size, r.Proof(old, size))
}

// OfferWith is Offer with any proof.
func (r *Rogue) OfferWith(ctx context.Context, w *Witness, old, size uint64, proof []tlog.Hash) (status int, body []byte, err error) {
	r.t.Helper()
	var b bytes.Buffer
	fmt.Fprintf(&b, "old %d\n", old)
	for _, h := range proof {
		fmt.Fprintln(&b, h) // a tlog.Hash prints as base64
	}
	b.WriteByte('\n')
	b.Write(r.Sign(size).Bytes())
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.URL()+"/add-checkpoint", &b)
	if err != nil {
		return 0, nil, err
	}
	resp, err := impatient.Do(req)
	if err != nil {
		return 0, nil, err
	}
	body, err = io.ReadAll(resp.Body)
	return resp.StatusCode, body, errors.Join(err, resp.Body.Close())
}
