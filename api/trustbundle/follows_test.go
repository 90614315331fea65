package trustbundle_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/internal/testlog"
	"github.com/trialog/trialog/api/loglist"
	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/api/trustbundle"
	"github.com/trialog/trialog/api/verify"
)

// next is a world in which time went on honestly: the list names an end, a key
// more is revoked, the retired key counts for less, another shard is there.
func next(t *testing.T) *believed {
	t.Helper()
	w := newBelieved(t)
	third := testlog.NewShard(testlog.Log+"/2028", testlog.Start)
	lines := fmt.Sprintf("log %s\nlog %s\n", third.Keys[0], third.Keys[1])
	w.text = strings.Replace(w.text, "# Each operator", lines+"# Each operator", 1)
	w.sidecar["requiredLogKeys"] = append(w.sidecar["requiredLogKeys"].([]any), third.Keys[0].String(), third.Keys[1].String())
	w.list.Version, w.list.Issued = 4, day(400)
	w.list.Shards = append(w.list.Shards, loglist.Shard{
		Origin: third.Origin, State: loglist.Announced, Announced: day(390), Opens: day(430), Keys: vkeys(third),
	})
	until(w, 0)["size"] = 39
	w.keyring.Origin, w.keyring.Size = w.Second.Origin, 3
	k := &w.keyring.Keys[0]
	k.Revoked, k.SuspectOrigin, k.SuspectFrom = true, w.Second.Origin, 1
	return w
}

// until is one limit of the retired key.
func until(w *believed, n int) map[string]any {
	return w.sidecar["retired"].([]map[string]any)[0]["until"].([]map[string]any)[n]
}

func TestFollows(t *testing.T) {
	w := newBelieved(t)
	old := signed(t, w.content(t), w.signers[:2]...)
	must(t, trustbundle.Follows(old, signed(t, next(t).after(t, old), w.signers[1:]...)))

	same := w.after(t, old)
	same.Version += 7
	must(t, trustbundle.Follows(old, signed(t, same, w.signers...)))

	// Other signers, and for these the old ones too.
	same.Signers, same.Threshold = public(signer(11), signer(12)), 1
	must(t, trustbundle.Follows(old, signed(t, same, w.signers[0], w.signers[1], signer(12))))
}

func TestFollowsRejects(t *testing.T) {
	for _, tt := range []struct {
		name, words string
		world       func(w *believed)
		content     func(c *trustbundle.Content)
		keys        []*statement.PrivateKey
	}{
		{name: "the same version", words: "version", content: func(c *trustbundle.Content) { c.Version = 5 }},
		{name: "an older version", words: "version", content: func(c *trustbundle.Content) { c.Version = 4 }},
		{name: "another one before", words: "previous", content: func(c *trustbundle.Content) { c.Previous[0]++ }},
		{name: "issued earlier", words: "issuedMillis", content: func(c *trustbundle.Content) { c.Issued = day(331).Add(-time.Millisecond) }},
		{name: "one of the old signers", words: "1 of the signers", content: func(c *trustbundle.Content) {
			c.Signers, c.Threshold = public(signer(1), signer(11)), 2
		}, keys: []*statement.PrivateKey{signer(1), signer(11)}},
		{name: "none of the old signers", words: "0 of the signers", content: func(c *trustbundle.Content) {
			c.Signers = public(signer(11), signer(12))
		}, keys: []*statement.PrivateKey{signer(11), signer(12)}},
		{name: "the same old signer twice", words: "two signatures", content: func(c *trustbundle.Content) {
			c.Signers, c.Threshold = public(signer(11)), 1
		}, keys: []*statement.PrivateKey{signer(1), signer(1), signer(11)}},
		{name: "a keyring less", words: "keyring", world: func(w *believed) { w.keyring = nil }},
		{name: "a keyring that ends earlier", words: "keyring", world: func(w *believed) { w.keyring.Origin, w.keyring.Size = w.First.Origin, 39 }},
		{name: "a keyring with a key less", words: "does not hold key", world: func(w *believed) { w.keyring.Keys = w.keyring.Keys[1:] }},
		{name: "a key enrolled elsewhere", words: "does not hold key", world: func(w *believed) { w.keyring.Keys[0].Enrolled++ }},
		{name: "a revocation less", words: "revocation", world: func(w *believed) {
			k := &w.keyring.Keys[1]
			k.Revoked, k.SuspectOrigin = false, ""
		}},
		{name: "another keyring as of the same entry", words: "another keyring", world: func(w *believed) {
			w.keyring.Origin, w.keyring.Size = w.First.Origin, 40
			k := &w.keyring.Keys[1]
			k.SuspectFrom++
		}},
		{name: "a key more as of the same entry", words: "another keyring", world: func(w *believed) {
			w.keyring.Origin, w.keyring.Size = w.First.Origin, 40
			w.keyring.Keys = append(w.keyring.Keys, verify.KeyringKey{
				Key: signer(10).ID(), Organisation: "sponsor-a", Origin: w.First.Origin, Enrolled: 3,
			})
		}},
		{name: "a log list less", words: "logList", world: func(w *believed) { w.list = nil }},
		{name: "an older log list", words: "version 2", world: func(w *believed) { w.list.Version = 2 }},
		{name: "another list of one version", words: "another list", world: func(w *believed) {
			w.list.Version, w.list.Issued = 3, day(330)
			w.list.Shards = w.list.Shards[:2]
			w.list.Shards[0].URL = "https://elsewhere.example.org"
		}},
		{name: "a log list with other keys", words: "other keys", world: func(w *believed) {
			w.list.Shards[1].Keys = []*checkpoint.VerifierKey{
				testlog.LabelledNoteKey(w.Second.Origin, checkpoint.AlgEd25519, "x").VerifierKey, w.list.Shards[1].Keys[1],
			}
		}},
		{name: "a shard less", words: "policy", world: func(w *believed) { without(w, w.Second) }},
	} {
		w := newBelieved(t)
		c := w.content(t)
		c.Version, c.Previous = 5, statement.Digest{9}
		old := signed(t, c, w.signers...)
		now := next(t)
		if tt.world != nil {
			tt.world(now)
		}
		c = now.after(t, old)
		if tt.content != nil {
			tt.content(&c)
		}
		if tt.keys == nil {
			tt.keys = w.signers
		}
		payload, err := c.Encode()
		must(t, err)
		raw, err := statement.SignDSSE(trustbundle.PayloadType, payload, tt.keys...)
		must(t, err)
		b, err := trustbundle.Parse(raw)
		if err != nil {
			t.Errorf("%s: cannot be read: %v", tt.name, err)
			continue
		}
		refused(t, tt.name, trustbundle.Follows(old, b), tt.words)
	}
}

