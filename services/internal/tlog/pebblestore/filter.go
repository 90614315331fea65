package pebblestore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
)

// filter is a Bloom filter, in blocks of one cache line, over all identities in
// the store. Nearly every identity that is looked up is new; the filter answers
// that without descending into memtables and tables, which costs more than all
// the rest of an append.
//
// It errs only towards looking: every identity is added before it is written,
// and until those found at Open are added it says maybe to everything. Its size
// is fixed: 16 MiB hold ten million identities with one needless look-up in some
// hundreds, beyond that it slowly loses its use.
type filter struct {
	words []atomic.Uint64
	ready atomic.Bool
	stop  atomic.Bool
	wg    sync.WaitGroup
}

const (
	filterBytes     = 16 << 20
	filterBlock     = 8 // words of 64 bits: a cache line
	filterBits      = 6 // bits set per identity
	filterBlockBits = filterBlock * 64
)

func newFilter() *filter { return &filter{words: make([]atomic.Uint64, filterBytes/8)} }

// at returns the block of an identity and the bits to set in it. Identities are
// uniform, they are hashes; where a caller's are not, look-ups get slower.
func (f *filter) at(treeID int64, identity []byte) (block []atomic.Uint64, bits uint64) {
	// Fibonacci hashing spreads the tree ids, which share the filter.
	h := binary.BigEndian.Uint64(identity) ^ uint64(treeID)*0x9e3779b97f4a7c15
	i := h % (uint64(len(f.words)) / filterBlock) * filterBlock
	return f.words[i : i+filterBlock], binary.BigEndian.Uint64(identity[8:])
}

func (f *filter) add(treeID int64, identity []byte) {
	block, bits := f.at(treeID, identity)
	for range filterBits {
		block[bits%filterBlockBits/64].Or(1 << (bits % 64))
		bits >>= 9
	}
}

// mayHold is false only if no row with this identity was ever written.
func (f *filter) mayHold(treeID int64, identity []byte) bool {
	if !f.ready.Load() {
		return true
	}
	block, bits := f.at(treeID, identity)
	for range filterBits {
		if block[bits%filterBlockBits/64].Load()&(1<<(bits%64)) == 0 {
			return false
		}
		bits >>= 9
	}
	return true
}

// loadFilter adds, in the background, the identities that are in the store now. Those
// written later are added by their writers.
func (s *Store) loadFilter() error {
	// The sizes are read before the rows are: what is appended from now on does not
	// make the count too small.
	sizes, err := s.sizes()
	if err != nil {
		return err
	}
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: []byte{kindIdentity}, UpperBound: []byte{kindIdentity + 1}})
	if err != nil {
		return fmt.Errorf("reading the identity index: %w", s.fault.mark(err))
	}
	s.filter.wg.Go(func() {
		counts := map[int64]uint64{}
		for ok := it.First(); ok && !s.filter.stop.Load(); ok = it.Next() {
			if key := it.Key(); len(key) == idKeySize {
				treeID := int64(binary.BigEndian.Uint64(key[1:]))
				s.filter.add(treeID, key[treePrefixSize:])
				counts[treeID]++
			}
		}
		if err := errors.Join(it.Error(), it.Close()); err != nil {
			// Without the filter the store is slow, not wrong.
			s.fault.log.Error("reading the identity index failed", "error", s.fault.mark(err))
			return
		}
		if s.filter.stop.Load() {
			return
		}
		s.judgeCounts(sizes, counts)
		s.filter.ready.Store(true)
	})
	return nil
}

func (f *filter) close() {
	f.stop.Store(true)
	f.wg.Wait()
}
