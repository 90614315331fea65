package fsck

import (
	"encoding/binary"
	"fmt"
	"sync"
	"time"

	"github.com/trialog/trialog/api/statement"
)

// history is what the statements of a log add up to, as far as the check needs
// it: who is enrolled, how far each chain has come, which identities were seen.
// It is fed in the order of the log, shard after shard.
type history struct {
	log    string
	keys   map[statement.KeyID]*statement.PublicKey
	chains map[chain]statement.Link
	seen   identities
	// complete is false if entries are missing from it: those of earlier shards,
	// or damaged ones. Then an unknown key or a chain's middle proves nothing.
	complete bool
}

type chain struct {
	trial  string
	writer statement.KeyID
}

func newHistory(log string) *history {
	return &history{
		log: log, complete: true,
		keys: map[statement.KeyID]*statement.PublicKey{}, chains: map[chain]statement.Link{},
	}
}

// shardHistory goes through one shard.
type shardHistory struct {
	*history
	size   uint64
	report func(Finding)
	note   func(Finding)

	next         uint64 // the index that should come next
	latest       time.Time
	stepsBack    uint64
	unknownKeys  uint64
	openChains   uint64
	first, last  *statement.Statement
	work         *sync.WaitGroup
	limit        chan struct{}
	mu           sync.Mutex
	signatures   uint64
	firstStepped uint64
}

// take judges an entry whose bytes the signed root supports.
func (h *shardHistory) take(f facts) {
	if f.index != h.next {
		h.complete = false // what lies between is damaged, and was reported
	}
	h.next = f.index + 1
	if f.unread != "" {
		h.complete = false
		h.entry(KindFormat, f.index, "the root supports the entry, but "+f.unread+" cannot be read")
		return
	}
	if f.received.Before(h.latest) {
		if h.stepsBack == 0 {
			h.firstStepped = f.index
		}
		h.stepsBack++
	} else {
		h.latest = f.received
	}
	if f.index == 0 {
		h.first = f.stmt
		if f.stmt.Kind == statement.KindShardStart && f.stmt.TextAttribute("predecessor") != "" && len(h.keys) == 0 {
			h.complete = false
		}
	}
	if f.index == h.size-1 {
		h.last = f.stmt
	}
	if h.log != "" && f.stmt.Log != h.log {
		h.entry(KindLog, f.index, "the statement is meant for another log")
	}
	h.place(f)
	if before, dup := h.seen.add(f.identity, f.index); dup {
		h.entry(KindDuplicate, f.index, fmt.Sprintf("the same statement stands at entry %d", before))
	}
	h.link(f)
	h.sign(f)
}

func (h *shardHistory) entry(kind Kind, index uint64, detail string) {
	h.report(Finding{Kind: kind, Entry: new(index), Entries: 1, Detail: detail})
}

// place: a shard ends with its end and begins with its start.
func (h *shardHistory) place(f facts) {
	switch {
	case f.stmt.Kind == statement.KindShardEnd && f.index != h.size-1:
		h.entry(KindShard, f.index, "the shard's end is not its last entry")
	case f.stmt.Kind == statement.KindShardStart && f.index != 0:
		h.entry(KindShard, f.index, "the shard's start is not its first entry")
	}
}

// link: a writer's statements about a trial are numbered and name each other.
func (h *shardHistory) link(f facts) {
	key := chain{f.stmt.Trial, f.stmt.Writer()}
	head, known := h.chains[key]
	got := f.stmt.Chain
	h.chains[key] = statement.Link{Number: got.Number, Previous: f.identity}
	switch {
	case got.Number == head.Number+1 && got.Previous == head.Previous:
	case !h.complete:
		h.openChains++
	case !known:
		h.entry(KindChain, f.index, fmt.Sprintf("has number %d in its writer's chain, expected 1", got.Number))
	case got.Number == head.Number+1:
		h.entry(KindChain, f.index, "does not name the statement before it in its writer's chain")
	default:
		h.entry(KindChain, f.index, fmt.Sprintf("has number %d in its writer's chain, expected %d", got.Number, head.Number+1))
	}
}

