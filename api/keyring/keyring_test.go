package keyring_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/trialog/trialog/api/internal/testlog"
	"github.com/trialog/trialog/api/keyring"
	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/api/verify"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// read reads shards whole.
func read(t testing.TB, shards ...*testlog.Shard) *keyring.State {
	t.Helper()
	s := keyring.New(testlog.Log)
	for _, shard := range shards {
		must(t, s.Begin(shard.Origin))
		for _, e := range shard.Entries {
			must(t, s.Add(e))
		}
	}
	return s
}

func TestStory(t *testing.T) {
	story := testlog.Tell()
	s := read(t, story.First, story.Second)
	ring := s.Keyring()
	if ring.Log != testlog.Log || ring.Origin != story.Second.Origin || ring.Size != story.Second.Size() {
		t.Errorf("read up to %d of %s", ring.Size, ring.Origin)
	}
	var want []verify.KeyringKey
	for _, m := range []*testlog.Member{story.Admin, story.Device, story.Site, story.Gateway, story.Ethics, story.Stolen} {
		want = append(want, verify.KeyringKey{Key: m.Key.ID(), Organisation: m.Org, Origin: m.Shard.Origin, Enrolled: m.EnrolledAt})
	}
	stolen := &want[len(want)-1]
	stolen.Revoked, stolen.SuspectOrigin, stolen.SuspectFrom = true, story.First.Origin, story.Late.Index
	if !slices.Equal(ring.Keys, want) {
		t.Errorf("the keys are\n%+v, expected\n%+v", ring.Keys, want)
	}
	// The strangers, whom an honest log would not have let in.
	var left []uint64
	ignored, _ := s.Ignored()
	for _, i := range ignored {
		left = append(left, i.Index)
	}
	if !slices.Equal(left, []uint64{story.Smuggled.EnrolledAt, story.Rogue.EnrolledAt}) {
		t.Errorf("left out: %+v", ignored)
	}
	raw := story.Keyring(ring)
	got, err := verify.ParseKeyring(raw, []*statement.PublicKey{story.Auditor.Public()})
	must(t, err)
	if !slices.Equal(got.Keys, want) {
		t.Error("the signed snapshot says something else")
	}
}

// TestIgnoredIsBounded: a log that is full of what nobody can read costs no memory.
func TestIgnoredIsBounded(t *testing.T) {
	s := keyring.New(testlog.Log)
	must(t, s.Begin(testlog.Log+"/2026"))
	const n = keyring.MaxIgnored + 5
	for range n {
		must(t, s.Add([]byte("nothing")))
	}
	if list, all := s.Ignored(); len(list) != keyring.MaxIgnored || all != n || list[0].Index != 0 {
		t.Errorf("%d of %d are kept, from %d on", len(list), all, list[0].Index)
	}
}

// TestVerdicts: verify says of the story's receipts what the keyring means.
func TestVerdicts(t *testing.T) {
	story := testlog.Tell()
	ring := story.Keyring(read(t, story.First).Keyring())
	for _, tt := range []struct {
		name     string
		l        *testlog.Logged
		document []byte
		status   verify.KeyStatus
		fails    verify.Link
	}{
		{"a key that was never revoked", story.Plain, story.Pdf, verify.StatusValid, ""},
		{"before the suspect entry", story.Early, story.Pdf, verify.StatusRevoked, ""},
		{"at the suspect entry", story.Late, story.Pdf2, "", verify.LinkKeyStatus},
		{"a second first key", story.ByRogue, story.Pdf2, "", verify.LinkKeyStatus},
	} {
		raw, err := story.Receipt(tt.l, story.Final).Encode()
		must(t, err)
		v, err := verify.Verify(verify.Input{
			Policy: story.Policy(), Receipt: raw, Document: tt.document, Keyring: ring, Now: testlog.Now(),
		})
		switch {
		case tt.fails == "" && (err != nil || v.Signers[0].Status != tt.status):
			t.Errorf("%s: %v, %+v", tt.name, err, v.Signers)
		case tt.fails != "" && (err == nil || v.Failure.Link != tt.fails):
			t.Errorf("%s: %v, expected it to fail at %s", tt.name, err, tt.fails)
		}
	}
}

