package loglist_test

import (
	"testing"
	"time"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/internal/testlog"
	"github.com/trialog/trialog/api/loglist"
	"github.com/trialog/trialog/api/statement"
)

const log = "log.example.org/trials"

func day(n int) time.Time { return time.UnixMilli(1_772_323_200_000).UTC().AddDate(0, 0, n) }

func keys(origin string) []*checkpoint.VerifierKey {
	var list []*checkpoint.VerifierKey
	for _, alg := range []checkpoint.Algorithm{checkpoint.AlgEd25519, checkpoint.AlgMLDSA44} {
		list = append(list, testlog.Must(checkpoint.ParseVerifierKey(testlog.NewNoteKey(origin, alg).String())))
	}
	return list
}

func shard(name string, state loglist.State, announced, opens int) loglist.Shard {
	s := loglist.Shard{
		Origin: log + "/" + name, Keys: keys(log + "/" + name), State: state, Announced: day(announced), Opens: day(opens),
	}
	if state == loglist.Ended {
		s.Final = &loglist.Final{Size: 1000, Root: checkpoint.Hash{1, 2}, Note: statement.Digest{3, 4}}
	}
	return s
}

// honest is a list with a shard in each state.
func honest() *loglist.List {
	l := &loglist.List{Log: log, Version: 7, Issued: day(500), Shards: []loglist.Shard{
		shard("2026", loglist.Ended, 0, 0), shard("2027", loglist.Active, 300, 365), shard("2028", loglist.Announced, 450, 730),
	}}
	l.Shards[0].URL, l.Shards[1].URL = "https://tiles.example.org/2026", "http://127.0.0.1:8080"
	return l
}

func key(t testing.TB, label string) *statement.PrivateKey {
	t.Helper()
	var k *statement.PrivateKey
	if err := testlog.Do(func() { k = testlog.Ed25519Key(label) }); err != nil {
		t.Fatal(err)
	}
	return k
}

func encode(t testing.TB, l *loglist.List) string {
	t.Helper()
	payload, err := l.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return string(payload)
}
