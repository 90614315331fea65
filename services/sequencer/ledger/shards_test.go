package ledger

import (
	"bytes"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/trialog/trialog/api/entry"
	"github.com/trialog/trialog/api/statement"
)

const second = "log.test/trials/2"

func open(t *testing.T, dir string) *Ledger {
	t.Helper()
	l, err := Open(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// say applies statements of one kind by one writer to the newest shard, and
// commits them.
func say(t *testing.T, l *Ledger, stmts ...*statement.Statement) {
	t.Helper()
	c := l.Change()
	for _, s := range stmts {
		size, err := c.Size()
		if err != nil {
			t.Fatal(err)
		}
		at := &entry.Entry{Received: time.UnixMilli(int64(size))}
		if err := c.Apply(size, at, s, identity(s)); err != nil {
			t.Fatal(err)
		}
	}
	c.Reached([32]byte{7})
	c.Ends([32]byte{8})
	if err := c.Commit(); err != nil {
		t.Fatal(err)
	}
}

func identity(s *statement.Statement) statement.Identity {
	return statement.LogDigest(string(s.Kind) + s.Trial + s.Version)
}

func speaker(kind statement.Kind, trial, version string, attributes ...statement.Member) *statement.Statement {
	return &statement.Statement{
		Kind: kind, Trial: trial, Version: version, Organisation: "acme", Attributes: attributes,
		Signers: []statement.Signer{{Key: statement.KeyID{1}}},
	}
}

// TestShards: positions, places and what was said go on from shard to shard,
// also when the ledger is opened again.
func TestShards(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir)
	k := keys(t)[0]
	enrol := speaker(statement.KindKey, "", "", statement.TextMember("action", "enrol"), statement.KeyMember("publicKey", k.Public()),
		statement.ListMember("roles", "sponsor"))
	end := speaker(statement.KindShardEnd, "", "", statement.TextMember("successor", second))
	begin(t, l)
	say(t, l, speaker(statement.KindTrial, "T1", ""), enrol, end)
	if s := l.Shard(); s.Successor != second || s.Size != 3 {
		t.Errorf("the first shard is %+v", s)
	}
	c := l.Change()
	if err := c.Apply(3, &entry.Entry{}, enrol, identity(enrol)); !errors.Is(err, ErrEnded) {
		t.Errorf("behind a shard-end: %v", err)
	}
	if err := c.Discard(); err != nil {
		t.Fatal(err)
	}
	if err := l.Begin(origin, true); err == nil {
		t.Error("a shard was begun twice")
	}
	if err := l.Begin(second, false); err != nil {
		t.Fatal(err)
	}
	say(t, l, speaker(statement.KindProtocol, "T1", ""))
	revoke := speaker(statement.KindKey, "", "", statement.TextMember("action", "revoke"), statement.TextMember("revokes", k.ID().String()),
		statement.TextMember("suspectOrigin", second), statement.CountMember("suspectFrom", 1))
	for round := range 2 {
		want := []Shard{
			{Origin: origin, Size: 3, Root: [32]byte{7}, LastLeaf: [32]byte{8}, Indexed: true, Successor: second},
			{Origin: second, Size: uint64(1 + round), Root: [32]byte{7}, LastLeaf: [32]byte{8}},
		}
		if got := l.Shards(); !reflect.DeepEqual(got, want) {
			t.Errorf("the shards are\n%+v, expected\n%+v", got, want)
		}
		if place, found, err := l.Find(identity(end)); err != nil || !found || place != (Place{origin, 2}) {
			t.Errorf("the shard-end is at %v, %t, %v", place, found, err)
		}
		if place, found, err := l.Find(identity(speaker(statement.KindProtocol, "T1", ""))); err != nil || found {
			t.Errorf("a statement of a shard that is not indexed is at %v, %v", place, err)
		}
		key, err := l.Key(k.ID())
		if err != nil || key.Place != (Place{origin, 1}) || key.Revoked != (round == 1) || round == 1 && key.SuspectFrom != 1 {
			t.Errorf("the key is %+v, %v", key, err)
		}
		trial, err1 := l.Trial("T1")
		said, err2 := l.Said("T1", statement.KindProtocol)
		if err1 != nil || err2 != nil || trial.Owner != "acme" || !said {
			t.Errorf("trial %+v, protocol %t, %v, %v", trial, said, err1, err2)
		}
		if round == 0 {
			say(t, l, revoke)
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			l = open(t, dir)
		}
	}
	if err := l.Reset(); err != nil {
		t.Fatal(err)
	}
	empty(t, l, k)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = open(t, dir)
	defer l.Close()
	empty(t, l, k)
	if err := l.Change().Apply(0, &entry.Entry{}, enrol, identity(enrol)); err == nil {
		t.Error("applied without a shard")
	}
}

func empty(t *testing.T, l *Ledger, k *statement.PrivateKey) {
	t.Helper()
	key, err1 := l.Key(k.ID())
	trial, err2 := l.Trial("T1")
	_, found, err3 := l.Find(identity(speaker(statement.KindShardEnd, "", "")))
	if err := errors.Join(err1, err2, err3); err != nil || key != nil || trial != nil || found || len(l.Shards()) != 0 || l.Shard() != (Shard{}) {
		t.Errorf("it still knows %v, %v, %t, %v, %v", key, trial, found, l.Shards(), err)
	}
}

// TestOtherFormat: a ledger of another format is made again, a damaged one is an
// error.
func TestOtherFormat(t *testing.T) {
	for name, tt := range map[string]struct {
		key, value []byte
		words      string // of the error; none if it is empty then
	}{
		"older":               {[]byte{tableFormat}, []byte{format - 1}, ""},
		"newer":               {[]byte{tableFormat}, []byte{format + 1}, ""},
		"without a mark":      {[]byte{tableFormat}, nil, ""},
		"strange mark":        {[]byte{tableFormat}, []byte{format, 0}, ""},
		"a damaged position":  {shardKey(0), []byte{9}, "shard 0"},
		"a position too long": {shardKey(0), append(Shard{Origin: origin}.encode(), 0), "bytes after"},
	} {
		dir := t.TempDir()
		l := open(t, dir)
		begin(t, l)
		say(t, l, speaker(statement.KindTrial, "T1", ""))
		err := l.db.Set(tt.key, tt.value, pebble.Sync)
		if tt.value == nil {
			err = l.db.Delete(tt.key, pebble.Sync)
		}
		if err := errors.Join(err, l.Close()); err != nil {
			t.Fatal(err)
		}
		l, err = Open(dir, nil)
		if tt.words != "" {
			if err == nil || !strings.Contains(err.Error(), tt.words) {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if trial, err := l.Trial("T1"); err != nil || trial != nil || len(l.Shards()) != 0 {
			t.Errorf("%s: %v, %v, %v", name, trial, l.Shards(), err)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestHotValues: what is remembered is what is stored, however much is written.
func TestHotValues(t *testing.T) {
	l := open(t, t.TempDir())
	defer l.Close()
	begin(t, l)
	const many = 3 * hotEntries / 2
	for round := range uint64(2) {
		c := l.Change()
		for i := range uint64(many) {
			s := speaker(statement.KindCredential, "", "")
			s.Signers[0].Key = statement.KeyID{byte(i), byte(i >> 8), byte(i >> 16), 9}
			s.Chain.Number = round*many + i + 1
			if err := c.Apply(round*many+i, &entry.Entry{Received: time.UnixMilli(1)}, s, statement.Identity{byte(i)}); err != nil {
				t.Fatal(err)
			}
		}
		if err := c.Commit(); err != nil {
			t.Fatal(err)
		}
		for i := range uint64(many) {
			h, err := l.Chain("", statement.KeyID{byte(i), byte(i >> 8), byte(i >> 16), 9})
			if err != nil || h.Number != round*many+i+1 {
				t.Fatalf("round %d, chain %d: %+v, %v", round, i, h, err)
			}
		}
	}
	if len(l.hot) > hotEntries || len(l.warm) > hotEntries {
		t.Errorf("%d and %d values are remembered", len(l.hot), len(l.warm))
	}
}

// FuzzDecode: a value that is read is written as the same bytes.
func FuzzDecode(f *testing.F) {
	f.Add(Shard{Origin: origin, Size: 300, Indexed: true, Successor: second}.encode())
	f.Add(Head{Number: 1 << 40, Identity: statement.Identity{1}, Received: 1 << 41}.encode())
	key := Key{
		Organisation: "acme", Roles: []statement.Role{"sponsor"}, Place: Place{origin, 300}, DER: []byte{1}, By: []statement.KeyID{{1}},
		Revoked: true, SuspectOrigin: origin, SuspectFrom: 9,
	}
	f.Add(key.encode(1))
	f.Add(Organisation{First: statement.KeyID{1}, Recovery: []byte{1}}.encode())
	f.Add(course{Trial{"acme", statement.Identity{1}}, []statement.Kind{"trial"}}.encode())
	f.Fuzz(func(t *testing.T, raw []byte) {
		same := func(d *decoder, again []byte) {
			if d.done() == nil && !bytes.Equal(again, raw) {
				t.Fatalf("%x is written as %x", raw, again)
			}
		}
		if s, err := decodeShard(raw); err == nil && !bytes.Equal(s.encode(), raw) {
			t.Fatalf("%x is written as %x", raw, s.encode())
		}
		d := &decoder{rest: raw}
		same(d, decodeHead(d).encode())
		d = &decoder{rest: raw}
		same(d, decodeOrganisation(d).encode())
		d = &decoder{rest: raw}
		same(d, decodeCourse(d).encode())
		d = &decoder{rest: raw}
		var shard int
		k := decodeKey(d, func(d *decoder) Place {
			n, index := d.number(), d.number()
			if shard = int(n); n > 1<<16 {
				d.fail("too many shards")
			}
			return Place{Index: index}
		})
		same(d, k.encode(shard))
	})
}
