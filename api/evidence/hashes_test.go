package evidence_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/evidence"
	"github.com/trialog/trialog/api/internal/testlog"
)

// subproof is SUBPROOF of RFC 6962, section 2.1.2, as it is written there.
func subproof(m int, leaves [][32]byte, b bool) [][32]byte {
	n := len(leaves)
	if m == n {
		if b {
			return nil
		}
		return [][32]byte{root(leaves)}
	}
	k := 1
	for k*2 < n {
		k *= 2
	}
	if m <= k {
		return append(subproof(m, leaves[:k], b), root(leaves[k:]))
	}
	return append(subproof(m-k, leaves[k:], false), root(leaves[:k]))
}

// root is MTH of RFC 6962, section 2.1.
func root(leaves [][32]byte) [32]byte {
	tree := (&compact.RangeFactory{Hash: rfc6962.DefaultHasher.HashChildren}).NewEmptyRange(0)
	for _, l := range leaves {
		testlog.Check(tree.Append(l[:], nil))
	}
	return [32]byte(testlog.Must(tree.GetRootHash(nil)))
}

// TestHashes holds the hashes of every pair of sizes to the definition, and what
// they show to what is so: a log that changed one entry is found by all pairs
// behind it, and by none in front of it.
func TestHashes(t *testing.T) {
	const size, changed = 40, 13
	honest, forked := make([][32]byte, size), make([][32]byte, size)
	for i := range honest {
		honest[i] = [32]byte(rfc6962.DefaultHasher.HashLeaf([]byte{byte(i)}))
		forked[i] = honest[i]
	}
	forked[changed][0] ^= 1
	w := tell(t)
	note := func(leaves [][32]byte) *checkpoint.Note {
		c := checkpoint.Checkpoint{Origin: w.honest.Origin, Size: uint64(len(leaves)), Root: root(leaves)}
		return w.honest.NoteBy(w.honest.Keys[:1], c.Body(), 0)
	}
	for n := 2; n <= size; n++ {
		for m := 1; m < n; m++ {
			got, err := evidence.Hashes(uint64(m), uint64(n), evidence.Leaves(honest[:n]))
			if err != nil || !slices.Equal(got, subproof(m, honest[:n], false)) {
				t.Fatalf("from %d to %d: %x, %v", m, n, got, err)
			}
			for _, older := range [][][32]byte{honest, forked} {
				f := evidence.NewInconsistent(note(older[:m]), note(honest[:n]), got).Judge(w.policy)
				if want := older[changed] != honest[changed] && m > changed; f.Conclusive != want {
					t.Fatalf("from %d to %d: conclusive %t, %s", m, n, f.Conclusive, f.Missing)
				}
			}
		}
	}
}

func TestHashesRefuses(t *testing.T) {
	w := tell(t)
	all := leaves(w.honest, 20)
	for _, c := range [][2]uint64{{0, 20}, {20, 20}, {21, 20}} {
		if h, err := evidence.Hashes(c[0], c[1], evidence.Leaves(all)); err == nil {
			t.Errorf("from %d to %d: %x", c[0], c[1], h)
		}
	}
	// Sixteen asks for the first hash by itself.
	for _, m := range []uint64{11, 16} {
		broken := errors.New("unreadable")
		if _, err := evidence.Hashes(m, 20, func(uint, uint64) ([32]byte, error) { return [32]byte{}, broken }); !errors.Is(err, broken) {
			t.Errorf("from %d: %v", m, err)
		}
	}
	if _, err := evidence.Hashes(16, 20, func(level uint, index uint64) ([32]byte, error) {
		if level == 4 {
			return [32]byte{}, errors.New("unreadable")
		}
		return evidence.Leaves(all)(level, index)
	}); err == nil {
		t.Error("the first hash is not asked for")
	}
	for _, node := range [][2]uint64{{0, 20}, {2, 5}, {5, 0}, {63, 1}, {64, 0}, {0, 1 << 63}} {
		if h, err := evidence.Leaves(all)(uint(node[0]), node[1]); err == nil {
			t.Errorf("node %v of 20 leaves: %x", node, h)
		}
	}
}

func TestRefused(t *testing.T) {
	w := tell(t)
	// The standard proof, which leaves the first hash out for powers of two.
	std := func(m, n uint64) [][32]byte {
		h := hashes(w.honest, m, n)
		if m&(m-1) == 0 {
			return h[1:]
		}
		return h
	}
	if err := proof.VerifyConsistency(rfc6962.DefaultHasher, 16, 20, slicesOf(std(16, 20)),
		rootOf(w.honest, 16), rootOf(w.honest, 20)); err != nil {
		t.Fatal(err)
	}
	other := testlog.NewShard(w.Second.Origin, 0)
	other.AddEntry([]byte("x"))
	for _, tt := range []struct {
		name         string
		older, newer *checkpoint.Note
		proof        [][32]byte
		want         evidence.Kind // "" for none
	}{
		{"fork", bare(w.honest, 12), bare(w.forked, 12), nil, evidence.KindFork},
		{"an empty tree with a root", nil, w.empty(checkpoint.Hash{1}), nil, evidence.KindFork},
		{"an empty tree with a root, before", w.empty(checkpoint.Hash{1}), bare(w.honest, 12), nil, evidence.KindFork},
		{"the proof shows it", bare(w.forked, 11), bare(w.honest, 20), std(11, 20), evidence.KindInconsistent},
		{"the proof shows it, in the other order", bare(w.honest, 20), bare(w.forked, 11), std(11, 20), evidence.KindInconsistent},
		{"a power of two hides it", bare(w.forked, 16), bare(w.honest, 20), std(16, 20), evidence.KindUnproven},
		{"a wrong proof", bare(w.forked, 11), bare(w.honest, 20), [][32]byte{{1}}, evidence.KindUnproven},
		{"no proof", bare(w.honest, 11), bare(w.honest, 20), nil, evidence.KindUnproven},
		{"a right proof", bare(w.honest, 11), bare(w.honest, 20), std(11, 20), ""},
		{"a right proof of a power of two", bare(w.honest, 16), bare(w.honest, 20), std(16, 20), ""},
		{"one tree", bare(w.honest, 12), w.note(w.honest, 12, 5), nil, ""},
		{"nothing before", nil, bare(w.honest, 12), nil, ""},
		{"two logs", bare(w.honest, 1), bare(other, 1), nil, ""},
	} {
		e := evidence.Refused(tt.older, tt.newer, tt.proof)
		switch {
		case (e == nil) != (tt.want == ""):
			t.Errorf("%s: %+v", tt.name, e)
		case e == nil:
		case e.Kind != tt.want:
			t.Errorf("%s: %s, expected %s", tt.name, e.Kind, tt.want)
		default:
			if f := e.Judge(w.policy); f.Conclusive != (tt.want != evidence.KindUnproven) {
				t.Errorf("%s: %s", tt.name, f.Missing)
			}
		}
	}
}

func slicesOf(list [][32]byte) [][]byte {
	out := make([][]byte, len(list))
	for i := range list {
		out[i] = list[i][:]
	}
	return out
}

func rootOf(s *testlog.Shard, size uint64) []byte {
	c := s.Checkpoint(size)
	return c.Root[:]
}
