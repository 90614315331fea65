package statefile

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"go.etcd.io/bbolt"
)

// prepare makes the one bucket of these tests.
func prepare(tx *bbolt.Tx) (changed bool, err error) {
	if tx.Bucket([]byte("b")) != nil {
		return false, nil
	}
	_, err = tx.CreateBucket([]byte("b"))
	return true, err
}

func open(t *testing.T, path string) *File {
	t.Helper()
	f, err := Open(path, Options{Prepare: prepare})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() }) // a second time does nothing
	return f
}

func put(f *File, value string) error {
	return f.Update(func(tx *bbolt.Tx) (bool, error) { return true, tx.Bucket([]byte("b")).Put([]byte("k"), []byte(value)) })
}

func get(t *testing.T, f *File) (value string) {
	t.Helper()
	err := f.View(func(tx *bbolt.Tx) error { value = string(tx.Bucket([]byte("b")).Get([]byte("k"))); return nil })
	if err != nil {
		t.Fatal(err)
	}
	return value
}

// TestFailedCommit: a commit that failed, that failed and was stored all the same,
// or that panicked, ends the use of the file; opened anew it has the old value or
// the new one.
func TestFailedCommit(t *testing.T) {
	cause := errors.New("disk on fire")
	for name, c := range map[string]struct {
		point, want string
		panics      bool
	}{
		"failed":                 {point: BeforeCommit, want: "old"},
		"failed but persisted":   {point: AfterCommit, want: "new"},
		"panicked":               {point: BeforeCommit, want: "old", panics: true},
		"panicked but persisted": {point: AfterCommit, want: "new", panics: true},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "state")
			f := open(t, path)
			if err := put(f, "old"); err != nil {
				t.Fatal(err)
			}
			f.Hook = func(point string) error {
				if point == c.point && c.panics {
					panic(cause)
				} else if point == c.point {
					return cause
				}
				return nil
			}
			func() {
				defer func() { _ = recover() }()
				if err := put(f, "new"); !errors.Is(err, ErrCommit) || !errors.Is(err, cause) {
					t.Errorf("the write: %v", err)
				}
			}()
			f.Hook = nil // the disk has healed, but what it holds is not known any more
			<-f.Failed()
			if err := put(f, "newer"); !errors.Is(err, ErrCommit) {
				t.Errorf("a later write: %v", err)
			}
			if err := f.View(func(*bbolt.Tx) error { return nil }); !errors.Is(err, ErrCommit) {
				t.Errorf("a later read: %v", err)
			}
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
			if got := get(t, open(t, path)); got != c.want {
				t.Errorf("opened anew it holds %q, want %q", got, c.want)
			}
		})
	}
}

// TestReadsWaitForTheDisk: a read that comes while a commit is under way sees
// what is durable afterwards, or fails with it.
func TestReadsWaitForTheDisk(t *testing.T) {
	f := open(t, filepath.Join(t.TempDir(), "state"))
	f.Hook = func(point string) error {
		if f.commits.TryRLock() {
			t.Errorf("%s: a read is let in", point)
			f.commits.RUnlock()
		}
		return nil
	}
	if err := put(f, "new"); err != nil {
		t.Fatal(err)
	}
}

// TestNothingIsWrittenUnasked: fn that fails, or does not want a commit, changes
// nothing and breaks nothing.
func TestNothingIsWrittenUnasked(t *testing.T) {
	f := open(t, filepath.Join(t.TempDir(), "state"))
	cause := errors.New("no")
	for _, want := range []error{nil, cause} {
		err := f.Update(func(tx *bbolt.Tx) (bool, error) {
			return false, errors.Join(want, tx.Bucket([]byte("b")).Put([]byte("k"), []byte("v")))
		})
		if !errors.Is(err, want) || f.Err() != nil || get(t, f) != "" {
			t.Errorf("%v, %v, %q", err, f.Err(), get(t, f))
		}
	}
}

// TestOneProcess: the second one is told so.
func TestOneProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	open(t, path)
	if _, err := Open(path, Options{Prepare: prepare}); err == nil || !strings.Contains(err.Error(), "another process has it") {
		t.Error(err)
	}
}

// TestIsSynced: killing a process shows nothing about fsync, so the setting itself
// is looked at.
func TestIsSynced(t *testing.T) {
	f := open(t, filepath.Join(t.TempDir(), "state"))
	if f.db.NoSync || f.db.NoGrowSync {
		t.Error("the state file is not synced")
	}
}
