package generate

import (
	"bytes"
	"fmt"
	"time"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/internal/testlog"
	"github.com/trialog/trialog/api/loglist"
	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/api/vectors"
)

// listed is a shard as a log list names it.
func listed(s *testlog.Shard, state loglist.State, announced, opens time.Time) loglist.Shard {
	out := loglist.Shard{Origin: s.Origin, State: state, Announced: announced, Opens: opens}
	for _, k := range s.Keys {
		out.Keys = append(out.Keys, testlog.Must(checkpoint.ParseVerifierKey(k.String())))
	}
	return out
}

// logLists adds vectors of the ops loglist and loglist-follows.
func (g *set) logLists() {
	key := testlog.Ed25519Key("log lists")
	day := func(n int) time.Time { return time.Unix(testlog.Start, 0).UTC().AddDate(0, 0, n) }
	first := listed(g.First, loglist.Active, day(0), day(0))
	first.URL = "https://tiles.example.org/2026"
	old := &loglist.List{Log: testlog.Log, Version: 1, Issued: day(320), Shards: []loglist.Shard{
		first, listed(g.Second, loglist.Announced, day(320), day(365)),
	}}
	next := &loglist.List{Log: testlog.Log, Version: 2, Issued: day(366), Shards: []loglist.Shard{
		first, listed(g.Second, loglist.Active, day(320), day(365)),
	}}
	note := g.Note(g.First, g.First.Size())
	next.Shards[0].State = loglist.Ended
	next.Shards[0].Final = &loglist.Final{
		Size: note.Checkpoint().Size, Root: note.Checkpoint().Root, Note: statement.Digest(note.Digest()),
	}
	payload := testlog.Must(next.Encode())
	sign := func(payload []byte) []byte {
		return testlog.Must(statement.SignDSSE(loglist.PayloadType, payload, key))
	}
	der := g.file("loglist/loglist-key.der", key.Public().DER())
	one := func(id, what, field string, data []byte) vectors.Vector {
		v := g.one("loglist", "list", id, what, data, field)
		v.Inputs["key"] = der
		return v
	}
	g.accept(one("announced", "an active shard, and one that is announced", "", testlog.Must(old.Sign(key))))
	g.accept(one("ended", "a shard that has ended, and its successor", "", sign(payload)))
	opens := func(n int) string { return fmt.Sprintf(`"opensMillis":%d`, day(n).UnixMilli()) }
	size := fmt.Sprintf(`"final":{"size":%d`, note.Checkpoint().Size)
	for _, c := range []change{
		{"version-zero", "version 0", "version", `"version":2`, `"version":0`},
		{"unknown", "an unknown member", "note", `"version"`, `"note":"","version"`},
		{"state", "a state that there is not", "shards[1].state", `"active"`, `"frozen"`},
		{"final-announced", "an end of a shard that has no entry yet", "shards[0].final", `"ended"`, `"announced"`},
		{"origin-other-log", "a shard of another log", "shards[0].origin", g.First.Origin, "log.example.org/others/2026"},
		{
			"key-of-other-shard", "a key that is not named like its origin", "shards[1].keys[0]",
			g.Second.Keys[0].String(), g.First.Keys[0].String(),
		},
		{"url-slash", "a base URL with a trailing slash", "shards[0].url", first.URL, first.URL + "/"},
		{"final-size", "an end without an entry", "shards[0].final.size", size, `"final":{"size":0`},
		{"not-forced", "forced in another form than its absence", "shards[1].forced", `}]}`, `,"forced":false}]}`},
		{"short-notice", "29 days from the announcement to the opening", "shards[1].opensMillis", opens(365), opens(349)},
		{"open-early", "a shard that is active before it opens", "shards[1].opensMillis", opens(365), opens(367)},
	} {
		changed := bytes.Replace(payload, []byte(c.old), []byte(c.by), 1)
		if bytes.Equal(changed, payload) {
			g.wrongf("loglist-%s changes nothing", c.id)
		}
		g.reject(one(c.id, c.what, c.field, sign(changed)))
	}
	g.reject(one("other-key", "signed by another key", "", testlog.Must(next.Sign(testlog.Ed25519Key("pending records")))))
	g.reject(one("as-statement", "signed under the payload type of statements", "payloadType",
		testlog.Must(statement.SignDSSE(statement.PayloadType, payload, key))))
	g.logListHistory(old, next, key)
}

// logListHistory adds vectors of op loglist-follows.
func (g *set) logListHistory(old, next *loglist.List, key *statement.PrivateKey) {
	der, before := "loglist/loglist-key.der", g.file("loglist/loglist-announced", testlog.Must(old.Sign(key)))
	pair := func(id, what string, change func(*loglist.List)) vectors.Vector {
		l := *next
		l.Shards = append([]loglist.Shard(nil), next.Shards...)
		change(&l)
		v := g.one("loglist-follows", "next", id, what, testlog.Must(l.Sign(key)), "")
		v.Inputs["old"], v.Inputs["key"] = before, der
		return v
	}
	g.accept(pair("end", "the first shard has ended, the announced one is active", func(*loglist.List) {}))
	g.accept(pair("url", "the tiles of the first shard have moved", func(l *loglist.List) {
		l.Shards[0].URL = "https://archive.example.org/2026"
	}))
	for _, c := range []struct {
		id, what string
		change   func(*loglist.List)
	}{
		{"same-version", "the version is not greater", func(l *loglist.List) { l.Version = old.Version }},
		{"removed", "the first shard is not named any more", func(l *loglist.List) { l.Shards = l.Shards[1:] }},
		{"keys", "the second shard has another Ed25519 key", func(l *loglist.List) {
			other := testlog.LabelledNoteKey(g.Second.Origin, checkpoint.AlgEd25519, "another")
			l.Shards[1].Keys = []*checkpoint.VerifierKey{other.VerifierKey, l.Shards[1].Keys[1]}
		}},
		{"announced", "the second shard is said to be announced earlier", func(l *loglist.List) {
			l.Shards[1].Announced = l.Shards[1].Announced.Add(-time.Hour)
		}},
		{"back", "the first shard, which was active, is announced", func(l *loglist.List) {
			l.Shards[0].State, l.Shards[0].Final = loglist.Announced, nil
			l.Shards[1].State = loglist.Announced
		}},
		{"opening", "the first shard has opened at another time", func(l *loglist.List) {
			l.Shards[0].Opens = l.Shards[0].Opens.Add(time.Hour)
		}},
	} {
		g.reject(pair(c.id, c.what, c.change))
	}
}
