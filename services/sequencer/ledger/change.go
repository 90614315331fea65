package ledger

import (
	"errors"
	"fmt"
	"slices"

	"github.com/trialog/trialog/api/entry"
	"github.com/trialog/trialog/api/statement"
)

// ErrEnded is returned by Apply for an entry behind a shard-end.
var ErrEnded = errors.New("the shard has ended")

// Change collects what new entries change. It is read like the ledger, and takes
// effect with Commit.
type Change struct {
	View
	ledger *Ledger
	values map[string][]byte
	shards []Shard // as they will be; a copy
}

// Change starts a change on top of the ledger.
func (l *Ledger) Change() *Change {
	c := &Change{ledger: l, values: map[string][]byte{}, shards: l.position()}
	c.from = c
	return c
}

// get implements source.
func (c *Change) get(key []byte) ([]byte, bool, error) {
	if v, ok := c.values[string(key)]; ok {
		return v, true, nil
	}
	return c.ledger.get(key)
}

// position implements source.
func (c *Change) position() []Shard { return slices.Clone(c.shards) }

// newest implements source.
func (c *Change) newest() (s Shard) {
	if n := len(c.shards); n > 0 {
		s = c.shards[n-1]
	}
	return s
}

// Discard forgets a change.
func (c *Change) Discard() error {
	c.values = nil
	return nil
}

// Commit makes the change part of the ledger, not durably: after a crash the
// entries are read from the log again.
func (c *Change) Commit() error {
	if err := c.ledger.write(c.values, c.shards); err != nil {
		return fmt.Errorf("change the ledger: %w", err)
	}
	return nil
}

func (c *Change) set(key, value []byte) { c.values[string(key)] = value }

// Apply adds the statement of the entry at index of the newest shard, which must
// be the next one. The statement must have been admitted; Apply does not judge
// it. After an error the change is only good to be discarded.
func (c *Change) Apply(index uint64, e *entry.Entry, s *statement.Statement, id statement.Identity) error {
	if len(c.shards) == 0 {
		return errors.New("change the ledger: no shard was begun")
	}
	number := len(c.shards) - 1
	shard := &c.shards[number]
	if shard.Size != index {
		return fmt.Errorf("the ledger holds %d entries, the next one cannot be %d", shard.Size, index)
	}
	if shard.Successor != "" {
		return fmt.Errorf("entry %d: %w", index, ErrEnded)
	}
	head := Head{Number: s.Chain.Number, Identity: id, Received: e.Received.UnixMilli()}
	c.set(chainKey(s.Trial, s.Writer()), head.encode())
	if shard.Indexed {
		c.set(digestKey(tableIdentity, id), encodePlace(nil, number, index))
	}
	if err := c.applyKind(index, s, id); err != nil {
		return err
	}
	shard.Size, shard.Root, shard.LastLeaf = index+1, [32]byte{}, [32]byte{}
	if s.Kind == statement.KindShardEnd {
		shard.Successor = s.TextAttribute("successor")
	}
	return nil
}

// Reached notes the root of the newest shard's tree as far as it was applied. Root
// and last leaf bind the ledger to the log that it was read from: that of another
// one may have the same size.
func (c *Change) Reached(root [32]byte) {
	if n := len(c.shards); n > 0 {
		c.shards[n-1].Root = root
	}
}

// Ends notes the leaf hash of the entry that was applied last.
func (c *Change) Ends(leaf [32]byte) {
	if n := len(c.shards); n > 0 {
		c.shards[n-1].LastLeaf = leaf
	}
}

func (c *Change) applyKind(index uint64, s *statement.Statement, id statement.Identity) error {
	if s.Kind == statement.KindKey {
		return c.applyKey(index, s)
	}
	if s.Trial == "" {
		return nil
	}
	if to := s.TextAttribute("toOrganisation"); s.Kind == statement.KindDelegation && to != "" {
		c.set(dbKey(tableParty, s.Trial, to), []byte{})
	}
	key := dbKey(tableTrial, s.Trial)
	now, err := read(c.View, key, decodeCourse)
	if err != nil {
		return err
	}
	first := s.Kind == statement.KindTrial && now.First.IsZero()
	if first {
		now.Trial = Trial{Owner: s.Organisation, First: id}
	}
	if said := slices.Contains(now.said, s.Kind); said && !first {
		return nil
	} else if !said {
		now.said = append(now.said, s.Kind)
	}
	c.set(key, now.encode())
	return nil
}

func (c *Change) applyKey(index uint64, s *statement.Statement) error {
	number := len(c.shards) - 1
	key, enrols := s.EnrolledKey()
	if !enrols {
		id := s.DigestAttribute("revokes")
		k, err := c.Key(id)
		if err != nil || k == nil {
			return err
		}
		k.Revoked = true
		k.SuspectOrigin, k.SuspectFrom = s.TextAttribute("suspectOrigin"), s.CountAttribute("suspectFrom")
		enrolled := slices.IndexFunc(c.shards, func(s Shard) bool { return s.Origin == k.Origin })
		c.set(digestKey(tableKey, id), k.encode(enrolled))
		return nil
	}
	id := key.ID()
	k := Key{Organisation: s.Organisation, Roles: s.RolesAttribute(), Place: Place{Index: index}, DER: key.DER()}
	for _, signer := range s.SignerIDs() {
		if signer != id {
			k.By = append(k.By, signer)
		}
	}
	c.set(digestKey(tableKey, id), k.encode(number))
	recovery, first := s.RecoveryKey()
	if first {
		c.set(dbKey(tableOrg, s.Organisation), Organisation{First: id, Recovery: recovery.DER()}.encode())
	}
	return nil
}
