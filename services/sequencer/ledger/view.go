package ledger

import (
	"fmt"
	"slices"

	"github.com/trialog/trialog/api/statement"
)

// Shard is how far the ledger has read a shard.
type Shard struct {
	Origin string
	Size   uint64 // entries that were read
	// Root is the root of the tree of Size entries, if a Change has told it.
	Root [32]byte
	// LastLeaf is the RFC 6962 hash of entry Size-1, if a Change has told it.
	LastLeaf [32]byte
	// Indexed tells whether Find knows the shard's statements.
	Indexed bool
	// Successor is the origin that the last entry names, if that is a shard-end:
	// then nothing may follow.
	Successor string
}

// Head is the newest statement of a writer's chain.
type Head struct {
	Number   uint64
	Identity statement.Identity
	Received int64 // ms, by the log's clock
}

// Place is where an entry lies: in which shard, and there at which index.
type Place struct {
	Origin string
	Index  uint64
}

// Key is an enrolled key.
type Key struct {
	Organisation string
	Roles        []statement.Role
	Place               // of the enrolment
	DER          []byte // SubjectPublicKeyInfo
	// By are the co-signers of the enrolment whose own enrolment its proof needs.
	By      []statement.KeyID
	Revoked bool
	// SuspectOrigin and SuspectFrom name the first entry that is suspect.
	SuspectOrigin string
	SuspectFrom   uint64
}

// Organisation is an organisation by its first enrolment.
type Organisation struct {
	First    statement.KeyID
	Recovery []byte // DER
}

// Trial is a trial by its first statement.
type Trial struct {
	Owner string
	First statement.Identity
}

// course is a trial with the kinds that were said in it. They lie together
// because whoever asks for one asks for the other.
type course struct {
	Trial // zero if no statement of kind "trial" was read
	said  []statement.Kind
}

// source is what a ledger and a change to it have in common. Nobody changes what
// they return.
type source interface {
	get(key []byte) (value []byte, found bool, err error)
	position() []Shard
	newest() Shard
}

// View reads the ledger, or the ledger as a change will leave it. It may be used
// concurrently; that of a Change only while nothing is applied to it.
type View struct{ from source }

// Keys of the store: one letter, then names, each ended by a zero byte, which
// no token contains.
func dbKey(table byte, parts ...string) []byte {
	n := 1
	for _, p := range parts {
		n += len(p) + 1
	}
	k := append(make([]byte, 0, n), table)
	for _, p := range parts {
		k = append(k, p...)
		k = append(k, 0)
	}
	return k
}

const (
	tableFormat   = 'v'
	tableShard    = 's'
	tableChain    = 'c'
	tableKey      = 'k'
	tableOrg      = 'o'
	tableTrial    = 't'
	tableParty    = 'd' // organisations that a trial's owner has delegated to
	tableIdentity = 'i' // of statements in indexed shards
)

func shardKey(n int) []byte { return []byte{tableShard, byte(n >> 8), byte(n)} }

func chainKey(trial string, writer statement.KeyID) []byte {
	k := make([]byte, 0, 2+len(trial)+len(writer))
	k = append(k, tableChain)
	k = append(k, trial...)
	k = append(k, 0)
	return append(k, writer[:]...)
}

func digestKey(table byte, id statement.Digest) []byte {
	return append(append(make([]byte, 0, 1+len(id)), table), id[:]...)
}

// Shards returns what was read of which shard, oldest first.
func (v View) Shards() []Shard { return v.from.position() }

// Shard returns the newest shard; the zero Shard if none was begun.
func (v View) Shard() Shard { return v.from.newest() }

// Size returns how many entries of the newest shard are in the ledger.
func (v View) Size() (uint64, error) { return v.Shard().Size, nil }

// Chain returns the head of writer's chain in trial ("" outside trials); the
// zero Head if there is none.
func (v View) Chain(trial string, writer statement.KeyID) (Head, error) {
	if trial != "" {
		// Whoever says something in a trial makes it known. That nothing was said in
		// it has mostly been found out before, and is at hand.
		if _, found, err := v.from.get(dbKey(tableTrial, trial)); err != nil || !found {
			return Head{}, err
		}
	}
	return read(v, chainKey(trial, writer), decodeHead)
}

// Find returns where the statement with this identity lies, if that is in an
// indexed shard.
func (v View) Find(id statement.Identity) (place Place, found bool, err error) {
	raw, found, err := v.from.get(digestKey(tableIdentity, id))
	if err != nil || !found {
		return Place{}, false, err
	}
	d := decoder{rest: raw}
	place = v.place(&d)
	if err := d.done(); err != nil {
		return Place{}, false, fmt.Errorf("read the ledger: a place: %w", err)
	}
	return place, true, nil
}

// place reads a place.
func (v View) place(d *decoder) Place {
	n, index := d.number(), d.number()
	shards := v.from.position()
	if n >= uint64(len(shards)) {
		d.fail("no shard with this number")
		return Place{}
	}
	return Place{Origin: shards[n].Origin, Index: index}
}

// Key returns an enrolled key; nil if id is not enrolled.
func (v View) Key(id statement.KeyID) (*Key, error) {
	return pointer(v, digestKey(tableKey, id), func(d *decoder) Key { return decodeKey(d, v.place) })
}

// Organisation returns an organisation; nil if it has no key.
func (v View) Organisation(name string) (*Organisation, error) {
	return pointer(v, dbKey(tableOrg, name), decodeOrganisation)
}

// Trial returns a trial; nil if nothing was said of it.
func (v View) Trial(name string) (*Trial, error) {
	c, err := read(v, dbKey(tableTrial, name), decodeCourse)
	if err != nil || c.First.IsZero() {
		return nil, err
	}
	return &c.Trial, nil
}

// Said tells whether a statement of kind was said in trial.
func (v View) Said(trial string, kind statement.Kind) (bool, error) {
	c, err := read(v, dbKey(tableTrial, trial), decodeCourse)
	return slices.Contains(c.said, kind), err
}

// Delegated tells whether the trial's owner has delegated a task to
// organisation.
func (v View) Delegated(trial, organisation string) (bool, error) {
	_, found, err := v.from.get(dbKey(tableParty, trial, organisation))
	return found, err
}

// read decodes the value at key; the zero value if there is none.
func read[T any](v View, key []byte, decode func(*decoder) T) (T, error) {
	var zero T
	p, err := pointer(v, key, decode)
	if err != nil || p == nil {
		return zero, err
	}
	return *p, nil
}

// pointer decodes the value at key; nil if there is none.
func pointer[T any](v View, key []byte, decode func(*decoder) T) (*T, error) {
	raw, found, err := v.from.get(key)
	if err != nil || !found {
		return nil, err
	}
	d := decoder{rest: raw}
	value := decode(&d)
	if err := d.done(); err != nil {
		return nil, fmt.Errorf("read the ledger: table %q: %w", key[0], err)
	}
	return &value, nil
}
