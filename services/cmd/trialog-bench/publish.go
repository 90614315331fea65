package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/api/verify"
	"github.com/trialog/trialog/services/internal/blob"
	"github.com/trialog/trialog/services/internal/tile"
	"github.com/trialog/trialog/services/sequencer"
)

// published is a log as it is served: tiles of random entries under a cosigned
// checkpoint. Nothing but its tiles exists.
type published struct {
	policy *verify.Policy
	store  blob.Store
	origin string
	size   uint64
}

const publishedLog = "bench.trialog.localhost/log"

// publishLog writes a log of n entries into dir.
func publishLog(ctx context.Context, dir string, n, size int, now func() time.Time) (*published, error) {
	tiles := filepath.Join(dir, "tiles")
	if err := os.MkdirAll(tiles, 0o700); err != nil {
		return nil, err
	}
	store, err := blob.OpenDir(tiles)
	if err != nil {
		return nil, err
	}
	root, err := writeTiles(ctx, store, n, size)
	if err != nil {
		return nil, err
	}
	p := &published{store: store, origin: publishedLog + "/1", size: uint64(n)}
	signers, err := newSigners(p.origin)
	if err != nil {
		return nil, err
	}
	if p.policy, err = signers.policy(); err != nil {
		return nil, err
	}
	at := uint64(now().Unix())
	note, err := checkpoint.SignLog(checkpoint.Checkpoint{Origin: p.origin, Size: p.size, Root: root}, at, signers.log...)
	if err != nil {
		return nil, err
	}
	sig, err := signers.witness.SignCheckpoint(note.Text(), at)
	if err != nil {
		return nil, err
	}
	if note, err = note.With(sig); err != nil {
		return nil, err
	}
	return p, store.Put(ctx, blob.Object{Key: sequencer.CheckpointKey, Data: note.Bytes()})
}

func writeTiles(ctx context.Context, store blob.Store, n, size int) (root [32]byte, err error) {
	w, err := tile.OpenWriter(ctx, store)
	if err != nil {
		return root, err
	}
	source, err := newNoise()
	if err != nil {
		return root, err
	}
	for left := n; left > 0; left -= fillBatch {
		entries := make([][]byte, min(fillBatch, left))
		for i := range entries {
			entries[i] = source.bytes(size)
		}
		if root, err = w.Append(ctx, entries); err != nil {
			return root, err
		}
	}
	return root, nil
}

// signers are the keys of a log and of one witness.
type signers struct {
	log     []*checkpoint.SigningKey
	witness *checkpoint.SigningKey
	pending *statement.PrivateKey
}

func newSigners(origin string) (*signers, error) {
	s := &signers{}
	for _, alg := range []checkpoint.Algorithm{checkpoint.AlgEd25519, checkpoint.AlgMLDSA44} {
		key, err := checkpoint.GenerateKey(rand.Reader, origin, alg)
		if err != nil {
			return nil, err
		}
		s.log = append(s.log, key)
	}
	var err error
	if s.witness, err = checkpoint.GenerateKey(rand.Reader, publishedLog+"/witness", checkpoint.AlgEd25519Cosignature); err != nil {
		return nil, err
	}
	s.pending, err = statement.GenerateKey(rand.Reader)
	return s, err
}

// policy names the keys, and wants all of them.
func (s *signers) policy() (*verify.Policy, error) {
	var text strings.Builder
	required := make([]string, 0, len(s.log))
	for _, k := range s.log {
		fmt.Fprintf(&text, "log %s\n", k.Verifier())
		required = append(required, k.Verifier().String())
	}
	fmt.Fprintf(&text, "witness w %s\ngroup operator all w\nquorum operator\n", s.witness.Verifier())
	sidecar, err := json.Marshal(map[string]any{
		"format": verify.TrustFormat, "log": publishedLog, "logOperator": "bench", "acceptReceived": false,
		"requiredLogKeys": required, "operators": map[string]string{"operator": "bench"},
		"pendingKeys": []string{base64.StdEncoding.EncodeToString(s.pending.Public().DER())},
	})
	if err != nil {
		return nil, err
	}
	policy, err := verify.ParsePolicy([]byte(text.String()), sidecar)
	if err != nil {
		return nil, err
	}
	return policy.Remembering(), nil
}