// TestRules says one statement about keys after an honest beginning.
func TestRules(t *testing.T) {
	type member = testlog.Member
	fresh := func(org string, roles ...statement.Role) *member {
		return &member{Org: org, Key: testlog.Ed25519Key("fresh of " + org), Roles: roles}
	}
	for _, tt := range []struct {
		name, words string // words empty: it counts
		say         func(w *testlog.Story)
	}{
		{"by the admin", "", func(w *testlog.Story) { w.Enrol(fresh("sponsor-a", statement.Sponsor), []*member{w.Admin}) }},
		{"by the recovery key", "", func(w *testlog.Story) { w.Enrol(fresh("sponsor-a", statement.Sponsor), []*member{w.Recovery}) }},
		{"a first one", "", func(w *testlog.Story) {
			m := fresh("sponsor-c", statement.Admin)
			m.Recovery = testlog.Ed25519Key("recovery of sponsor-c")
			w.Enrol(m, nil)
		}},
		{"another recovery key by the one in force", "", func(w *testlog.Story) {
			m := fresh("sponsor-a", statement.Admin)
			m.Recovery = testlog.Ed25519Key("the next recovery of sponsor-a")
			w.Enrol(m, []*member{w.Recovery})
		}},
		{"the same recovery key again by the admin", "", func(w *testlog.Story) {
			m := fresh("sponsor-a", statement.Sponsor)
			m.Recovery = w.Recovery.Key
			w.Enrol(m, []*member{w.Admin})
		}},
		{"a second revocation", "", func(w *testlog.Story) { revoke(w, w.Stolen, 3, w.Recovery) }},
		{"another recovery key by the admin", "another recovery key", func(w *testlog.Story) {
			m := fresh("sponsor-a", statement.Admin)
			m.Recovery = testlog.Ed25519Key("the next recovery of sponsor-a")
			w.Enrol(m, []*member{w.Admin})
		}},
		{"a first one without a recovery key", "nobody entitled", func(w *testlog.Story) { w.Enrol(fresh("sponsor-c", statement.Admin), nil) }},
		{"by nobody else", "nobody entitled", func(w *testlog.Story) { w.Enrol(fresh("sponsor-a", statement.Admin), nil) }},
		{"by a key that is no admin", "nobody entitled", func(w *testlog.Story) { w.Enrol(fresh("sponsor-a"+"", statement.Sponsor), []*member{w.Device}) }},
		{"by the admin of another organisation", "nobody entitled", func(w *testlog.Story) { w.Enrol(fresh("sponsor-a", statement.Sponsor), []*member{w.Site}) }},
		{"by a revoked admin", "nobody entitled", func(w *testlog.Story) {
			revoke(w, w.Admin, 20, w.Recovery)
			w.Enrol(fresh("sponsor-a", statement.Sponsor), []*member{w.Admin})
		}},
		{"a key that is enrolled", "enrolled already", func(w *testlog.Story) { w.Enrol(w.Device, []*member{w.Admin}) }},
		{"a key that another organisation has", "enrolled already", func(w *testlog.Story) {
			w.Enrol(&member{Org: "site-b", Key: w.Device.Key, Roles: []statement.Role{statement.Site}}, []*member{w.Site})
		}},
		{"signed by somebody else than it says", "signatures", func(w *testlog.Story) {
			m := fresh("sponsor-a", statement.Sponsor)
			w.Enrol(m, []*member{w.Admin}, testlog.SignedBy(m.Key, w.Site.Key))
		}},
		{"with a signature less", "signature", func(w *testlog.Story) {
			m := fresh("sponsor-a", statement.Sponsor)
			w.Enrol(m, []*member{w.Admin}, testlog.SignedBy(m.Key))
		}},
		{"revoked by the admin", "recovery key has not signed", func(w *testlog.Story) { revoke(w, w.Device, 3, w.Admin) }},
		{"revoked by another organisation's recovery key", "not enrolled for", func(w *testlog.Story) {
			revoke(w, w.Device, 3, &member{Org: "site-b", Key: w.Site.Recovery})
		}},
		{"revoked in another's name", "recovery key has not signed", func(w *testlog.Story) {
			revoke(w, w.Device, 3, &member{Org: "sponsor-a", Key: w.Site.Recovery})
		}},
		{"a revocation that somebody else signed", "signatures", func(w *testlog.Story) {
			revoke(w, w.Device, 3, w.Recovery, testlog.SignedBy(w.Admin.Key))
		}},
		{"no such key", "not enrolled for", func(w *testlog.Story) { revoke(w, fresh("sponsor-a"), 3, w.Recovery) }},
		{"an entry that is none", "entry", func(w *testlog.Story) { w.First.AddEntry([]byte{9, 9}) }},
		{"no statement", "cannot be read", func(w *testlog.Story) { w.First.Add([]byte(`{"payloadType":"x"}`)) }},
	} {
		var w *testlog.Story
		must(t, testlog.Do(func() { w = testlog.Tell() }))
		before := read(t, w.First)
		must(t, testlog.Do(func() { tt.say(w) }))
		after := read(t, w.First)
		same := fmt.Sprint(before.Keyring().Keys) == fmt.Sprint(after.Keyring().Keys)
		news, _ := after.Ignored()
		_, old := before.Ignored()
		news = news[old:]
		if tt.words == "" {
			if same || len(news) != 0 {
				t.Errorf("%s: does not count: %+v", tt.name, news)
			}
			continue
		}
		if len(news) != 1 || !strings.Contains(news[0].Reason, tt.words) || news[0].Index != w.First.Size()-1 {
			t.Errorf("%s: left out: %+v, expected %q", tt.name, news, tt.words)
		}
		if !same && tt.name != "by a revoked admin" {
			t.Errorf("%s: counts", tt.name)
		}
	}
}