// sign verifies the signatures with the keys that are enrolled so far, or that
// the statement itself enrols.
func (h *shardHistory) sign(f facts) {
	keys := map[statement.KeyID]*statement.PublicKey{}
	if f.stmt.Kind == statement.KindKey {
		for _, find := range []func() (*statement.PublicKey, bool){f.stmt.EnrolledKey, f.stmt.RecoveryKey} {
			if k, ok := find(); ok {
				keys[k.ID()] = k
			}
		}
	}
	own := len(keys)
	for _, id := range f.stmt.SignerIDs() {
		if k := h.keys[id]; k != nil {
			keys[id] = k
		}
	}
	for id, k := range keys {
		if own > 0 {
			h.keys[id] = k
		}
	}
	for _, id := range f.stmt.SignerIDs() {
		if keys[id] != nil {
			continue
		}
		if h.complete {
			h.entry(KindKey, f.index, fmt.Sprintf("signer %s is not enrolled before it", id))
		} else {
			h.unknownKeys++
		}
		return
	}
	if f.message == nil {
		return
	}
	h.limit <- struct{}{}
	h.work.Go(func() {
		defer func() { <-h.limit }()
		err := statement.VerifySignatures(f.message, f.sigs, f.stmt.SignerIDs(), keys)
		h.mu.Lock()
		defer h.mu.Unlock()
		h.signatures += uint64(len(f.sigs))
		if err != nil {
			h.entry(KindSignature, f.index, "the signatures do not verify with the signers' enrolled keys")
		}
	})
}

// end reports what was counted.
func (h *shardHistory) end() {
	h.work.Wait()
	if h.stepsBack > 0 {
		h.note(Finding{
			Kind: KindTime, Entry: new(h.firstStepped), Entries: h.stepsBack,
			Detail: "the log's own receive time steps back",
		})
	}
	if h.unknownKeys > 0 {
		h.note(Finding{
			Kind: KindUnchecked, Entries: h.unknownKeys,
			Detail: fmt.Sprintf("the signatures of %d statements: a signer's enrolment is not among the entries that could be read", h.unknownKeys),
		})
	}
	if h.openChains > 0 {
		h.note(Finding{
			Kind: KindUnchecked, Entries: h.openChains,
			Detail: fmt.Sprintf("%d statements continue a chain whose beginning is not among the entries that could be read", h.openChains),
		})
	}
}

// identities is a set of identities with the index of each: open addressing over
// two arrays, since a log may have very many.
type identities struct {
	keys  [][16]byte // zero: free
	index []uint64
	n     int
}

// add adds an identity. If it is there already it returns where. Identities are
// SHA-256 values; the first 16 bytes tell them apart.
func (s *identities) add(id statement.Identity, index uint64) (before uint64, dup bool) {
	if 4*s.n >= 3*len(s.keys) {
		s.grow()
	}
	at := s.find([16]byte(id[:16]))
	if s.keys[at] != ([16]byte{}) {
		return s.index[at], true
	}
	s.keys[at], s.index[at] = [16]byte(id[:16]), index
	s.n++
	return 0, false
}

func (s *identities) find(key [16]byte) int {
	mask := len(s.keys) - 1 // its number is a power of two
	at := int(binary.BigEndian.Uint32(key[:])) & mask
	for s.keys[at] != ([16]byte{}) && s.keys[at] != key {
		at = (at + 1) & mask
	}
	return at
}

func (s *identities) grow() {
	old := *s
	n := max(1024, 2*len(old.keys))
	s.keys, s.index = make([][16]byte, n), make([]uint64, n)
	for i, k := range old.keys {
		if k != ([16]byte{}) {
			at := s.find(k)
			s.keys[at], s.index[at] = k, old.index[i]
		}
	}
}
