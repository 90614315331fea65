package loglist

import (
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/internal/strictjson"
	"github.com/trialog/trialog/api/statement"
)

// Decode reads the payload of a log list strictly. It verifies no signature; see
// Parse. Its errors are *statement.FieldError inside, with the member's path.
func Decode(payload []byte) (*List, error) {
	o, err := strictjson.ParseObject(payload)
	if err != nil {
		return nil, fmt.Errorf("log list: %w", err)
	}
	if got := o.Text("format"); got != Format {
		o.Fail("format", "expected %q", Format)
	}
	l := &List{Log: o.Text("log"), Version: o.Unsigned("version"), Issued: millis(o, "issuedMillis")}
	o.Take(statement.CheckLog("log", l.Log))
	if l.Version == 0 {
		o.Fail("version", "expected at least 1")
	}
	items := o.Required("shards", strictjson.Array).Items
	if len(items) < 1 || len(items) > MaxShards {
		o.Fail("shards", "expected 1 to %d, found %d", MaxShards, len(items))
		items = nil
	}
	for i, item := range items {
		nested := strictjson.NewObject(fmt.Sprintf("shards[%d]", i), item)
		s := readShard(nested, l.Log)
		l.checkPlace(nested, &s)
		o.Join(nested)
		l.Shards = append(l.Shards, s)
	}
	if err := o.Done(); err != nil {
		return nil, fmt.Errorf("log list: %w", err)
	}
	return l, nil
}

// millis reads a time in ms since 1970, up to the end of the year 9999.
func millis(o *strictjson.Object, name string) time.Time {
	t := time.UnixMilli(int64(o.Unsigned(name))).UTC() //nolint:gosec // at most 2^53-1
	if t.Year() > 9999 {
		o.Fail(name, "expected a time up to the end of the year 9999")
	}
	return t
}

// readShard reads one shard, and what must hold for it alone.
func readShard(o *strictjson.Object, log string) Shard {
	s := Shard{
		Origin: o.Text("origin"), URL: o.OptionalText("url"), State: State(o.Text("state")),
		Announced: millis(o, "announcedMillis"), Opens: millis(o, "opensMillis"),
	}
	if statement.CheckLog("origin", s.Origin) != nil || !statement.IsShardOf(s.Origin, log) {
		o.Fail("origin", "expected a shard of %s", log)
	}
	s.Keys = readKeys(o, s.Origin)
	if s.URL != "" && !isBase(s.URL) {
		o.Fail("url", "expected an http or https URL without a trailing slash, query, fragment or user")
	}
	if s.State.rank() == 0 {
		o.Fail("state", "expected %q, %q or %q", Announced, Active, Ended)
	}
	if v, ok := o.Optional("forced"); ok {
		if s.Forced = v.Truth; v.Kind != strictjson.Bool || !v.Truth {
			o.Fail("forced", "expected true, or nothing")
		}
	}
	_, has := o.Optional("final")
	switch {
	case has && s.State != Ended:
		o.Fail("final", "only a shard that has ended has one")
	case has || s.State == Ended:
		s.Final = readFinal(o)
	}
	return s
}

// readKeys reads the two keys of a shard.
func readKeys(o *strictjson.Object, origin string) []*checkpoint.VerifierKey {
	want := []checkpoint.Algorithm{checkpoint.AlgEd25519, checkpoint.AlgMLDSA44}
	items := o.Required("keys", strictjson.Array).Items
	if len(items) != len(want) {
		o.Fail("keys", "expected %d, found %d", len(want), len(items))
		return nil
	}
	var keys []*checkpoint.VerifierKey
	for i, item := range items {
		name := fmt.Sprintf("keys[%d]", i)
		if item.Kind != strictjson.String {
			o.Fail(name, "expected a string, found %s", item.Kind)
			return nil
		}
		k, err := checkpoint.ParseVerifierKey(item.Text)
		switch {
		case err != nil:
			o.Fail(name, "%s", err)
			return nil
		case k.Name() != origin || k.Algorithm() != want[i] || k.String() != item.Text:
			o.Fail(name, "expected the shard's %s key, named like its origin", want[i])
		}
		keys = append(keys, k)
	}
	return keys
}

func readFinal(o *strictjson.Object) *Final {
	nested := o.Object("final")
	f := &Final{Size: nested.Unsigned("size")}
	if f.Size == 0 {
		nested.Fail("size", "expected at least 1, for the shard-end")
	}
	if root, ok := strictjson.Base64(nested.Text("root")); !ok || len(root) != len(f.Root) {
		nested.Fail("root", "expected the base64 of %d bytes", len(f.Root))
	} else {
		f.Root = checkpoint.Hash(root)
	}
	var err error
	if f.Note, err = statement.ParseDigest(nested.Text("note")); err != nil || f.Note.IsZero() {
		nested.Fail("note", "expected 64 lower-case hexadecimal digits, not all of them zero")
	}
	o.Join(nested)
	return f
}

// isBase tells whether s is the base of URLs, in its one spelling.
func isBase(s string) bool {
	u, err := url.Parse(s)
	return err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Host != "" && u.User == nil && u.RawQuery == "" &&
		!u.ForceQuery && u.Fragment == "" && u.Opaque == "" && !strings.ContainsAny(s, "#") && !strings.HasSuffix(s, "/") && u.String() == s
}

// checkPlace checks what must hold for a shard behind those that were read.
func (l *List) checkPlace(o *strictjson.Object, s *Shard) {
	first := len(l.Shards) == 0
	for i := range l.Shards {
		if l.Shards[i].Origin == s.Origin {
			o.Fail("origin", "shards[%d] has it too", i)
		}
	}
	if !first {
		before := &l.Shards[len(l.Shards)-1]
		switch {
		case s.State.rank() > before.State.rank():
			o.Fail("state", "a shard does not get ahead of its predecessor, which is %s", before.State)
		case s.State == Active && before.State == Active:
			o.Fail("state", "two shards are %s", Active)
		}
		if s.Opens.Before(before.Opens) {
			o.Fail("opensMillis", "expected a time from that of the predecessor on")
		}
		if s.Announced.Before(before.Announced) {
			o.Fail("announcedMillis", "expected a time from that of the predecessor on")
		}
	}
	if s.Announced.After(l.Issued) {
		o.Fail("announcedMillis", "expected a time up to issuedMillis")
	}
	if s.State != Announced && s.Opens.After(l.Issued) {
		o.Fail("opensMillis", "expected a time up to issuedMillis, as the shard has opened")
	}
	least := s.Announced
	if !first && !s.Forced { // who would have followed the first one's announcement?
		least = least.Add(Notice)
	}
	if s.Opens.Before(least) {
		o.Fail("opensMillis", "expected a time at least %d days after announcedMillis, or forced", int(Notice.Hours())/24)
	}
}