// without takes a shard out of a world's policy.
func without(w *believed, s *testlog.Shard) {
	for _, k := range s.Keys {
		w.text = strings.Replace(w.text, "log "+k.String()+"\n", "", 1)
		w.sidecar["requiredLogKeys"] = slices.DeleteFunc(w.sidecar["requiredLogKeys"].([]any), func(v any) bool { return v == k.String() })
	}
	retired := w.sidecar["retired"].([]map[string]any)[0]
	retired["until"] = retired["until"].([]map[string]any)[:1]
	w.keyring.Origin, w.keyring.Size = w.First.Origin, 40
	for i := range w.keyring.Keys {
		w.keyring.Keys[i].SuspectOrigin = w.First.Origin
	}
}

func TestFollowsAnotherLog(t *testing.T) {
	w := newBelieved(t)
	old := signed(t, w.content(t), w.signers...)
	other := newBelieved(t)
	other.keyring, other.list = nil, nil
	delete(other.sidecar, "finals")
	delete(other.sidecar, "retired")
	const name = "log.example.org/others"
	s := testlog.NewShard(name+"/2026", testlog.Start)
	other.text = fmt.Sprintf("log %s\nquorum none\n", s.Keys[0])
	other.sidecar["log"], other.sidecar["requiredLogKeys"], other.sidecar["operators"] = name, []any{s.Keys[0].String()}, map[string]any{}
	c := other.after(t, old)
	c.Log = name
	refused(t, "another log", trustbundle.Follows(old, signed(t, c, w.signers...)), "log")
	refused(t, "another log's policy", trustbundle.FollowsPolicy(old.Policy(), other.policy(t)), "about log")
}

