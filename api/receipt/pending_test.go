package receipt_test

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/trialog/trialog/api/receipt"
	"github.com/trialog/trialog/api/statement"
)

func promise() *receipt.Pending {
	return &receipt.Pending{
		Log: "log.example.org/trials", Origin: origin, Identity: digest("identity"), Index: 1<<53 - 1, LeafHash: digest("leaf"),
		Received: time.UnixMilli(1_800_000_000_123).UTC(), Deadline: time.UnixMilli(1_800_000_060_123).UTC(),
	}
}

func TestPendingRoundTrip(t *testing.T) {
	log, other := key(t, "log"), key(t, "other")
	raw, err := promise().Sign(log)
	if err != nil {
		t.Fatal(err)
	}
	for name, keys := range map[string][]*statement.PublicKey{"one": {log.Public()}, "two": {other.Public(), log.Public()}} {
		got, err := receipt.ParsePending(raw, keys...)
		if err != nil || !reflect.DeepEqual(got, promise()) {
			t.Errorf("%s key: %+v, %v", name, got, err)
		}
	}
}

// TestPendingDeadlines holds the least and the greatest deadline.
func TestPendingDeadlines(t *testing.T) {
	log := key(t, "log")
	for name, deadline := range map[string]time.Time{
		"at once": promise().Received, "end of 9999": time.Date(9999, 12, 31, 23, 59, 59, 999_000_000, time.UTC),
	} {
		p := promise()
		p.Deadline = deadline
		raw, err := p.Sign(log)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := receipt.ParsePending(raw, log.Public()); err != nil || !reflect.DeepEqual(got, p) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

func TestPendingRejects(t *testing.T) {
	log, other := key(t, "log"), key(t, "other")
	raw, err := promise().Sign(log)
	if err != nil {
		t.Fatal(err)
	}
	payload, sigs, err := statement.ParseDSSE(raw, receipt.PendingPayloadType, len(raw))
	if err != nil {
		t.Fatal(err)
	}
	two, err := statement.SignDSSE(receipt.PendingPayloadType, payload, log, other)
	if err != nil {
		t.Fatal(err)
	}
	asStatement, err := statement.SignDSSE(statement.PayloadType, payload, log)
	if err != nil {
		t.Fatal(err)
	}
	changed := strings.Replace(string(payload), `"index":9007199254740991`, `"index":1`, 1)
	const unsigned = "not signed by a key that the policy names"
	for name, tt := range map[string]struct {
		raw   []byte
		keys  []*statement.PublicKey
		words string
	}{
		"no keys":           {raw, nil, unsigned},
		"another's key":     {raw, []*statement.PublicKey{other.Public()}, unsigned},
		"two signatures":    {two, []*statement.PublicKey{log.Public(), other.Public()}, unsigned},
		"changed":           {statement.EncodeDSSE(receipt.PendingPayloadType, []byte(changed), sigs), []*statement.PublicKey{log.Public()}, unsigned},
		"type of statement": {asStatement, []*statement.PublicKey{log.Public()}, "payloadType"},
		"type changed":      {statement.EncodeDSSE(receipt.PendingPayloadType, payload, mustSigs(t, asStatement)), []*statement.PublicKey{log.Public()}, unsigned},
		"no envelope":       {payload, []*statement.PublicKey{log.Public()}, "payloadType"},
	} {
		if p, err := receipt.ParsePending(tt.raw, tt.keys...); err == nil || !strings.Contains(err.Error(), tt.words) || p != nil {
			t.Errorf("%s: %+v, %v; want an error with %q", name, p, err, tt.words)
		}
	}
	const (
		shard = "pending record: origin: expected a shard of log.example.org/trials"
		due   = "pending record: deadlineMillis: expected a time from receivedMillis to the end of the year 9999"
	)
	for name, tt := range map[string]struct{ old, replacement, words string }{
		"no format":       {`"format":"trialog-pending@v1",`, ``, "format: missing"},
		"other format":    {`pending@v1`, `pending@v2`, "format: expected"},
		"no log":          {`"log":"log.example.org/trials",`, ``, "log: missing"},
		"no origin":       {`"origin":"` + origin + `",`, ``, "origin: missing"},
		"short identity":  {`"identity":"`, `"identity":"0`, "identity: expected 64 lower-case"},
		"short leaf hash": {`"leafHash":"`, `"leafHash":"0`, "leafHash: expected 64 lower-case"},
		"index of 2^53":   {`9007199254740991`, `9007199254740992`, "index: expected an integer"},
		"before 1970":     {`"receivedMillis":`, `"receivedMillis":-`, "receivedMillis: expected an integer of at least 0"},
		"no deadline":     {`"deadlineMillis"`, `"deadline"`, "deadlineMillis: missing"},
		"another log's":   {`"origin":"` + origin, `"origin":"log.example.org/other/2026`, shard},
		"log for a shard": {`"origin":"` + origin + `"`, `"origin":"log.example.org/trials"`, shard},
		"longer name":     {`"origin":"` + origin, `"origin":"log.example.org/trials2/2026`, shard},
		"nameless shard":  {`"origin":"` + origin + `"`, `"origin":"log.example.org/trials/"`, shard},
		"two lines":       {`"origin":"` + origin, `"origin":"` + origin + `\n7`, shard},
		"empty log":       {`"log":"log.example.org/trials","origin":"log.example.org`, `"log":"","origin":"`, "origin: expected a shard of "},
		"due before it":   {`1800000060123`, `1800000000122`, due},
		"year 10000":      {`1800000060123`, `253402300800000`, due},
		"due at 2^53-1":   {`1800000060123`, `9007199254740991`, due},
		"all at 2^53-1":   {`"receivedMillis":1800000000123,"deadlineMillis":1800000060123`, `"receivedMillis":9007199254740991,"deadlineMillis":9007199254740991`, due},
		"unknown member":  {`{`, `{"size":1,`, "size: unknown member"},
		"no object":       {`{`, `[{`, "pending record: "},
	} {
		bad, err := statement.SignDSSE(receipt.PendingPayloadType, []byte(with(t, string(payload), tt.old, tt.replacement)), log)
		if err != nil {
			t.Fatal(err)
		}
		if p, err := receipt.ParsePending(bad, log.Public()); err == nil || !strings.Contains(err.Error(), tt.words) || p != nil {
			t.Errorf("%s: %+v, %v; want an error with %q", name, p, err, tt.words)
		}
	}
}

// mustSigs returns the signatures of a statement's envelope.
func mustSigs(tb testing.TB, raw []byte) []statement.Signature {
	tb.Helper()
	_, sigs, err := statement.ParseDSSE(raw, statement.PayloadType, len(raw))
	if err != nil {
		tb.Fatal(err)
	}
	return sigs
}
