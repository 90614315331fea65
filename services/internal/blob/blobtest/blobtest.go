// Package blobtest holds the tests that every blob.Store passes, and a Store
// that fails on purpose, for the tests of those who write to one.
package blobtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/trialog/trialog/services/internal/blob"
)

// Run tests a kind of Store; open returns a new, empty one. If the Store is an
// Extender, that is tested too.
func Run(t *testing.T, open func(t *testing.T) blob.Store) {
	t.Run("put and get", func(t *testing.T) { testPutGet(t, open(t)) })
	t.Run("not found", func(t *testing.T) { testNotFound(t, open(t)) })
	t.Run("bad keys", func(t *testing.T) { testBadKeys(t, open(t)) })
	t.Run("caller's slices", func(t *testing.T) { testSlices(t, open(t)) })
	t.Run("delete", func(t *testing.T) { testDelete(t, open(t)) })
	t.Run("list", func(t *testing.T) { testList(t, open(t)) })
	t.Run("cancelled", func(t *testing.T) { testCancelled(t, open(t)) })
	t.Run("replace", func(t *testing.T) { testReplace(t, open(t)) })
	if _, ok := open(t).(blob.Replacer); ok {
		t.Run("replace meets others", func(t *testing.T) { testReplaceMeets(t, open(t)) })
	}
	t.Run("readers see whole objects", func(t *testing.T) { testAtomic(t, open(t)) })
	if e, ok := open(t).(extender); ok {
		t.Run("extend", func(t *testing.T) { testExtend(t, e) })
	}
}

func put(t *testing.T, s blob.Store, key, data string) {
	t.Helper()
	if err := s.Put(t.Context(), blob.Object{Key: key, Data: []byte(data)}); err != nil {
		t.Fatalf("put %s: %v", key, err)
	}
}

func want(t *testing.T, s blob.Store, key, data string) {
	t.Helper()
	got, err := s.Get(t.Context(), key)
	if err != nil || string(got) != data {
		t.Errorf("get %s: %q, %v; want %q", key, got, err, data)
	}
}

func wantNone(t *testing.T, s blob.Store, key string) {
	t.Helper()
	if got, err := s.Get(t.Context(), key); !errors.Is(err, blob.ErrNotFound) {
		t.Errorf("get %s: %d bytes, %v; want ErrNotFound", key, len(got), err)
	}
}

func testPutGet(t *testing.T, s blob.Store) {
	if err := s.Put(t.Context()); err != nil {
		t.Errorf("put nothing: %v", err)
	}
	put(t, s, "a", "one")
	put(t, s, "d/e/f", "two")
	put(t, s, "d/e/f", "longer than two")
	put(t, s, "empty", "")
	many := make([]blob.Object, 100)
	for i := range many {
		many[i] = blob.Object{Key: fmt.Sprintf("many/%d/%d", i%7, i), Data: []byte{byte(i)}}
	}
	if err := s.Put(t.Context(), many...); err != nil {
		t.Fatalf("put many: %v", err)
	}
	want(t, s, "a", "one")
	want(t, s, "d/e/f", "longer than two")
	want(t, s, "empty", "")
	for i, o := range many {
		want(t, s, o.Key, string([]byte{byte(i)}))
	}
	put(t, s, "d/e/f", "short")
	want(t, s, "d/e/f", "short")
}

func testNotFound(t *testing.T, s blob.Store) {
	put(t, s, "a/b", "x")
	for _, key := range []string{"b", "a", "a/c", "a/b/c", "A/b", "x/y/z"} {
		wantNone(t, s, key)
	}
}

