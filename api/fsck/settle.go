package fsck

import (
	"slices"

	"github.com/trialog/trialog/api/tile"
)

// slots are the places of a tile, or of all growing tiles together. Each has
// candidates for the hash that belongs there, the tile's own word first, then
// what was derived from below; none if nothing is left of either.
type slots [][]hash

// add adds a candidate, once.
func (s slots) add(i int, h hash) {
	if !slices.Contains(s[i], h) {
		s[i] = append(s[i], h)
	}
}

// maxChoices bounds how many combinations of candidates are tried: twelve
// places at which two sides differ.
const maxChoices = 1 << 12

// settle finds the choice of candidates that right accepts. The first one tried
// is what the tile says, then what lies below it; then mixtures, for the case
// that both are damaged at different places.
func (s slots) settle(right func([]hash) bool) ([]hash, bool) {
	choice := make([]hash, len(s))
	var open []int
	most := 1
	for i, candidates := range s {
		if len(candidates) == 0 {
			return nil, false
		}
		if len(candidates) > 1 {
			open = append(open, i)
		}
		most = max(most, len(candidates))
	}
	for side := range most {
		for i, candidates := range s {
			choice[i] = candidates[min(side, len(candidates)-1)]
		}
		if right(choice) || s.butOne(choice, open, right) {
			return choice, true
		}
	}
	total := 1
	for _, i := range open {
		if total *= len(s[i]); total > maxChoices {
			return nil, false
		}
	}
	for n := range total {
		for _, i := range open {
			choice[i] = s[i][n%len(s[i])]
			n /= len(s[i])
		}
		if right(choice) {
			return choice, true
		}
	}
	return nil, false
}

// butOne tries a choice with one place changed: one side is wrong as a whole,
// the other at one place.
func (s slots) butOne(choice []hash, open []int, right func([]hash) bool) bool {
	for _, i := range open {
		was := choice[i]
		for _, h := range s[i] {
			if h == was {
				continue
			}
			if choice[i] = h; right(choice) {
				return true
			}
		}
		choice[i] = was
	}
	return false
}

// Trusted is a hash that the signed root supports; Known is false where it
// supports none that is left.
type Trusted struct {
	Hash  [tile.HashSize]byte
	Known bool
}

func trust(hashes []hash) []Trusted {
	list := make([]Trusted, len(hashes))
	for i, h := range hashes {
		list[i] = Trusted{h, true}
	}
	return list
}

// agreed is what is left to believe when no choice is right: places at which
// the tile and what lies below it say the same.
func (s slots) agreed(confirmed []bool) []Trusted {
	list := make([]Trusted, len(s))
	for i, candidates := range s {
		if len(candidates) == 1 && confirmed[i] {
			list[i] = Trusted{candidates[0], true}
		}
	}
	return list
}

// mend looks for the one bit of a full tile whose change gives it the root: for
// the case that nothing is left of what lies below.
func mend(hashes []hash, root Trusted) ([]hash, bool) {
	if len(hashes) < tile.FullWidth || !root.Known {
		return nil, false
	}
	// The nodes as in a heap: the children of i are 2i and 2i+1.
	var nodes [2 * tile.FullWidth]hash
	copy(nodes[tile.FullWidth:], hashes)
	for i := tile.FullWidth - 1; i > 0; i-- {
		nodes[i] = nodeHash(&nodes[2*i], &nodes[2*i+1])
	}
	for i := range hashes {
		for bit := range 8 * tile.HashSize {
			changed := hashes[i]
			changed[bit/8] ^= 1 << (bit % 8)
			node := changed
			for at := tile.FullWidth + i; at > 1; at /= 2 {
				if at%2 == 0 {
					node = nodeHash(&node, &nodes[at+1])
				} else {
					node = nodeHash(&nodes[at-1], &node)
				}
			}
			if node == root.Hash {
				mended := slices.Clone(hashes)
				mended[i] = changed
				return mended, true
			}
		}
	}
	return nil, false
}
