package statement_test

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/trialog/trialog/api/statement"
)

// FuzzDecode holds that what Decode accepts, Build writes in one form that
// means the same, and writes again as the same bytes.
func FuzzDecode(f *testing.F) {
	f.Add(build(f, sealedProtocol(f)))
	f.Add(build(f, received(sealedProtocol(f))))
	for _, r := range statement.Kinds() {
		if r.Placement != statement.BatchOnly {
			f.Add(build(f, minimal(f, r.Kind)))
		}
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		s, err := statement.Decode(payload)
		if err != nil {
			checkIsFieldError(t, err)
			return
		}
		once, err := statement.Build(s)
		if err != nil {
			t.Fatalf("Build refuses what Decode accepts: %v", err)
		}
		again, err := statement.Decode(once)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(s, again, cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("(-decoded +built and decoded):\n%s", diff)
		}
		if twice, err := statement.Build(again); err != nil || !bytes.Equal(twice, once) {
			t.Fatalf("Build writes %s, then %s, %v", once, twice, err)
		}
	})
}

// checkIsFieldError fails unless err names a field and says why.
func checkIsFieldError(t *testing.T, err error) {
	t.Helper()
	if e, ok := err.(*statement.FieldError); !ok || e.Reason == "" || len(e.Field) > 220 { //nolint:errorlint // as documented
		t.Fatalf("error of type %T, %v; want a *FieldError with a reason", err, err)
	}
}

// FuzzParseEnvelope holds that an envelope keeps its bytes, and that its content
// survives being written by EncodeDSSE.
func FuzzParseEnvelope(f *testing.F) {
	_, e := signed(f)
	f.Add(e.Bytes())
	f.Add([]byte(`{"payload":"AA==","payloadType":"application/vnd.in-toto+json","signatures":[{"sig":"AA=="}]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		e, err := statement.ParseEnvelope(raw)
		if err != nil {
			checkIsFieldError(t, err)
			return
		}
		if !bytes.Equal(e.Bytes(), raw) {
			t.Fatal("the envelope does not keep its bytes")
		}
		payload, sigs, err := statement.ParseDSSE(statement.EncodeDSSE(statement.PayloadType, e.Payload, e.Signatures), statement.PayloadType, 1<<20)
		if err != nil || !bytes.Equal(payload, e.Payload) || !cmp.Equal(sigs, e.Signatures) {
			t.Fatalf("written again: %q, %+v, %v", payload, sigs, err)
		}
	})
}

// FuzzParseOpening holds that an opening has one written form with the same
// commitments.
func FuzzParseOpening(f *testing.F) {
	o := sealedConsent(f)
	f.Add(o.Encode())
	o.MediaType = ""
	f.Add(o.Encode())
	f.Fuzz(func(t *testing.T, raw []byte) {
		o, err := statement.ParseOpening(raw)
		if err != nil {
			checkIsFieldError(t, err)
			return
		}
		again, err := statement.ParseOpening(o.Encode())
		if diff := cmp.Diff(o, again); err != nil || diff != "" {
			t.Fatalf("%v (-parsed +encoded and parsed):\n%s", err, diff)
		}
	})
}

// FuzzParseRecord holds that a record has one encoding.
func FuzzParseRecord(f *testing.F) {
	f.Add(record(f, "t", "x").Encode())
	for _, r := range statement.Kinds() {
		if r.Placement != statement.Alone {
			f.Add(record(f, string(r.Kind), string(minimalItem(f, r).Encode())).Encode())
		}
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		r, err := statement.ParseRecord(raw)
		if err != nil {
			checkIsFieldError(t, err)
			return
		}
		if !bytes.Equal(r.Encode(), raw) {
			t.Fatalf("ParseRecord accepts %q, Encode writes %q", raw, r.Encode())
		}
	})
}

// FuzzDecodeItem holds that what DecodeItem accepts, Encode writes so that it
// means the same.
func FuzzDecodeItem(f *testing.F) {
	for _, r := range statement.Kinds() {
		if r.Placement != statement.Alone {
			f.Add(minimalItem(f, r).Encode())
		}
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		it, err := statement.DecodeItem(raw)
		if err != nil {
			checkIsFieldError(t, err)
			return
		}
		again, err := statement.DecodeItem(it.Encode())
		if diff := cmp.Diff(it, again); err != nil || diff != "" {
			t.Fatalf("%v (-decoded +encoded and decoded):\n%s", err, diff)
		}
	})
}
