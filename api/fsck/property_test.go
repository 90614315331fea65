package fsck_test

import (
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestAnyDamage: whatever the size, and whichever objects are damaged, each of
// them is named and no other is, and what is reported right is right.
func TestAnyDamage(t *testing.T) {
	t.Parallel()
	all := bytesLog(2000)
	rng := rand.New(rand.NewPCG(11, 12))
	for round := range 60 {
		n := 1 + rng.IntN(2000)
		l := all.at(t, n)
		paths := slices.Sorted(maps.Keys(l.files))
		paths = slices.DeleteFunc(paths, func(p string) bool { return p == "checkpoint" })
		change := files{}
		for range 1 + rng.IntN(2) {
			path := paths[rng.IntN(len(paths))]
			if _, twice := change[path]; !twice {
				change[path] = flip(l.files[path], rng.IntN(len(l.files[path])), rng.IntN(8))
			}
		}
		r := l.check(t, change, treeOnly)
		named := map[string]bool{}
		for _, f := range r.Findings {
			named[f.Object] = true
			if !f.Exact || l.files[f.Object][f.Offset] == change[f.Object][f.Offset] {
				t.Errorf("round %d, size %d: %v", round, n, f)
			}
		}
		if !slices.Equal(slices.Sorted(maps.Keys(named)), slices.Sorted(maps.Keys(change))) {
			t.Errorf("round %d, size %d: damaged %v, found\n%s", round, n, slices.Sorted(maps.Keys(change)), places(r))
		}
	}
}
