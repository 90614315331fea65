package entry_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"math"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/trialog/trialog/api/entry"
	"github.com/trialog/trialog/api/receipt"
	"github.com/trialog/trialog/api/statement"
)

// frame writes an entry by hand.
func frame(version byte, ms uint64, envelope string) []byte {
	b := []byte{version}
	for shift := 56; shift >= 0; shift -= 8 {
		b = append(b, byte(ms>>shift))
	}
	return append(b, envelope...)
}

func TestEncode(t *testing.T) {
	received := time.Date(2026, 5, 4, 3, 2, 1, 987_654_321, time.FixedZone("", 3600))
	raw, err := entry.Encode(received, []byte("{}"))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := hex.EncodeToString(raw), "01"+"0000019df0b89583"+"7b7d"; got != want {
		t.Errorf("Encode = %s, want %s", got, want)
	}
	e, err := entry.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	if !e.Received.Equal(received.Truncate(time.Millisecond)) || e.Received.Location() != time.UTC || string(e.Envelope) != "{}" {
		t.Errorf("Parse = %v, %q", e.Received, e.Envelope)
	}
	// Whoever appends to the envelope must not write into the bytes behind it.
	long := slices.Concat(raw, []byte("behind"))
	e, err = entry.Parse(long[:len(raw)])
	if err != nil {
		t.Fatal(err)
	}
	_ = append(e.Envelope, "XXXXXX"...)
	if !bytes.HasSuffix(long, []byte("behind")) {
		t.Error("appending to an envelope wrote over the bytes behind the entry")
	}
}

func TestEncodeRejects(t *testing.T) {
	now := time.UnixMilli(1)
	tests := map[string]struct {
		received time.Time
		envelope string
		words    string
	}{
		"no envelope":       {now, "", "0 bytes"},
		"one byte too many": {now, strings.Repeat("x", entry.MaxSize-entry.HeaderSize+1), "1 to 65526"},
		"before 1970":       {time.UnixMilli(-1), "x", "before 1970"},
		"after 2262":        {time.UnixMilli(math.MaxInt64/1_000_000 + 1), "x", "after 2262"},
		"the zero time":     {time.Time{}, "x", "before 1970"},
	}
	for name, tt := range tests {
		if raw, err := entry.Encode(tt.received, []byte(tt.envelope)); err == nil || !strings.Contains(err.Error(), tt.words) {
			t.Errorf("%s: got %d bytes, error %v; want an error with %q", name, len(raw), err, tt.words)
		}
	}
}

func TestParseRejects(t *testing.T) {
	const last = math.MaxInt64 / 1_000_000
	tests := map[string]struct {
		raw   []byte
		words string
	}{
		"empty":                {nil, "0 bytes, expected 10"},
		"half a header":        {frame(1, 5, "")[:4], "4 bytes"},
		"header only":          {frame(1, 5, ""), "9 bytes"},
		"one byte too many":    {frame(1, 5, strings.Repeat("x", 65_527)), "65536 bytes"},
		"version 0":            {frame(0, 5, "x"), "version 0, expected 1"},
		"version 2":            {frame(2, 5, "x"), "version 2, expected 1"},
		"a bare envelope":      {[]byte(`{"payload":""}`), "version 123"},
		"one ms after 2262":    {frame(1, last+1, "x"), "out of range"},
		"all bits of the time": {frame(1, math.MaxUint64, "x"), "out of range"},
	}
	for name, tt := range tests {
		if e, err := entry.Parse(tt.raw); err == nil || !strings.Contains(err.Error(), tt.words) {
			t.Errorf("%s: got %v, error %v; want an error with %q", name, e, err, tt.words)
		}
	}
	for name, raw := range map[string][]byte{
		"shortest": frame(1, 0, "x"),
		"longest":  frame(1, 0, strings.Repeat("x", 65_526)),
		"latest":   frame(1, last, "x"),
		"binary":   frame(1, 5, "\x00\xff"),
	} {
		e, err := entry.Parse(raw)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if again, err := entry.Encode(e.Received, e.Envelope); err != nil || !bytes.Equal(again, raw) {
			t.Errorf("%s: Encode of what Parse gave: %v, not the same bytes", name, err)
		}
	}
}

// TestLeafHash holds it against two other statements of RFC 6962 section 2.1.
func TestLeafHash(t *testing.T) {
	for _, raw := range [][]byte{nil, []byte("x"), frame(1, 5, "{}"), bytes.Repeat([]byte{7}, entry.MaxSize)} {
		got := entry.LeafHash(raw)
		if want := sha256.Sum256(append([]byte{0}, raw...)); got != want {
			t.Errorf("LeafHash of %d bytes = %x, want %x", len(raw), got, want)
		}
		if want := tlog.RecordHash(raw); got != want {
			t.Errorf("LeafHash of %d bytes = %x, sumdb says %x", len(raw), got, want)
		}
	}
}

// FuzzParse holds that an entry has one encoding.
func FuzzParse(f *testing.F) {
	f.Add(frame(1, 5, "{}"))
	f.Add(frame(1, math.MaxUint64, "{}"))
	f.Add([]byte{1})
	f.Fuzz(func(t *testing.T, raw []byte) {
		e, err := entry.Parse(raw)
		if err != nil {
			return
		}
		again, err := entry.Encode(e.Received, e.Envelope)
		if err != nil || !bytes.Equal(again, raw) {
			t.Fatalf("Parse accepts %x, Encode writes %x, %v", raw, again, err)
		}
	})
}

// TestIdentity: that of the statement, whatever the receive time; none for bytes
// that hold no statement.
func TestIdentity(t *testing.T) {
	vector, err := os.ReadFile("../../examples/receipt/protocol-v2.txt.receipt")
	if err != nil {
		t.Fatal(err)
	}
	r, err := receipt.Parse(vector)
	if err != nil {
		t.Fatal(err)
	}
	e, err := entry.Parse(r.Entry)
	if err != nil {
		t.Fatal(err)
	}
	envelope, s, err := statement.Parse(e.Envelope)
	if err != nil {
		t.Fatal(err)
	}
	later, err := entry.Encode(e.Received.Add(time.Hour), e.Envelope)
	if err != nil {
		t.Fatal(err)
	}
	want := s.Identity(envelope.Payload)
	for _, raw := range [][]byte{r.Entry, later} {
		if got, ok := entry.Identity(raw); !ok || got != want {
			t.Errorf("Identity = %x, %v; want %x", got, ok, want)
		}
	}
	for name, raw := range map[string][]byte{
		"no entry": nil, "no statement": frame(1, 1, "{}"), "cut off": r.Entry[:len(r.Entry)-1],
	} {
		if got, ok := entry.Identity(raw); ok || got != [32]byte{} {
			t.Errorf("%s: Identity = %x, %v", name, got, ok)
		}
	}
}
