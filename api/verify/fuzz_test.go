package verify_test

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/trialog/trialog/api/verify"
)

// FuzzVerify: no receipt, opening or keyring makes Verify panic; the error, the
// verdict's failure and Verified agree; a verdict can always be written as
// JSON; and what verifies for the document that was logged does not verify for
// another one.
func FuzzVerify(f *testing.F) {
	s := tell(f)
	policy := s.Policy()
	ring := storyKeyring(s)
	plain := honest(f, s, s.Plain, s.Pdf)
	sealed := honest(f, s, s.SAP, s.SAPSealed.Document)
	f.Add(plain.Receipt, plain.Document, []byte(nil), []byte(nil))
	f.Add(plain.Receipt, plain.Document, []byte(nil), ring)
	f.Add(sealed.Receipt, sealed.Document, s.SAPSealed.Opening.Encode(), []byte(nil))
	f.Add([]byte(`{"format":"trialog-receipt@v1","proof":"","entry":""}`), []byte{}, []byte{}, []byte{})
	f.Fuzz(func(t *testing.T, receipt, document, opening, keyring []byte) {
		in := verify.Input{
			Receipt: receipt, Policy: policy, Document: document, Opening: opening, Keyring: keyring, Now: plain.Now,
		}
		verdict, err := verify.Verify(in)
		if verdict == nil || verdict.Verified != (err == nil) || (verdict.Failure != nil) != (err != nil) {
			t.Fatalf("verdict %+v, error %v", verdict, err)
		}
		if _, err := json.Marshal(verdict); err != nil {
			t.Fatalf("the verdict cannot be written: %v", err)
		}
		var failure *verify.Failure
		if err != nil && (!errors.As(err, &failure) || failure.Link == "" || failure.Reason == "") {
			t.Fatalf("the error says not which link: %v", err)
		}
		if err == nil && verdict.Document != nil && verdict.Document.Checked && document != nil {
			in.Document = append([]byte("other "), document...)
			if _, err := verify.Verify(in); err == nil {
				t.Fatal("another document verifies too")
			}
		}
	})
}