func testReplace(t *testing.T, s blob.Store) {
	replace := func(key, want, next string, err error) error {
		return blob.Replace(t.Context(), s, key, func(current []byte) ([]byte, error) {
			if string(current) != want || (current == nil) != (want == "") {
				t.Errorf("there is %q, want %q", current, want)
			}
			return []byte(next), err
		})
	}
	if err := replace("a/b", "", "one", nil); err != nil {
		t.Errorf("make: %v", err)
	}
	want(t, s, "a/b", "one")
	if err := replace("a/b", "one", "two", nil); err != nil {
		t.Errorf("replace: %v", err)
	}
	want(t, s, "a/b", "two")
	own := errors.New("no")
	if err := replace("a/b", "two", "three", own); !errors.Is(err, own) {
		t.Errorf("the caller's error: %v", err)
	}
	if err := replace("a/c", "", "three", own); !errors.Is(err, own) {
		t.Errorf("the caller's error: %v", err)
	}
	want(t, s, "a/b", "two")
	wantNone(t, s, "a/c")
	// The same again is not refused: a replacement whose outcome is unknown is made
	// again.
	if err := replace("a/b", "two", "two", nil); err != nil {
		t.Errorf("the same: %v", err)
	}
	if err := replace("../b", "", "x", nil); !errors.Is(err, blob.ErrKey) {
		t.Errorf("a bad key: %v", err)
	}
	if err := s.Delete(t.Context(), "a/b"); err != nil {
		t.Error(err)
	}
	if err := replace("a/b", "", "again", nil); err != nil {
		t.Errorf("after it was deleted: %v", err)
	}
}

// testReplaceMeets: of many who replace one object at once, none loses what another
// has written.
func testReplaceMeets(t *testing.T, s blob.Store) {
	const each, writers = 5, 4
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for done := 0; done < each; {
				err := blob.Replace(t.Context(), s, "k", func(current []byte) ([]byte, error) { return append(current, 'x'), nil })
				switch {
				case err == nil:
					done++
				case !errors.Is(err, blob.ErrReplaced):
					t.Errorf("replace: %v", err)
					return
				}
			}
		})
	}
	wg.Wait()
	if got, err := s.Get(t.Context(), "k"); err != nil || len(got) != each*writers {
		t.Errorf("%d of %d writes are there: %v", len(got), each*writers, err)
	}
}

// BadKeys are keys that every Store refuses.
func BadKeys() []string {
	return []string{
		"", "/", "/a", "a/", "a//b", ".", "..", "./a", "../a", "a/..", "a/../b", "a/./b", ".hidden", "a/.b",
		".scratch/x", `a\b`, "a b", "a\x00", "a\n", "ä", "a%2fb", "~a", "a:b", "c:", "a*",
		strings.Repeat("a", 201), strings.Repeat("a/", 512) + "a",
	}
}

func testBadKeys(t *testing.T, s blob.Store) {
	put(t, s, "good", "x")
	for _, key := range BadKeys() {
		_, getErr := s.Get(t.Context(), key)
		for name, err := range map[string]error{
			"put":    s.Put(t.Context(), blob.Object{Key: "other"}, blob.Object{Key: key}),
			"delete": s.Delete(t.Context(), "good", key),
			"get":    getErr,
		} {
			if !errors.Is(err, blob.ErrKey) {
				t.Errorf("%s %q: %v, want ErrKey", name, key, err)
			}
		}
		if e, ok := s.(blob.Extender); ok {
			if err := e.Extend(t.Context(), blob.Extension{Key: key}); !errors.Is(err, blob.ErrKey) {
				t.Errorf("extend %q: %v, want ErrKey", key, err)
			}
		}
	}
	twice := []blob.Object{{Key: "k", Data: []byte("1")}, {Key: "k", Data: []byte("2")}}
	if err := s.Put(t.Context(), twice...); !errors.Is(err, blob.ErrKey) {
		t.Errorf("put a key twice: %v, want ErrKey", err)
	}
	wantNone(t, s, "other")
	wantNone(t, s, "k")
}

func testSlices(t *testing.T, s blob.Store) {
	data := []byte("mine")
	if err := s.Put(t.Context(), blob.Object{Key: "k", Data: data}); err != nil {
		t.Fatal(err)
	}
	data[0] = 'X'
	want(t, s, "k", "mine")
	got, err := s.Get(t.Context(), "k")
	if err != nil {
		t.Fatal(err)
	}
	got[0] = 'X'
	want(t, s, "k", "mine")
}

