package fault

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/entry"
	"github.com/trialog/trialog/api/fsck"
	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/api/tile"
	"github.com/trialog/trialog/e2e/harness"
)

// flipSeed chooses the bits: the same ones each time.
const flipSeed = 20260101

// stored is a group of files of a stopped log, of which each byte up to the end
// that sizeOf gives means something.
type stored struct {
	name   string
	flips  int
	dir    string // below the data folder
	match  string // of the path in it
	sizeOf func(data []byte) int
}

// groups are what flips are made in. Left out of the store are LOCK, which is
// empty, OPTIONS, which the log itself sets anew, and markers, whose meaning is in
// their names; of its write-ahead log the room behind the last record, which is
// zeros; and manifests that no marker names any more. Left out of the rest is nothing but the ledger: it is derived, and may be
// deleted.
func groups() []stored {
	whole := func(data []byte) int { return len(data) }
	const tiles = "shards/1/tiles"
	return []stored{
		{"tables", 16, "shards/1/store", "*.sst", whole},
		{"manifest", 4, "shards/1/store", "MANIFEST-*", whole},
		{"write-ahead log", 6, "shards/1/store", "*.log", func(data []byte) int { return len(bytes.TrimRight(data, "\x00")) }},
		{"bundles", 8, tiles, "tile/entries/*", whole},
		{"hash tiles", 8, tiles, "tile/[0-9]*/*", whole},
		{"growing objects", 10, tiles, "tail/*", whole},
		{"beacons", 4, tiles, "beacon/*", whole},
		{"checkpoint", 5, tiles, "checkpoint", whole},
		{"candidate", 3, tiles, "candidate", whole},
		{"register", 5, "registers", "1", whole},
	}
}

