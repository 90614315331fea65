package loglist_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/trialog/trialog/api/loglist"
	"github.com/trialog/trialog/api/statement"
)

// next is what honestly follows honest: the active shard has ended, the
// announced one is open, and another one is announced.
func next() *loglist.List {
	l := honest()
	l.Version, l.Issued = 8, day(800)
	l.Shards[1] = shard("2027", loglist.Ended, 300, 365)
	l.Shards[2].State = loglist.Active
	l.Shards = append(l.Shards, shard("2029", loglist.Announced, 780, 1095))
	return l
}

func TestFollows(t *testing.T) {
	if err := loglist.Follows(honest(), next()); err != nil {
		t.Fatal(err)
	}
	newer := honest()
	newer.Version++
	newer.Shards[2].Opens = day(500)
	newer.Shards[2].Forced = true
	newer.Shards[1].URL = ""
	if err := loglist.Follows(honest(), newer); err != nil {
		t.Errorf("another URL, and an opening that is forced: %v", err)
	}
	for _, tt := range []struct {
		name, origin, words string
		change              func(old, next *loglist.List)
	}{
		{"another log", "", "of log", func(_, l *loglist.List) { l.Log = "log.example.org/others" }},
		{"the same version", "", "version 7", func(_, l *loglist.List) { l.Version = 7 }},
		{"an older version", "", "version 6", func(_, l *loglist.List) { l.Version = 6 }},
		{"issued earlier", "", "issued before", func(_, l *loglist.List) { l.Issued = day(499) }},
		{"a shard fewer", "", "names 2 shards", func(_, l *loglist.List) { l.Shards = l.Shards[:2] }},
		{"a shard removed", "2027", "its place", func(_, l *loglist.List) { l.Shards = append(l.Shards[:1:1], l.Shards[2:]...) }},
		{"a shard put in", "2027", "its place", func(_, l *loglist.List) {
			l.Shards = append(l.Shards[:1:1], append([]loglist.Shard{shard("2026b", loglist.Ended, 300, 365)}, l.Shards[1:]...)...)
		}},
		{"other keys", "2027", "other keys", func(_, l *loglist.List) { l.Shards[1].Keys = l.Shards[2].Keys }},
		{"a key less", "2027", "other keys", func(_, l *loglist.List) { l.Shards[1].Keys = l.Shards[1].Keys[:1] }},
		{"announced earlier", "2028", "announced at another", func(_, l *loglist.List) { l.Shards[2].Announced = day(449) }},
		{"a shard that is open again", "2026", "is active, and was ended", func(_, l *loglist.List) {
			l.Shards[0].State, l.Shards[0].Final = loglist.Active, nil
		}},
		{"a shard that is announced again", "2027", "is announced, and was active", func(_, l *loglist.List) {
			l.Shards[1] = shard("2027", loglist.Announced, 300, 365)
		}},
		{"an end of another size", "2026", "another end", func(_, l *loglist.List) { l.Shards[0].Final.Size++ }},
		{"an end with another root", "2026", "another end", func(_, l *loglist.List) { l.Shards[0].Final.Root[31]++ }},
		{"an end with another note", "2026", "another end", func(_, l *loglist.List) { l.Shards[0].Final.Note = statement.Digest{9} }},
		{"an opening that was at another time", "2027", "opened at another", func(_, l *loglist.List) {
			l.Shards[1].Opens = l.Shards[1].Opens.Add(time.Millisecond)
		}},
		{"an opening that is forced afterwards", "2027", "opened at another", func(_, l *loglist.List) { l.Shards[1].Forced = true }},
		{"an opening that is not forced any more", "2028", "was forced", func(old, _ *loglist.List) { old.Shards[2].Forced = true }},
		{"an announcement dated back", "2029", "announced before version 7", func(_, l *loglist.List) { l.Shards[3].Announced = day(499) }},
	} {
		old, l := honest(), next()
		tt.change(old, l)
		err := loglist.Follows(old, l)
		var history *loglist.HistoryError
		want := tt.origin
		if want != "" {
			want = log + "/" + want
		}
		if !errors.As(err, &history) || history.Origin != want || !strings.Contains(err.Error(), tt.words) {
			t.Errorf("%s: %v, expected %q about %q", tt.name, err, tt.words, want)
		}
	}
}
