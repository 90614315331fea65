package loglist_test

import (
	"bytes"
	"errors"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"github.com/trialog/trialog/api/loglist"
	"github.com/trialog/trialog/api/statement"
)

func TestRoundTrip(t *testing.T) {
	signer, other := key(t, "lists"), key(t, "other")
	one := &loglist.List{Log: log, Version: 1, Issued: day(0), Shards: []loglist.Shard{shard("2026", loglist.Active, 0, 0)}}
	forced := honest()
	forced.Shards[2].Forced, forced.Shards[2].Opens = true, day(450)
	between := honest() // one has ended, the next has not opened
	between.Shards[1] = shard("2027", loglist.Ended, 300, 365)
	for name, l := range map[string]*loglist.List{"all states": honest(), "one shard": one, "forced": forced, "none active": between} {
		raw, err := l.Sign(signer)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got, err := loglist.Parse(raw, other.Public(), signer.Public())
		if err != nil || !reflect.DeepEqual(text(t, got), text(t, l)) || !reflect.DeepEqual(got.Shards[0].Final, l.Shards[0].Final) ||
			!got.Issued.Equal(l.Issued) || got.Log != l.Log {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

func text(t *testing.T, l *loglist.List) string {
	t.Helper()
	return encode(t, l)
}

func TestParts(t *testing.T) {
	l := honest()
	if s := l.Active(); s == nil || s.Origin != log+"/2027" {
		t.Errorf("active: %v", s)
	}
	if s := l.Shard(log + "/2028"); s == nil || s.State != loglist.Announced {
		t.Errorf("2028: %v", s)
	}
	l.Shards[1].State = loglist.Ended
	if l.Active() != nil || l.Shard(log+"/2029") != nil {
		t.Error("a shard was found that is not there")
	}
}

func TestParseRejects(t *testing.T) {
	signer, other := key(t, "lists"), key(t, "other")
	payload := []byte(encode(t, honest()))
	sign := func(kind string, payload []byte, keys ...*statement.PrivateKey) []byte {
		raw, err := statement.SignDSSE(kind, payload, keys...)
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	good := sign(loglist.PayloadType, payload, signer)
	_, sigs, err := statement.ParseDSSE(good, loglist.PayloadType, len(good))
	if err != nil {
		t.Fatal(err)
	}
	changed := bytes.Replace(payload, []byte(`"version":7`), []byte(`"version":8`), 1)
	known := []*statement.PublicKey{signer.Public()}
	for name, tt := range map[string]struct {
		raw   []byte
		keys  []*statement.PublicKey
		words string
	}{
		"no keys":        {good, nil, "not signed"},
		"another's":      {sign(loglist.PayloadType, payload, other), known, "not signed"},
		"two signatures": {sign(loglist.PayloadType, payload, signer, other), append(known, other.Public()), "not signed"},
		"changed":        {statement.EncodeDSSE(loglist.PayloadType, changed, sigs), known, "not signed"},
		"as a statement": {sign(statement.PayloadType, payload, signer), known, "payloadType"},
		"too large":      {append(bytes.Clone(good), bytes.Repeat([]byte{' '}, loglist.MaxSize)...), known, ""},
		"no list":        {sign(loglist.PayloadType, []byte("{}"), signer), known, "format"},
	} {
		if l, err := loglist.Parse(tt.raw, tt.keys...); err == nil || l != nil || !strings.Contains(err.Error(), tt.words) {
			t.Errorf("%s: %v, %v; expected %q", name, l, err, tt.words)
		}
	}
}

// TestDecodeRejects: every rule, broken in the payload alone.
func TestDecodeRejects(t *testing.T) {
	good := encode(t, honest())
	millis := func(n int) string { return strconv.FormatInt(day(n).UnixMilli(), 10) }
	vkey := func(shard, n int) string { return `"` + honest().Shards[shard].Keys[n].String() + `"` }
	final := `,"final":` + between(good, `,"final":`, `}},`) + `}`
	list := `[{` + between(good, `[{`, `}]`) + `}]`
	name := func(n int) string {
		return `"origin":"` + honest().Shards[n].Origin + `","keys":[` + vkey(n, 0) + `,` + vkey(n, 1)
	}
	for _, tt := range []struct{ name, field, old, by string }{
		{"format", "format", `-loglist@v1`, `-loglist@v2`},
		{"log", "log", `"log":"log.`, `"log":"Log.`},
		{"version", "version", `"version":7`, `"version":0`},
		{"version as text", "version", `"version":7`, `"version":"7"`},
		{"unknown member", "note", `"version"`, `"note":1,"version"`},
		{"unknown member of a shard", "shards[0].note", `{"origin"`, `{"note":1,"origin"`},
		{"issued in the year 10000", "issuedMillis", `"issuedMillis":` + millis(500), `"issuedMillis":253402300800000`},
		{"no shards", "shards", list, `[]`},
		{"shards is no list", "shards", list, `{}`},
		{"shard is no object", "shards[0]", `"shards":[`, `"shards":[1,`},
		{"origin of another log", "shards[0].origin", `"origin":"log.example.org/trials/2026"`, `"origin":"log.example.org/trial/2026"`},
		{"origin twice", "shards[1].origin", name(1), name(0)},
		{"one key", "shards[0].keys", vkey(0, 0) + ",", ``},
		{"no string as a key", "shards[0].keys[0]", vkey(0, 0), `1`},
		{"no key", "shards[0].keys[0]", vkey(0, 0), `"key"`},
		{"keys in the other order", "shards[0].keys[0]", vkey(0, 0) + "," + vkey(0, 1), vkey(0, 1) + "," + vkey(0, 0)},
		{"one key twice", "shards[0].keys[1]", vkey(0, 1), vkey(0, 0)},
		{"another shard's key", "shards[0].keys[0]", vkey(0, 0), vkey(1, 0)},
		{"URL with a slash", "shards[0].url", `org/2026","state`, `org/2026/","state`},
		{"URL with a query", "shards[0].url", `org/2026","state`, `org/2026?","state`},
		{"URL with a fragment", "shards[0].url", `org/2026","state`, `org/2026#","state`},
		{"URL with a user", "shards[0].url", `https://tiles`, `https://me@tiles`},
		{"URL of a file", "shards[0].url", `https://tiles`, `file://tiles`},
		{"URL without a host", "shards[0].url", `https://tiles.example.org/2026`, `https:/2026`},
		{"empty URL", "shards[0].url", `"url":"https://tiles.example.org/2026"`, `"url":""`},
		{"state", "shards[0].state", `"state":"ended"`, `"state":"frozen"`},
		{"active before one that has ended", "shards[1].state", `"state":"ended"` + between(good, `"state":"ended"`, final) + final, `"state":"active"` + between(good, `"state":"ended"`, final)},
		{"two are active", "shards[2].state", `"state":"announced"`, `"state":"active"`},
		{"forced is false", "shards[2].forced", `}]}`, `,"forced":false}]}`},
		{"forced is null", "shards[2].forced", `}]}`, `,"forced":null}]}`},
		{"an end that is none", "shards[1].final", `"opensMillis":` + millis(365), `"opensMillis":` + millis(365) + final},
		{"an end without its place", "shards[0].final", final, ``},
		{"an end of size 0", "shards[0].final.size", `"size":1000`, `"size":0`},
		{"a root that is short", "shards[0].final.root", `"root":"AQIA`, `"root":"`},
		{"a note of zeros", "shards[0].final.note", `"note":"0304`, `"note":"0000`},
		{"unknown member of an end", "shards[0].final.more", `"size":1000`, `"more":1,"size":1000`},
		{"announced after the list", "shards[2].announcedMillis", millis(450), millis(501)},
		{"announced before the predecessor", "shards[2].announcedMillis", millis(450), millis(299)},
		{"open before it opens", "shards[1].opensMillis", millis(365), millis(501)},
		{"opens before the predecessor", "shards[2].opensMillis", millis(730), millis(364)},
		{"opens without notice", "shards[2].opensMillis", millis(730), millis(479)},
		{"trailing bytes", "", `}]}`, `}]}{}`},
		{"member twice", "version", `"version":7`, `"version":7,"version":7`},
	} {
		payload := strings.Replace(good, tt.old, tt.by, 1)
		if payload == good {
			t.Errorf("%s: changes nothing", tt.name)
			continue
		}
		l, err := loglist.Decode([]byte(payload))
		var field *statement.FieldError
		if l != nil || !errors.As(err, &field) || field.Field != tt.field {
			t.Errorf("%s: %v, expected the field %q", tt.name, err, tt.field)
		}
	}
	least := strings.Replace(good, millis(730), millis(480), 1)
	if _, err := loglist.Decode([]byte(least)); err != nil {
		t.Errorf("30 days of notice: %v", err)
	}
}

// between returns what stands in s between the first a and the next b.
func between(s, a, b string) string {
	_, s, _ = strings.Cut(s, a)
	s, _, _ = strings.Cut(s, b)
	return s
}

func TestEncodeChecks(t *testing.T) {
	l := honest()
	l.Shards[1].State = loglist.Announced
	l.Shards[2].State = loglist.Active
	if _, err := l.Sign(key(t, "lists")); err == nil {
		t.Error("a list that nobody would read was signed")
	}
	l = honest()
	for range loglist.MaxShards {
		l.Shards = append(l.Shards, l.Shards[2])
	}
	if _, err := l.Encode(); err == nil || !strings.Contains(err.Error(), "found 131") {
		t.Errorf("too many shards: %v", err)
	}
}

// FuzzDecode: what is read is written in one form that reads the same.
func FuzzDecode(f *testing.F) {
	f.Add([]byte(encode(f, honest())))
	f.Fuzz(func(t *testing.T, payload []byte) {
		l, err := loglist.Decode(payload)
		if err != nil {
			return
		}
		once, err := l.Encode()
		if err != nil {
			t.Fatalf("Encode refuses what Decode accepts: %v", err)
		}
		again, err := loglist.Decode(once)
		if err != nil {
			t.Fatal(err)
		}
		if twice, err := again.Encode(); err != nil || !bytes.Equal(once, twice) {
			t.Fatalf("written as %s, then as %s, %v", once, twice, err)
		}
	})
}