func TestFollowsPolicy(t *testing.T) {
	must(t, trustbundle.FollowsPolicy(newBelieved(t).policy(t), next(t).policy(t)))
	for _, tt := range []struct {
		name, words string
		change      func(w *believed)
	}{
		{"a shard less", "its place", func(w *believed) { without(w, w.Second) }},
		{"shards in another order", "its place", func(w *believed) {
			lines := fmt.Sprintf("log %s\nlog %s\n", w.First.Keys[0], w.First.Keys[1])
			w.text = strings.Replace(w.text, lines, "", 1)
			w.text = strings.Replace(w.text, "# Each operator", lines+"# Each operator", 1)
		}},
		{"a log key less", "other log lines", func(w *believed) {
			w.text = strings.Replace(w.text, "log "+w.First.Keys[1].String()+"\n", "", 1)
		}},
		{"a log key more", "other log lines", func(w *believed) {
			k := testlog.LabelledNoteKey(w.First.Origin, checkpoint.AlgEd25519, "another")
			w.text = strings.Replace(w.text, "# Each operator", "log "+k.String()+"\n# Each operator", 1)
		}},
		{"a key not required any more", "other keys are required", func(w *believed) {
			w.sidecar["requiredLogKeys"] = w.sidecar["requiredLogKeys"].([]any)[1:]
		}},
		{"an end less", "ended at 40", func(w *believed) { delete(w.sidecar, "finals") }},
		{"an end at another size", "ended at 40", func(w *believed) { w.sidecar["finals"].([]map[string]any)[0]["size"] = 41 }},
		{"an end with another root", "ended at 40", func(w *believed) {
			w.sidecar["finals"].([]map[string]any)[0]["root"] = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE="
		}},
		{"a retired key that is not any more", "was retired", func(w *believed) { delete(w.sidecar, "retired") }},
		{"a retired key that counts further", "up to 41", func(w *believed) { until(w, 0)["size"] = 41 }},
		{"a retired key that counts for a further shard", "2028", func(w *believed) {
			r := w.sidecar["retired"].([]map[string]any)[0]
			r["until"] = append(r["until"].([]map[string]any), map[string]any{"origin": testlog.Log + "/2028", "size": 0})
		}},
	} {
		w := next(t)
		tt.change(w)
		err := trustbundle.FollowsPolicy(newBelieved(t).policy(t), w.policy(t))
		refused(t, tt.name, err, tt.words)
		if _, ok := errors.AsType[*trustbundle.HistoryError](err); !ok {
			t.Errorf("%s: %T", tt.name, err)
		}
	}
}

func TestUpdate(t *testing.T) {
	w := newBelieved(t)
	first := signed(t, w.content(t), w.signers...)
	second := signed(t, w.after(t, first), w.signers...)
	third := signed(t, next(t).after(t, second), w.signers...)
	now := third.Content().Issued.Add(time.Hour)
	for _, chain := range [][]*trustbundle.Bundle{{second}, {second, third}} {
		got, err := trustbundle.Update(first, now, chain...)
		if err != nil || got != chain[len(chain)-1] {
			t.Errorf("a chain of %d: %v", len(chain), err)
		}
	}
	short := w.after(t, first)
	short.Expires = short.Issued.Add(time.Minute)
	between := signed(t, short, w.signers...)
	last := w.after(t, between)
	last.Expires = second.Content().Expires
	if _, err := trustbundle.Update(first, now, between, signed(t, last, w.signers...)); err != nil {
		t.Errorf("one of those between has expired: %v", err)
	}
	for _, tt := range []struct {
		name, words string
		now         time.Time
		chain       []*trustbundle.Bundle
	}{
		{"nothing", "no newer", now, nil},
		{"the held one again", "version", now, []*trustbundle.Bundle{first}},
		{"one left out", "previous", now, []*trustbundle.Bundle{third}},
		{"the other way round", "previous", now, []*trustbundle.Bundle{third, second}},
		{"the held one has expired", "version 1", first.Content().Expires, []*trustbundle.Bundle{second}},
		{"the new one has expired", "version 2", now, []*trustbundle.Bundle{between}},
		{"a bundle of tomorrow", "to come", second.Content().Issued.Add(-6 * time.Minute), []*trustbundle.Bundle{second}},
	} {
		_, err := trustbundle.Update(first, tt.now, tt.chain...)
		refused(t, tt.name, err, tt.words)
	}
	if _, err := trustbundle.Update(first, first.Content().Expires, second); !errors.Is(err, trustbundle.ErrExpired) {
		t.Errorf("expired: %v", err)
	}
	if _, err := trustbundle.Update(first, second.Content().Issued.Add(-4*time.Minute), second); err != nil {
		t.Errorf("clocks that differ a little: %v", err)
	}
}