func testDelete(t *testing.T, s blob.Store) {
	put(t, s, "a/b", "x")
	put(t, s, "a/c", "y")
	if err := s.Delete(t.Context(), "a/b", "a/b", "a", "none", "a/c/d"); err != nil {
		t.Errorf("delete: %v", err)
	}
	wantNone(t, s, "a/b")
	want(t, s, "a/c", "y")
	put(t, s, "a/b", "again")
	want(t, s, "a/b", "again")
}

func testList(t *testing.T, s blob.Store) {
	keys := []string{"a", "a-b", "a.b/c", "a0", "b/c/d", "b/c/e", "b/cc", "c"}
	for _, key := range slices.Backward(keys) {
		put(t, s, key, key)
	}
	for _, c := range []struct {
		prefix string
		want   []string
	}{
		{"", keys},
		{"a", keys[:4]},
		{"a.", keys[2:3]},
		{"a.b/", keys[2:3]},
		{"b", keys[4:7]},
		{"b/c", keys[4:7]},
		{"b/c/", keys[4:6]},
		{"b/c/e", keys[5:6]},
		{"b/c/ef", nil},
		{"b/d", nil},
		{"z", nil},
	} {
		var got []string
		for key, err := range s.List(t.Context(), c.prefix) {
			if err != nil {
				t.Fatalf("list %q: %v", c.prefix, err)
			}
			got = append(got, key)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("list %q: %q, want %q", c.prefix, got, c.want)
		}
	}
	for _, err := range s.List(t.Context(), "") {
		if err != nil {
			t.Errorf("list: %v", err)
		}
		break // must not go on, or panic
	}
}

func testCancelled(t *testing.T, s blob.Store) {
	put(t, s, "old", "old")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, getErr := s.Get(ctx, "old")
	var listErr error
	for _, err := range s.List(ctx, "") {
		listErr = err
	}
	for name, err := range map[string]error{
		"put":    s.Put(ctx, blob.Object{Key: "new"}, blob.Object{Key: "old"}),
		"delete": s.Delete(ctx, "old"),
		"get":    getErr,
		"list":   listErr,
	} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v, want context.Canceled", name, err)
		}
	}
	want(t, s, "old", "old")
	wantNone(t, s, "new")
}

// testAtomic lets readers look while an object is replaced by longer and shorter
// ones.
func testAtomic(t *testing.T, s blob.Store) {
	version := func(i int) []byte { return bytes.Repeat([]byte{byte(i)}, 1+(i*7919)%50_000) }
	put(t, s, "k", string(version(0)))
	done := make(chan struct{})
	var readers sync.WaitGroup
	for range 3 {
		readers.Go(func() {
			for {
				got, err := s.Get(t.Context(), "k")
				if err != nil || !bytes.Equal(got, version(int(got[0]))) {
					t.Errorf("a reader saw %d bytes of no version, %v", len(got), err)
					return
				}
				select {
				case <-done:
					return
				default:
				}
			}
		})
	}
	for i := range 60 {
		put(t, s, "k", string(version(i)))
	}
	close(done)
	readers.Wait()
}

// extender is a store whose objects grow in place.
type extender interface {
	blob.Store
	blob.Extender
}

func testExtend(t *testing.T, s extender) {
	extend := func(key string, offset int64, data string) error {
		return s.Extend(t.Context(), blob.Extension{Key: key, Offset: offset, Data: []byte(data)})
	}
	if err := extend("none", 0, "x"); !errors.Is(err, blob.ErrNotFound) {
		t.Errorf("extend what is not there: %v, want ErrNotFound", err)
	}
	put(t, s, "d/k", "0123")
	if err := extend("d/k", 4, "45"); err != nil {
		t.Errorf("extend: %v", err)
	}
	want(t, s, "d/k", "012345")
	if err := extend("d/k", 2, "x"); err != nil {
		t.Errorf("extend over what a crash left: %v", err)
	}
	want(t, s, "d/k", "01x")
	for _, offset := range []int64{-1, 4} {
		if err := extend("d/k", offset, "y"); err == nil {
			t.Errorf("extend at %d of 3 bytes: no error", offset)
		}
	}
	want(t, s, "d/k", "01x")
}
