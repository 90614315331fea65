package tile

import (
	"slices"
	"testing"
)

// TestPathCheckRefuses spoils each hash of each path of a range, the index and
// the leaf, after paths that share most of it were found right.
func TestPathCheckRefuses(t *testing.T) {
	t.Parallel()
	const size = 13
	leaves := make([]Hash, size)
	for i := range leaves {
		leaves[i] = LeafHash([]byte{byte(i)})
	}
	fresh := func(upTo int) *pathCheck {
		c := &pathCheck{size: size, root: rootOf(leaves), seen: make([]progress, 5)}
		for i := range upTo {
			if err := c.follow(uint64(i), leaves[i], pathOf(leaves, i)); err != nil {
				t.Fatalf("path %d of %d: %v", i, size, err)
			}
		}
		return c
	}
	for i := range size {
		path := pathOf(leaves, i)
		for k := range path {
			bad := append([]Hash(nil), path...)
			bad[k][7] ^= 1
			c := fresh(i)
			if c.follow(uint64(i), leaves[i], bad) == nil {
				t.Errorf("leaf %d: a path whose hash %d is wrong was taken", i, k)
			}
			if c.follow(uint64(i), leaves[i], bad) == nil {
				t.Errorf("leaf %d: a path whose hash %d is wrong was taken the second time", i, k)
			}
		}
		for name, err := range map[string]error{
			"another leaf":  fresh(i).follow(uint64(i), leaves[(i+1)%size], path),
			"another index": fresh(i).follow(uint64(i^1), leaves[i], path),
			"one too few":   fresh(i).follow(uint64(i), leaves[i], path[:len(path)-1]),
			"one too many":  fresh(i).follow(uint64(i), leaves[i], append(slices.Clip(path), leaves[0])),
			"one in front":  fresh(i).follow(uint64(i), leaves[i], append([]Hash{leaves[0]}, path...)),
		} {
			if err == nil {
				t.Errorf("leaf %d: %s: taken", i, name)
			}
		}
	}
}

func rootOf(leaves []Hash) Hash {
	if len(leaves) == 1 {
		return leaves[0]
	}
	k := split(uint64(len(leaves)))
	left, right := rootOf(leaves[:k]), rootOf(leaves[k:])
	return nodeHash(&left, &right)
}

// pathOf is RFC 6962's definition, word for word.
func pathOf(leaves []Hash, i int) []Hash {
	if len(leaves) == 1 {
		return nil
	}
	k := int(split(uint64(len(leaves))))
	if i < k {
		return append(pathOf(leaves[:k], i), rootOf(leaves[k:]))
	}
	return append(pathOf(leaves[k:], i-k), rootOf(leaves[:k]))
}
