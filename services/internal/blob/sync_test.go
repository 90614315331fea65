package blob

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// watched is a Dir whose syncs are recorded: a file by its content, a directory
// by its path, each with the objects that were visible at that moment.
type watched struct {
	*Dir
	path string

	mu    sync.Mutex
	syncs []string
	fail  string // the sync that fails
}

var errSync = errors.New("sync failed")

func watch(t *testing.T) *watched {
	t.Helper()
	w := &watched{path: t.TempDir()}
	d, err := OpenDir(w.path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	d.sync = func(f *os.File) error {
		w.mu.Lock()
		defer w.mu.Unlock()
		what := w.name(t, f)
		w.syncs = append(w.syncs, what)
		if what == w.fail {
			return errSync
		}
		return f.Sync()
	}
	w.Dir = d
	return w
}

func (w *watched) name(t *testing.T, f *os.File) string {
	name, err := filepath.Rel(w.path, f.Name())
	if err != nil {
		t.Error(err)
	}
	if !strings.HasPrefix(name, scratchDir) {
		return name
	}
	content, err := os.ReadFile(f.Name())
	if err != nil {
		t.Error(err)
	}
	return "temporary " + string(content)
}

func (w *watched) take() []string {
	defer func() { w.syncs = nil }()
	return w.syncs
}

// TestPutSyncs holds Put to its promise: contents are synced before any object
// is visible, then every directory that got a name, once, and the parents of
// directories that may be new.
func TestPutSyncs(t *testing.T) {
	t.Parallel()
	w := watch(t)
	objects := []Object{
		{Key: "a/b/1", Data: []byte("one")},
		{Key: "a/b/2", Data: []byte("two")},
		{Key: "c", Data: []byte("three")},
	}
	for round, dirs := range [][]string{{".", "a", "a/b"}, {".", "a/b"}} {
		if err := w.Put(t.Context(), objects...); err != nil {
			t.Fatal(err)
		}
		got := w.take()
		if len(got) < 3 {
			t.Fatalf("round %d: synced %q", round, got)
		}
		slices.Sort(got[:3])
		slices.Sort(got[3:])
		if want := []string{"temporary one", "temporary three", "temporary two"}; !slices.Equal(got[:3], want) {
			t.Errorf("round %d: synced %q first, want %q", round, got[:3], want)
		}
		if !slices.Equal(got[3:], dirs) {
			t.Errorf("round %d: then synced %q, want %q", round, got[3:], dirs)
		}
	}
	if err := w.Extend(t.Context(), Extension{Key: "c", Offset: 5, Data: []byte("!")}); err != nil {
		t.Fatal(err)
	}
	if got := w.take(); !slices.Equal(got, []string{"c"}) {
		t.Errorf("extend synced %q", got)
	}
	if err := w.Delete(t.Context(), "a/b/1", "a/b/2"); err != nil {
		t.Fatal(err)
	}
	if got := w.take(); !slices.Equal(got, []string{"a/b"}) {
		t.Errorf("delete synced %q", got)
	}
}

// TestSyncFails: what was not synced is never reported as durable, a content
// that was not synced does not become visible, and a directory whose sync failed
// is synced again.
func TestSyncFails(t *testing.T) {
	t.Parallel()
	w := watch(t)
	object := Object{Key: "d/k", Data: []byte("x")}
	w.fail = "temporary x"
	if err := w.Put(t.Context(), object); !errors.Is(err, errSync) {
		t.Errorf("put: %v", err)
	}
	if _, err := w.Get(t.Context(), "d/k"); !errors.Is(err, ErrNotFound) {
		t.Errorf("visible although its content was not synced: %v", err)
	}
	for _, w.fail = range []string{".", "d"} {
		if err := w.Put(t.Context(), object); !errors.Is(err, errSync) {
			t.Errorf("put, sync of %s fails: %v", w.fail, err)
		}
	}
	w.fail = ""
	w.take()
	if err := w.Put(t.Context(), object); err != nil {
		t.Fatal(err)
	}
	if got := w.take(); !slices.Contains(got, ".") || !slices.Contains(got, "d") {
		t.Errorf("after failures synced %q, want both directories again", got)
	}
	w.fail = "d/k"
	if err := w.Extend(t.Context(), Extension{Key: "d/k", Offset: 1, Data: []byte("y")}); !errors.Is(err, errSync) {
		t.Errorf("extend: %v", err)
	}
	w.fail = "d"
	if err := w.Delete(t.Context(), "d/k"); !errors.Is(err, errSync) {
		t.Errorf("delete: %v", err)
	}
}
