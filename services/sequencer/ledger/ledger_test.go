package ledger

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"pgregory.net/rapid"

	"github.com/trialog/trialog/api/entry"
	"github.com/trialog/trialog/api/statement"
)

const origin = "log.test/trials/1"

// begin begins the first shard.
func begin(t interface{ Fatal(args ...any) }, l *Ledger) {
	if err := l.Begin(origin, true); err != nil {
		t.Fatal(err)
	}
}

// said is a statement with what the log adds.
type said struct {
	stmt *statement.Statement
	id   statement.Identity
	at   *entry.Entry
}

// model is what a ledger should know, the slow way: it keeps the statements.
type model []said

func (m model) chain(trial string, writer statement.KeyID) Head {
	for _, s := range slices.Backward(m) {
		if s.stmt.Trial == trial && s.stmt.Writer() == writer {
			return Head{Number: s.stmt.Chain.Number, Identity: s.id, Received: s.at.Received.UnixMilli()}
		}
	}
	return Head{}
}

func (m model) key(id statement.KeyID) *Key {
	var k *Key
	for i, s := range m {
		if key, ok := s.stmt.EnrolledKey(); ok && key.ID() == id {
			k = &Key{Organisation: s.stmt.Organisation, Roles: s.stmt.RolesAttribute(), Place: Place{Origin: origin, Index: uint64(i)}, DER: key.DER()}
			for _, by := range s.stmt.SignerIDs() {
				if by != id {
					k.By = append(k.By, by)
				}
			}
		} else if k != nil && s.stmt.Kind == statement.KindKey && s.stmt.DigestAttribute("revokes") == id {
			k.Revoked = true
			k.SuspectOrigin, k.SuspectFrom = s.stmt.TextAttribute("suspectOrigin"), s.stmt.CountAttribute("suspectFrom")
		}
	}
	return k
}

func (m model) organisation(name string) *Organisation {
	var o *Organisation
	for _, s := range m {
		if recovery, first := s.stmt.RecoveryKey(); first && s.stmt.Organisation == name {
			key, _ := s.stmt.EnrolledKey()
			o = &Organisation{First: key.ID(), Recovery: recovery.DER()}
		}
	}
	return o
}

func (m model) trial(name string) *Trial {
	for _, s := range m {
		if s.stmt.Kind == statement.KindTrial && s.stmt.Trial == name {
			return &Trial{Owner: s.stmt.Organisation, First: s.id}
		}
	}
	return nil
}

func (m model) said(trial string, kind statement.Kind) bool {
	return slices.ContainsFunc(m, func(s said) bool { return s.stmt.Trial == trial && s.stmt.Kind == kind })
}

func (m model) delegated(trial, to string) bool {
	return slices.ContainsFunc(m, func(s said) bool {
		return s.stmt.Kind == statement.KindDelegation && s.stmt.Trial == trial && s.stmt.TextAttribute("toOrganisation") == to
	})
}

var (
	trials        = []string{"T1", "T2", "T10"}
	organisations = []string{"acme", "clinic", "acme2"}
	kinds         = []statement.Kind{
		statement.KindTrial, statement.KindProtocol, statement.KindDelegation, statement.KindKey, statement.KindCredential,
	}
)

func keys(t testing.TB) []*statement.PrivateKey {
	t.Helper()
	var list []*statement.PrivateKey
	for i := range 4 {
		k, err := statement.GenerateKey(bytes.NewReader(bytes.Repeat([]byte{byte(i + 1)}, 64)))
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, k)
	}
	return list
}

// draw makes a statement; the ledger does not judge it.
func draw(t *rapid.T, keys []*statement.PrivateKey, n int) said {
	pick := func(label string) *statement.PrivateKey { return rapid.SampledFrom(keys).Draw(t, label) }
	s := &statement.Statement{
		Kind: rapid.SampledFrom(kinds).Draw(t, "kind"), Organisation: rapid.SampledFrom(organisations).Draw(t, "organisation"),
		Chain: statement.Link{Number: rapid.Uint64Range(1, 9).Draw(t, "number")},
	}
	for _, k := range rapid.Permutation(keys).Draw(t, "signers")[:rapid.IntRange(1, 3).Draw(t, "count")] {
		s.Signers = append(s.Signers, statement.Signer{Key: k.ID()})
	}
	switch s.Kind {
	case statement.KindKey:
		if rapid.Bool().Draw(t, "revoke") {
			s.Attributes = []statement.Member{
				statement.TextMember("action", "revoke"), statement.TextMember("revokes", pick("revoked").ID().String()),
				statement.TextMember("suspectOrigin", "log.test/trials/1"), statement.CountMember("suspectFrom", rapid.Uint64Range(0, 99).Draw(t, "from")),
			}
			break
		}
		s.Attributes = []statement.Member{
			statement.TextMember("action", "enrol"), statement.KeyMember("publicKey", pick("enrolled").Public()),
			statement.ListMember("roles", rapid.SampledFrom([]string{"sponsor", "site", "admin"}).Draw(t, "role")),
		}
		if rapid.Bool().Draw(t, "first") {
			s.Attributes = append(s.Attributes, statement.KeyMember("recovery", pick("recovery").Public()))
		}
	case statement.KindDelegation:
		s.Trial = rapid.SampledFrom(trials).Draw(t, "trial")
		if rapid.Bool().Draw(t, "named") {
			s.Attributes = []statement.Member{statement.TextMember("toOrganisation", rapid.SampledFrom(organisations).Draw(t, "to"))}
		}
	case statement.KindCredential:
	default:
		s.Trial = rapid.SampledFrom(trials).Draw(t, "trial")
	}
	return said{s, statement.Digest{1, byte(n), byte(n >> 8)}, &entry.Entry{Received: time.UnixMilli(int64(1000 + n))}}
}

