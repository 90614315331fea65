package scenario

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/receipt"
	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/e2e/harness"
)

// fsckEntries is enough for full tiles, a partial tile, and a second level.
const fsckEntries = 300

// TestTesseraFsck has the checker of another implementation re-derive our log
// from its tiles, and x/mod check every receipt of it.
func TestTesseraFsck(t *testing.T) {
	ctx := context.Background()
	fsck := harness.Peer(t, "", "github.com/transparency-dev/tessera/cmd/fsck")
	l := harness.NewLog(t)
	l.Start()
	sub := harness.NewSubmitter(t, l, "acme")
	if err := sub.Enrol(ctx, l.Token("enrol")); err != nil {
		t.Fatal(err)
	}
	fill(ctx, t, sub, fsckEntries)
	receipts := collect(ctx, t, sub, 5)
	key := l.LogKey(checkpoint.AlgEd25519).String()
	keyFile := filepath.Join(t.TempDir(), "log.pub")
	if err := os.WriteFile(keyFile, []byte(key), 0o600); err != nil {
		t.Fatal(err)
	}
	run := func() ([]byte, error) {
		out, err := exec.CommandContext(ctx, fsck, "--storage_url", l.URL, "--public_key", keyFile, "--ui=false").CombinedOutput()
		if err == nil && !bytes.Contains(out, []byte("Successfully fsck'd log")) {
			err = errors.New("fsck does not say that it was successful") // nor does its exit code
		}
		return out, err
	}
	if out, err := run(); err != nil {
		t.Fatalf("fsck refuses the log: %v\n%s", err, out)
	}
	for _, raw := range receipts {
		checkWithSumdb(t, raw, key)
	}
	// One changed byte in a bundle: it is not served, so that the checker cannot
	// finish, and the log does not start on it.
	bundle := filepath.Join(l.Dir, "shards", "1", "tiles", "tile", "entries", "000")
	content, err := os.ReadFile(bundle)
	if err != nil {
		t.Fatal(err)
	}
	content[len(content)/2] ^= 1
	if err := os.WriteFile(bundle, content, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := run(); err == nil {
		t.Errorf("fsck accepts a damaged log\n%s", out)
	}
	l.Stop()
	l.Launch()
	if state := l.Await(refusalLimit, func(s harness.State) bool { return s.Reason == "corrupt" }); state.Reason != "corrupt" {
		t.Errorf("the log starts on damaged tiles: %+v", state)
	}
}

// fill opens trials until the log has at least n entries.
func fill(ctx context.Context, t *testing.T, sub *harness.Submitter, n int) {
	t.Helper()
	if err := sub.FetchBeacon(ctx); err != nil {
		t.Fatal(err)
	}
	for i := range n {
		x, err := sub.Say(statement.KindTrial, fmt.Sprintf("fill-%d", i), harness.OpenTrial)
		if err != nil {
			t.Fatal(err)
		}
		wait := "WAIT_PENDING"
		if i == n-1 {
			wait = "WAIT_FINAL"
		}
		if _, err := sub.SendUntil(ctx, x, wait, ""); err != nil {
			t.Fatal(err)
		}
	}
}

// collect submits n more statements and returns their receipts.
func collect(ctx context.Context, t *testing.T, sub *harness.Submitter, n int) [][]byte {
	t.Helper()
	var receipts [][]byte
	for i := range n {
		x, err := sub.Say(statement.KindProtocol, "fill-0", harness.Document(fmt.Append(nil, "protocol ", i), "text/plain"))
		if err != nil {
			t.Fatal(err)
		}
		a, err := sub.SendUntil(ctx, x, "WAIT_FINAL", "")
		if err != nil {
			t.Fatal(err)
		}
		receipts = append(receipts, a.Receipt)
	}
	return receipts
}

// checkWithSumdb checks a receipt's proof with a second implementation of notes
// and of Merkle trees.
func checkWithSumdb(t *testing.T, raw []byte, key string) {
	t.Helper()
	r, err := receipt.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := note.NewVerifier(key)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := note.Open(r.Proof.Note.Bytes(), note.VerifierList(verifier))
	if err != nil {
		t.Fatalf("x/mod does not open the checkpoint: %v", err)
	}
	lines := strings.Split(signed.Text, "\n")
	var size int64
	if _, err := fmt.Sscan(lines[1], &size); err != nil {
		t.Fatal(err)
	}
	root, err := tlog.ParseHash(lines[2])
	if err != nil {
		t.Fatal(err)
	}
	proof := make(tlog.RecordProof, len(r.Proof.Path))
	for i, h := range r.Proof.Path {
		proof[i] = h
	}
	index := int64(r.Proof.Index)
	if err := tlog.CheckRecord(proof, size, root, index, tlog.RecordHash(r.Entry)); err != nil {
		t.Errorf("x/mod refuses the proof of index %d: %v", r.Proof.Index, err)
	}
	if err := tlog.CheckRecord(proof, size, root, index, tlog.RecordHash(bytes.ToUpper(r.Entry))); err == nil {
		t.Errorf("x/mod accepts another entry at index %d", r.Proof.Index)
	}
}