// revoke says that a key is suspect from an index of the first shard on.
func revoke(w *testlog.Story, m *testlog.Member, from uint64, by *testlog.Member, options ...testlog.Option) {
	w.Say(statement.Statement{
		Kind: statement.KindKey, Subject: statement.SubjectKey, Digest: m.Key.ID(),
		Attributes: []statement.Member{
			statement.TextMember("action", "revoke"), statement.TextMember("revokes", m.Key.ID().String()),
			statement.TextMember("suspectOrigin", w.First.Origin), statement.CountMember("suspectFrom", from),
		},
	}, []*testlog.Member{by}, options...)
}

func TestOrder(t *testing.T) {
	s := keyring.New(testlog.Log)
	if err := s.Add(nil); err == nil {
		t.Error("an entry of no shard")
	}
	if err := s.Begin("log.example.org/other/1"); err == nil {
		t.Error("a shard of another log")
	}
	must(t, s.Begin(testlog.Log+"/1"))
	must(t, s.Begin(testlog.Log+"/2"))
	if err := s.Begin(testlog.Log + "/1"); err == nil {
		t.Error("a shard twice")
	}
}

// FuzzAdd: whatever an entry is, it is counted, and what is signed of it can be
// read.
func FuzzAdd(f *testing.F) {
	story := testlog.Tell()
	for _, e := range story.First.Entries {
		f.Add(e)
	}
	story.First.Entries = story.First.Entries[:6] // the enrolments
	f.Fuzz(func(t *testing.T, raw []byte) {
		s := read(t, story.First)
		must(t, s.Add(raw))
		ring := s.Keyring()
		if ring.Size != story.First.Size()+1 {
			t.Fatalf("%d entries", ring.Size)
		}
		signed, err := statement.SignDSSE(verify.KeyringPayloadType, ring.Encode(), story.Auditor)
		must(t, err)
		got, err := verify.ParseKeyring(signed, []*statement.PublicKey{story.Auditor.Public()})
		if err != nil || !slices.Equal(got.Keys, ring.Keys) {
			t.Fatalf("the snapshot cannot be read: %v", err)
		}
	})
}