// files are the paths of a group below its folder, in order.
func (g *stored) files(t *testing.T, data string) []string {
	t.Helper()
	var list []string
	root := filepath.Join(data, g.dir)
	if err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		if ok, _ := filepath.Match(g.match, rel); ok && !obsolete(root, rel) {
			list = append(list, rel)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return list
}

// obsolete tells whether a file is a manifest of Pebble that no marker names: one
// of an earlier run, which is removed later.
func obsolete(folder, file string) bool {
	if !strings.HasPrefix(file, "MANIFEST-") {
		return false
	}
	markers, _ := filepath.Glob(filepath.Join(folder, "marker.manifest.*."+file))
	return len(markers) == 0
}

// flip is one bit that was changed.
type flip struct {
	group *stored
	file  string
	at    int
	bit   int
}

func (f flip) String() string {
	return fmt.Sprintf("%s: %s byte %d bit %d", f.group.name, f.file, f.at, f.bit)
}

// choose chooses a bit of a group.
func (g *stored) choose(t *testing.T, random *rand.Rand, data string) flip {
	t.Helper()
	files := g.files(t, data)
	if len(files) == 0 {
		t.Fatalf("%s: no file matches %s", g.name, g.match)
	}
	f := flip{group: g, file: files[random.IntN(len(files))]}
	raw, err := os.ReadFile(filepath.Join(data, g.dir, f.file))
	if err != nil {
		t.Fatal(err)
	}
	f.at, f.bit = random.IntN(g.sizeOf(raw)), random.IntN(8)
	return f
}

func (f flip) apply(t *testing.T, data string) {
	t.Helper()
	path := filepath.Join(data, f.group.dir, f.file)
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	raw[f.at] ^= 1 << f.bit
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
}

// truth is what a log holds, as it was before anything was flipped.
type truth struct {
	note    []byte
	size    uint64
	root    checkpoint.Hash
	entries [][]byte
	tiles   map[string][]byte
	acks    []ack
}

// TestFlippedBits changes single bits of a stopped log's files. fsck notices each
// of them and says in which file; and a log that is started on such
// files hands out nothing that does not verify.
func TestFlippedBits(t *testing.T) {
	l := harness.NewLog(t)
	l.Init()
	l.With("--witnesses-elsewhere")
	l.RunWitnesses()
	l.Start()
	ld := startLoad(t, l, 6)
	ld.await(300) // a full bundle, and a growing one
	ld.end()
	ld.settle(l)
	l.Stop()
	l.Start() // what was in the write-ahead log goes into tables
	sub := harness.NewSubmitter(t, l, "later")
	if err := sub.Enrol(t.Context(), l.Token("enrol")); err != nil {
		t.Fatal(err)
	}
	for k := range 10 {
		ld.say(t.Context(), sub, statement.KindTrial, fmt.Sprintf("later-%d", k), "WAIT_FINAL", harness.OpenTrial)
	}
	want := read(t, l)
	want.acks = ld.acks
	l.Stop()
	if out, err := l.Run("fsck", "--data", l.Dir); err != nil {
		t.Fatalf("fsck of a log that is whole: %v\n%s", err, out)
	}
	old := filepath.Join(t.TempDir(), "old")
	harness.CopyDir(t, l.Dir, old)
	random := rand.New(rand.NewPCG(flipSeed, 0))
	flips, good, bad := 0, 0, 0
	for _, g := range groups() {
		n := g.flips
		if testing.Short() {
			n = 1
		}
		for range n {
			f := g.choose(t, random, old)
			flips++
			f.apply(t, l.Dir)
			f.locate(t, l)
			restore(t, old, l.Dir)
			f.apply(t, l.Dir)
			yes, no := want.ask(t, l, f)
			good, bad = good+yes, bad+no
			restore(t, old, l.Dir)
		}
	}
	t.Logf("%d flips, all located; %d answers of damaged logs, all true, and %d refusals", flips, good, bad)
}

// restore puts back all that a check or a run may have changed.
func restore(t *testing.T, from, to string) {
	t.Helper()
	for _, part := range []string{"shards", "registers"} {
		harness.CopyDir(t, filepath.Join(from, part), filepath.Join(to, part))
	}
}

// locate has fsck find the flip.
func (f flip) locate(t *testing.T, l *harness.Log) {
	t.Helper()
	out, err := l.Run("fsck", "--data", l.Dir, "--json")
	if err == nil {
		t.Errorf("%s: fsck found nothing\n%s", f, out)
		return
	}
	var objects []string
	for line := range strings.Lines(out) {
		var report struct {
			Findings []fsck.Finding `json:"findings"`
		}
		if json.Unmarshal([]byte(line), &report) != nil {
			continue // a line of the program's own log
		}
		for _, found := range report.Findings {
			objects = append(objects, found.Object)
		}
	}
	named := slices.ContainsFunc(objects, func(object string) bool {
		switch f.group.dir {
		case "registers":
			return object == "register"
		case "shards/1/store":
			return strings.HasPrefix(object, "store")
		}
		return object == f.file
	})
	if len(objects) == 0 { // it could not even be opened
		named = strings.Contains(out, f.file) || f.group.dir == "shards/1/store" && strings.Contains(out, "open the store")
	}
	if !named {
		t.Errorf("%s: fsck names %q\n%s", f, objects, out)
	}
}

// read reads what a log that is whole holds.
func read(t *testing.T, l *harness.Log) *truth {
	t.Helper()
	w := &truth{tiles: map[string][]byte{}}
	w.note = get(t, l, "/checkpoint")
	n, err := checkpoint.Parse(w.note)
	if err != nil {
		t.Fatal(err)
	}
	w.size, w.root = n.Checkpoint().Size, n.Checkpoint().Root
	for _, path := range w.paths() {
		w.tiles[path] = get(t, l, "/"+path)
	}
	for index := uint64(0); index < w.size; index += tile.FullWidth {
		p := tile.Path{Entries: true, Index: index / tile.FullWidth, Width: int(min(w.size-index, tile.FullWidth))}
		list, err := tile.ParseBundle(w.tiles[p.String()])
		if err != nil {
			t.Fatal(err)
		}
		w.entries = append(w.entries, list...)
	}
	return w
}

// paths are those of all tiles and bundles of the tree.
func (w *truth) paths() []string {
	var list []string
	for level, size := 0, w.size; size > 0; level, size = level+1, size/tile.FullWidth {
		for index := uint64(0); index*tile.FullWidth < size; index++ {
			p := tile.Path{Level: level, Index: index, Width: int(min(size-index*tile.FullWidth, tile.FullWidth))}
			list = append(list, p.String())
			if level == 0 {
				p.Entries = true
				list = append(list, p.String())
			}
		}
	}
	return list
}

func get(t *testing.T, l *harness.Log, path string) []byte {
	t.Helper()
	status, body, err := l.Get(path)
	if err != nil || status != http.StatusOK {
		t.Fatalf("%s: status %d, %v: %s", path, status, err, body)
	}
	return body
}

// ask starts the log with a flipped bit and asks it for everything. It counts the
// answers, which must be true, and the refusals.
func (w *truth) ask(t *testing.T, l *harness.Log, f flip) (good, bad int) {
	t.Helper()
	l.Launch()
	defer l.Kill()
	s := l.Await(20*time.Second, func(s harness.State) bool { return s.State == "ready" || s.Reason != "" && s.Reason != "starting" })
	if s.State == "ended" {
		return 0, 1 // it says nothing, which is true
	}
	try := func(path string, check func(body []byte) error) {
		status, body, err := l.Get(path)
		switch {
		case err != nil:
			t.Errorf("%s: %s: %v", f, path, err)
		case status == http.StatusOK:
			good++
			if err := check(body); err != nil {
				t.Errorf("%s: %s: %v", f, path, err)
			}
		case status == http.StatusServiceUnavailable || status == http.StatusInternalServerError || status == http.StatusNotFound:
			bad++
		default:
			t.Errorf("%s: %s: status %d: %s", f, path, status, body)
		}
	}
	try("/checkpoint", func(body []byte) error {
		_, err := l.Policy().CheckNote(body)
		return err
	})
	if name, ok := strings.CutPrefix(f.file, "beacon/"); ok {
		try("/v1/beacons/"+name, func(body []byte) error {
			if got := sha256.Sum256(body); hex.EncodeToString(got[:]) != name {
				return fmt.Errorf("a beacon of digest %x", got)
			}
			return nil
		})
	}
	for path, want := range w.tiles {
		try("/"+path, func(body []byte) error { return same(body, want) })
	}
	for _, index := range []uint64{0, 1, 100, 255, 256, w.size - 2, w.size - 1} {
		try(fmt.Sprintf("/v1/entries/%d", index), func(body []byte) error { return w.checkEntry(body, index) })
		try(fmt.Sprintf("/v1/proofs/inclusion?index=%d", index), func(body []byte) error { return w.checkInclusion(body, index) })
		try(fmt.Sprintf("/v1/proofs/consistency?first=%d", index), w.checkConsistency)
	}
	yes, no := w.resend(t, l, f)
	return good + yes, bad + no
}

// resend sends statements again that were answered before. checkFinal verifies
// the receipts.
func (w *truth) resend(t *testing.T, l *harness.Log, f flip) (good, bad int) {
	t.Helper()
	sub := harness.NewSubmitter(t, l, "again")
	policy := l.Policy()
	for i := 0; i < len(w.acks); i += len(w.acks) / 5 {
		a := w.acks[i]
		again, err := sub.Send(t.Context(), a.signed, "WAIT_FINAL", "")
		if err != nil {
			bad++
			continue
		}
		good++
		if got, leaf := where(t, policy, ack{a.signed, again}); got.index != a.answer.Index || leaf != entry.LeafHash(w.entries[got.index]) {
			t.Errorf("%s: the statement at %d was answered to be at %+v", f, a.answer.Index, got)
		}
	}
	return good, bad
}

func same(got, want []byte) error {
	if !bytes.Equal(got, want) {
		return fmt.Errorf("%d bytes that are not the true %d", len(got), len(want))
	}
	return nil
}

func (w *truth) checkEntry(body []byte, index uint64) error {
	var got struct {
		Entry []byte `json:"entry"`
	}
	if err := json.Unmarshal(body, &got); err != nil {
		return err
	}
	return same(got.Entry, w.entries[index])
}

func (w *truth) checkInclusion(body []byte, index uint64) error {
	var got struct {
		Index, Size    uint64
		LeafHash, Root []byte
		Hashes         [][]byte
	}
	if err := json.Unmarshal(body, &got); err != nil {
		return err
	}
	leaf := entry.LeafHash(w.entries[index])
	if got.Index != index || got.Size != w.size || !bytes.Equal(got.LeafHash, leaf[:]) {
		return fmt.Errorf("it is about index %d of %d, leaf %x", got.Index, got.Size, got.LeafHash)
	}
	return proof.VerifyInclusion(rfc6962.DefaultHasher, index, w.size, leaf[:], got.Hashes, w.root[:])
}

func (w *truth) checkConsistency(body []byte) error {
	var got struct {
		First, Second         uint64
		FirstRoot, SecondRoot []byte
		Hashes                [][]byte
	}
	if err := json.Unmarshal(body, &got); err != nil {
		return err
	}
	if got.Second != w.size {
		return fmt.Errorf("it is about size %d", got.Second)
	}
	return proof.VerifyConsistency(rfc6962.DefaultHasher, got.First, got.Second, got.Hashes, got.FirstRoot, w.root[:])
}