func TestKeepsReceipts(t *testing.T) {
	const quorum = "group quorum-of-operators 2 ethics regulator university\n"
	for _, tt := range []struct {
		name, words string // words empty: they are kept
		change      func(w *believed)
	}{
		{"as it was", "", func(*believed) {}},
		{"time went on", "", func(w *believed) { *w = *next(t) }},
		{"a further operator", "", func(w *believed) {
			k := testlog.NewNoteKey("witness.fourth.example", checkpoint.AlgMLDSA44)
			w.text = strings.Replace(w.text, quorum, "witness fourth "+k.String()+"\ngroup quorum-of-operators 2 ethics regulator university fourth\n", 1)
			w.sidecar["operators"].(map[string]any)["fourth"] = "Fourth F"
		}},
		{"a new key of an operator", "", func(w *believed) {
			k := testlog.LabelledNoteKey(w.Operators[1].Keys[0].Name(), checkpoint.AlgEd25519Cosignature, "new")
			w.text = strings.Replace(w.text, "group regulator any ", "witness regulator-3 "+k.String()+"\ngroup regulator any regulator-3 ", 1)
		}},
		{"other names", "", func(w *believed) {
			w.text = strings.ReplaceAll(w.text, "ethics-1", "committee-1")
		}},
		{"one of three is enough", "", func(w *believed) {
			w.text = strings.Replace(w.text, quorum, strings.Replace(quorum, " 2 ", " any ", 1), 1)
		}},
		{"all three", "none any more", func(w *believed) {
			w.text = strings.Replace(w.text, quorum, strings.Replace(quorum, " 2 ", " all ", 1), 1)
		}},
		{"both keys of one", "none any more", func(w *believed) {
			w.text = strings.Replace(w.text, "group ethics any", "group ethics all", 1)
		}},
		{"a key less", "none any more", func(w *believed) {
			delete(w.sidecar, "retired")
			line := fmt.Sprintf("witness ethics-1 %s https://%s/\n", w.Operators[0].Keys[0], w.Operators[0].Keys[0].Name())
			w.text = strings.Replace(w.text, line, "", 1)
			w.text = strings.Replace(w.text, "any ethics-1 ethics-2", "any ethics-2", 1)
		}},
		{"another quorum", "none any more", func(w *believed) {
			w.text = strings.Replace(w.text, "quorum quorum-of-operators", "quorum regulator", 1)
		}},
		{"no received ones", "not accepted", func(w *believed) { w.sidecar["acceptReceived"] = false }},
		{"a gateway less", "gateway", func(w *believed) { w.sidecar["gateways"] = []string{signer(21).ID().String()} }},
	} {
		world := func() *believed {
			w := newBelieved(t)
			w.sidecar["acceptReceived"] = true
			w.sidecar["gateways"] = []string{signer(20).ID().String(), signer(21).ID().String()}
			return w
		}
		old, w := world(), world()
		tt.change(w)
		if tt.name == "time went on" {
			w.sidecar["acceptReceived"], w.sidecar["gateways"] = true, old.sidecar["gateways"]
		}
		err := trustbundle.KeepsReceipts(old.policy(t), w.policy(t))
		if tt.words == "" {
			if err != nil {
				t.Errorf("%s: %v", tt.name, err)
			}
			continue
		}
		refused(t, tt.name, err, tt.words)
	}
}

// TestKeepsReceiptsNone: a policy that asks for no witnesses keeps receipts that
// have none, and one that asks for some does not.
func TestKeepsReceiptsNone(t *testing.T) {
	w, none := newBelieved(t), newBelieved(t)
	none.text = strings.Replace(none.text, "quorum quorum-of-operators", "quorum none", 1)
	must(t, trustbundle.KeepsReceipts(w.policy(t), none.policy(t)))
	refused(t, "from none", trustbundle.KeepsReceipts(none.policy(t), w.policy(t)), "none any more")
}

// TestManyQuorums: what cannot be looked at is not said to hold.
func TestManyQuorums(t *testing.T) {
	var text strings.Builder
	s := testlog.NewShard(testlog.Log+"/2026", testlog.Start)
	fmt.Fprintf(&text, "log %s\n", s.Keys[0])
	var names []string
	for i := range 24 {
		name := fmt.Sprintf("w%d", i)
		fmt.Fprintf(&text, "witness %s %s\n", name, testlog.LabelledNoteKey(name+".example", checkpoint.AlgEd25519Cosignature, name))
		names = append(names, name)
	}
	fmt.Fprintf(&text, "group all-of-them 12 %s\nquorum all-of-them\n", strings.Join(names, " "))
	all := strings.Replace(text.String(), " 12 ", " all ", 1)
	sidecar := fmt.Sprintf(`{"format":%q,"log":%q,"logOperator":"L","requiredLogKeys":[%q],"acceptReceived":false,"operators":{"all-of-them":"W"}}`,
		verify.TrustFormat, testlog.Log, s.Keys[0].String())
	p, err := verify.ParsePolicy([]byte(text.String()), []byte(sidecar))
	must(t, err)
	refused(t, "2.7 million quorums", trustbundle.KeepsReceipts(p, p), "too many")
	whole, err := verify.ParsePolicy([]byte(all), []byte(sidecar))
	must(t, err)
	if err := trustbundle.KeepsReceipts(whole, p); err != nil {
		t.Errorf("the one quorum of all: %v", err)
	}
}