// compare holds a view against the model.
func compare(t *rapid.T, what string, v View, m model, keys []*statement.PrivateKey) {
	t.Helper()
	same := func(name string, got, want any, err error) {
		t.Helper()
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %s is %+v, %v; expected %+v", what, name, got, err, want)
		}
	}
	size, err := v.Size()
	same("size", size, uint64(len(m)), err)
	for _, k := range keys {
		key, err := v.Key(k.ID())
		same("key", key, m.key(k.ID()), err)
		for _, trial := range append([]string{""}, trials...) {
			head, err := v.Chain(trial, k.ID())
			same("chain in "+trial, head, m.chain(trial, k.ID()), err)
		}
	}
	for _, org := range organisations {
		o, err := v.Organisation(org)
		same(org, o, m.organisation(org), err)
		for _, trial := range trials {
			d, err := v.Delegated(trial, org)
			same("delegation in "+trial+" to "+org, d, m.delegated(trial, org), err)
		}
	}
	for _, trial := range trials {
		tr, err := v.Trial(trial)
		same(trial, tr, m.trial(trial), err)
		for _, kind := range kinds {
			if kind == statement.KindKey || kind == statement.KindCredential {
				continue
			}
			is, err := v.Said(trial, kind)
			same(fmt.Sprintf("%s in %s", kind, trial), is, m.said(trial, kind), err)
		}
	}
}

// TestModel holds a ledger, and the view of each change, against the model, and
// at the end one that was filled anew.
func TestModel(t *testing.T) {
	pool, n := keys(t), 0
	dir := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		n++
		path := filepath.Join(dir, strconv.Itoa(n))
		l, err := Open(path, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = os.RemoveAll(path) }()
		begin(t, l)
		var m model
		for range rapid.IntRange(1, 6).Draw(t, "changes") {
			c, after := l.Change(), slices.Clone(m)
			for range rapid.IntRange(0, 5).Draw(t, "statements") {
				s := draw(t, pool, len(after))
				if err := c.Apply(uint64(len(after)), s.at, s.stmt, s.id); err != nil {
					t.Fatal(err)
				}
				after = append(after, s)
			}
			compare(t, "the change", c.View, after, pool)
			compare(t, "the ledger before it", l.View, m, pool)
			if rapid.Bool().Draw(t, "commit") {
				m, err = after, c.Commit()
			} else {
				err = c.Discard()
			}
			if err != nil {
				t.Fatal(err)
			}
			compare(t, "the ledger after it", l.View, m, pool)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if l, err = Open(path, nil); err != nil {
			t.Fatal(err)
		}
		compare(t, "opened again", l.View, m, pool)
		replayed(t, filepath.Join(dir, fmt.Sprint(n, "r")), m, pool)
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// replayed fills a new ledger in one change, as a start without a ledger does.
func replayed(t *rapid.T, path string, m model, pool []*statement.PrivateKey) {
	l, err := Open(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(path) }()
	begin(t, l)
	c := l.Change()
	for i, s := range m {
		if err := c.Apply(uint64(i), s.at, s.stmt, s.id); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Commit(); err != nil {
		t.Fatal(err)
	}
	compare(t, "filled anew", l.View, m, pool)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestApplyInOrderOnly(t *testing.T) {
	l, err := Open(t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	begin(t, l)
	c := l.Change()
	defer c.Discard()
	s := &statement.Statement{Kind: statement.KindProtocol, Trial: "T1", Signers: []statement.Signer{{}}}
	e := &entry.Entry{Received: time.UnixMilli(1)}
	for _, index := range []uint64{1, 1 << 63} {
		if err := c.Apply(index, e, s, statement.Identity{1}); err == nil {
			t.Errorf("entry %d was applied to an empty ledger", index)
		}
	}
	if err := c.Apply(0, e, s, statement.Identity{1}); err != nil {
		t.Fatal(err)
	}
	if err := c.Apply(0, e, s, statement.Identity{1}); err == nil {
		t.Error("an entry was applied twice")
	}
}

// TestDamaged: what cannot be read is an error, never taken for nothing.
func TestDamaged(t *testing.T) {
	l, err := Open(t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	id := statement.KeyID{7}
	for _, key := range [][]byte{
		chainKey("T1", id), append([]byte{tableKey}, id[:]...), dbKey(tableOrg, "acme"), dbKey(tableTrial, "T1"),
	} {
		if err := l.db.Set(key, []byte("{"), pebble.NoSync); err != nil {
			t.Fatal(err)
		}
	}
	_, err2 := l.Chain("T1", id)
	k, err3 := l.Key(id)
	o, err4 := l.Organisation("acme")
	tr, err5 := l.Trial("T1")
	for i, err := range []error{err2, err3, err4, err5} {
		if err == nil {
			t.Errorf("read %d: no error", i)
		}
	}
	if k != nil || o != nil || tr != nil {
		t.Error("a damaged value was returned")
	}
}
