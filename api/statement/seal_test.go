package statement_test

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha3"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/trialog/trialog/api/statement"
)

func consentContext() statement.Context {
	return statement.Context{Organisation: "acme", Trial: "NCT-1", Kind: statement.KindConsent}
}

func consentSecrets() []statement.Member {
	return []statement.Member{
		statement.TextMember("subject", "S-001"), statement.TextMember("site", "site-7"),
		statement.TextMember("signedOn", "2026-02-03"), statement.TextMember("takenBy", "Dr <Jo> & co. 😀"),
	}
}

// sealedConsent is an opening with a document and attributes.
func sealedConsent(tb testing.TB) *statement.Opening {
	tb.Helper()
	o := &statement.Opening{Context: consentContext()}
	random := bytes.NewReader(bytes.Repeat([]byte("0123456789abcdef"), 4))
	if err := o.SealDocument([]byte("the form"), "application/pdf", random); err != nil {
		tb.Fatal(err)
	}
	if err := o.SealAttributes(consentSecrets(), random); err != nil {
		tb.Fatal(err)
	}
	return o
}

// TestCommitBinds changes each thing that a commitment is bound to.
func TestCommitBinds(t *testing.T) {
	base := sealedConsent(t)
	seen := map[statement.Digest]string{base.Commitment(): "the base"}
	for name, change := range map[string]func(o *statement.Opening){
		"organisation": func(o *statement.Opening) { o.Organisation = "acmf" },
		"trial":        func(o *statement.Opening) { o.Trial = "NCT-2" },
		"no trial":     func(o *statement.Opening) { o.Trial = "" },
		"kind":         func(o *statement.Opening) { o.Kind = statement.KindConsentForm },
		"nonce":        func(o *statement.Opening) { o.Nonce[31] ^= 1 },
		"sha256":       func(o *statement.Opening) { o.SHA256[0] ^= 1 },
		"sha3":         func(o *statement.Opening) { o.SHA3[0] ^= 1 },
		"hashes swap":  func(o *statement.Opening) { o.SHA256, o.SHA3 = o.SHA3, o.SHA256 },
		"media type":   func(o *statement.Opening) { o.MediaType = "application/pdg" },
		"border":       func(o *statement.Opening) { o.Organisation, o.Trial = "acmeN", "CT-1" },
	} {
		o := *base
		change(&o)
		if other, ok := seen[o.Commitment()]; ok {
			t.Errorf("%s: the commitment is that of %s", name, other)
		}
		seen[o.Commitment()] = name
	}
	if _, ok := seen[base.AttributesCommitment()]; ok {
		t.Error("the attributes have the commitment of a document")
	}
	sum3 := sha3.Sum256(base.Attributes)
	if got, want := base.AttributesCommitment(), parts("trialog/commit/v1", "acme", "NCT-1", "consent", string(base.AttributesNonce[:]),
		raw(sha256.Sum256(base.Attributes)), string(sum3[:]), "application/vnd.trialog.attributes+json"); got != want {
		t.Errorf("AttributesCommitment = %s, by hand %s", got, want)
	}
	// The attributes' commitment is bound to its own nonce and bytes.
	before := base.AttributesCommitment()
	base.Nonce[0] ^= 1
	if base.AttributesCommitment() != before {
		t.Error("the attributes' commitment depends on the document's nonce")
	}
	base.AttributesNonce[0] ^= 1
	if base.AttributesCommitment() == before {
		t.Error("the attributes' commitment does not depend on its nonce")
	}
	if !(&statement.Opening{}).AttributesCommitment().IsZero() {
		t.Error("no attributes have a commitment")
	}
}

func TestSealDocument(t *testing.T) {
	o := sealedConsent(t)
	if o.SHA256 != sha256.Sum256([]byte("the form")) || o.SHA3 != sha3.Sum256([]byte("the form")) ||
		string(o.Nonce[:]) != "0123456789abcdef0123456789abcdef" {
		t.Errorf("SealDocument: %+v", o)
	}
	if !o.MatchesDocument([]byte("the form")) || o.MatchesDocument([]byte("the farm")) {
		t.Error("MatchesDocument")
	}
	for _, change := range []func(o *statement.Opening){
		func(o *statement.Opening) { o.SHA256[0] ^= 1 }, func(o *statement.Opening) { o.SHA3[0] ^= 1 },
		func(o *statement.Opening) { o.MediaType = "" },
	} {
		bad := *o
		change(&bad)
		if bad.MatchesDocument([]byte("the form")) {
			t.Error("MatchesDocument although one hash differs, or there is no document")
		}
	}
	err := o.SealDocument(nil, statement.AttributesMediaType, bytes.NewReader(make([]byte, 32)))
	checkField(t, err, "mediaType", "not the media type of a document")
	if err := o.SealDocument(nil, "text/plain", bytes.NewReader(make([]byte, 31))); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("SealDocument with 31 random bytes: %v", err)
	}
}

func TestSealAttributes(t *testing.T) {
	o := sealedConsent(t)
	if !json.Valid(o.Attributes) {
		t.Errorf("attributes are no JSON: %s", o.Attributes)
	}
	got, err := o.Members()
	if diff := cmp.Diff(consentSecrets(), got); err != nil || diff != "" {
		t.Errorf("Members: %v (-want +got):\n%s", err, diff)
	}
	secrets := consentSecrets()
	long := append(remove(secrets, "takenBy"), statement.TextMember("takenBy", "a\xffb"))
	for name, tt := range map[string]struct {
		kind         statement.Kind
		members      []statement.Member
		field, words string
	}{
		"unknown kind":     {"poem", secrets, "kind", "unknown kind"},
		"missing":          {"consent", secrets[1:], "sealed.subject", "missing"},
		"unknown":          {"consent", append(secrets, statement.TextMember("name", "Jo")), "sealed.name", "no such attribute"},
		"twice":            {"consent", append(secrets, secrets[0]), "sealed.subject", "duplicate"},
		"bad date":         {"consent", append(remove(secrets, "signedOn"), statement.TextMember("signedOn", "today")), "sealed.signedOn", "expected a date"},
		"invalid UTF-8":    {"consent", long, "sealed.takenBy", "UTF-8"},
		"public attribute": {"delegation", []statement.Member{statement.TextMember("task", "t")}, "sealed.task", "is public"},
	} {
		t.Run(name, func(t *testing.T) {
			o := statement.Opening{Context: statement.Context{Organisation: "acme", Trial: "T", Kind: tt.kind}}
			err := o.SealAttributes(tt.members, bytes.NewReader(make([]byte, 32)))
			checkField(t, err, tt.field, tt.words)
			if o.Attributes != nil {
				t.Error("something was sealed beside the error")
			}
		})
	}
	if err := o.SealAttributes(secrets, bytes.NewReader(make([]byte, 31))); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("SealAttributes with 31 random bytes: %v", err)
	}
	if members, err := (&statement.Opening{}).Members(); members != nil || err != nil {
		t.Errorf("Members of nothing = %v, %v", members, err)
	}
	_, err = (&statement.Opening{Attributes: []byte("{}")}).Members()
	checkField(t, err, "kind", "unknown kind")
	_, err = (&statement.Opening{Context: consentContext(), Attributes: []byte("[]")}).Members()
	checkField(t, err, "", "expected an object, found an array")
}

func TestOpeningRoundTrip(t *testing.T) {
	both := sealedConsent(t)
	document := &statement.Opening{Context: statement.Context{Organisation: "acme", Trial: "NCT-1", Kind: statement.KindProtocol}}
	if err := document.SealDocument(nil, "application/pdf", bytes.NewReader(make([]byte, 32))); err != nil {
		t.Fatal(err)
	}
	attributes := &statement.Opening{Context: statement.Context{Organisation: "acme", Kind: statement.KindKey}}
	if err := attributes.SealAttributes([]statement.Member{statement.TextMember("holder", "Jo")}, bytes.NewReader(make([]byte, 32))); err != nil {
		t.Fatal(err)
	}
	for name, o := range map[string]*statement.Opening{"both": both, "document": document, "attributes": attributes} {
		text := o.Encode()
		got, err := statement.ParseOpening(text)
		if diff := cmp.Diff(o, got); err != nil || diff != "" {
			t.Errorf("%s: %v (-want +got):\n%s", name, err, diff)
			continue
		}
		if got.Commitment() != o.Commitment() || got.AttributesCommitment() != o.AttributesCommitment() {
			t.Errorf("%s: the commitments differ", name)
		}
		if !bytes.Equal(got.Encode(), text) || !bytes.HasSuffix(text, []byte("}\n")) {
			t.Errorf("%s: Encode writes %s", name, text)
		}
	}
}

func TestOpeningRejects(t *testing.T) {
	o := sealedConsent(t)
	text := string(o.Encode())
	nonce := statement.Digest(o.Nonce).String()
	attributesNonce := `"nonce":"` + statement.Digest(o.AttributesNonce).String() + `","json"`
	document := text[strings.Index(text, `,"document"`):strings.Index(text, `,"attributes"`)]
	attributes := text[strings.Index(text, `,"attributes"`) : len(text)-2]
	secret := b64(o.Attributes)
	for name, tt := range map[string]edit{
		"no format":            {`"format":"trialog-opening@v1",`, ``, "format", "missing"},
		"another format":       {`opening@v1`, `opening@v2`, "format", "trialog-opening@v1"},
		"no organisation":      {`"organisation":"acme",`, ``, "organisation", "missing"},
		"bad organisation":     {`"acme"`, `"a c"`, "organisation", "1 to 64"},
		"no trial":             {`"trial":"NCT-1",`, ``, "trial", "1 to 64"},
		"bad trial":            {`"NCT-1"`, `"NCT 1"`, "trial", "1 to 64"},
		"unknown kind":         {`"consent"`, `"poem"`, "kind", "unknown kind"},
		"kind without trial":   {`"consent"`, `"key"`, "trial", "names no trial"},
		"kind without either":  {`"consent"`, `"milestone"`, "document", "no sealed document"},
		"attributes of none":   {`"consent"`, `"protocol"`, "attributes", "no sealed attributes"},
		"another's attributes": {`"consent"`, `"subject-event"`, "attributes.signedOn", "no such attribute"},
		"neither":              {document + attributes, ``, "document", "a document, attributes, or both"},
		"document is text":     {document, `,"document":"x"`, "document", "expected an object"},
		"no media type":        {`"mediaType":"application/pdf",`, ``, "document.mediaType", "missing"},
		"bad media type":       {`application/pdf`, `pdf`, "document.mediaType", "expected a media type"},
		"media of attributes":  {`application/pdf`, statement.AttributesMediaType, "document.mediaType", "not the media type"},
		"short nonce":          {`"` + nonce + `","sha256"`, `"` + nonce[2:] + `","sha256"`, "document.nonce", "64 lower-case"},
		"no sha256":            {`"sha256":"` + o.SHA256.String() + `",`, ``, "document.sha256", "missing"},
		"zero sha256":          {o.SHA256.String(), zeros, "document.sha256", "not zero"},
		"no sha3":              {`,"sha3-256":"` + o.SHA3.String() + `"`, ``, "document.sha3-256", "missing"},
		"unknown inside":       {`"sha3-256"`, `"sha512":1,"sha3-256"`, "document.sha512", "unknown member"},
		"unknown member":       {`"document"`, `"name":"consent.pdf","document"`, "name", "unknown member"},
		"attributes in clear":  {attributes, `,"attributes":{"subject":"S-001"}`, "attributes.nonce", "missing"},
		"attributes is null":   {attributes, `,"attributes":null`, "attributes", "expected an object"},
		"bad nonce":            {attributesNonce, `"nonce":"","json"`, "attributes.nonce", "64 lower-case"},
		"json without padding": {secret, strings.TrimRight(secret, "=") + "A", "attributes.json", "standard base64"},
		"empty json":           {secret, ``, "attributes.json", "not empty"},
		"json is no JSON":      {secret, b64([]byte("x")), "", "expected a JSON value"},
		"json misses some":     {secret, b64([]byte("{}")), "attributes.subject", "missing"},
		"json with duplicates": {secret, b64([]byte(`{"subject":"a","subject":"b"}`)), "subject", "duplicate"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := statement.ParseOpening([]byte(with(t, text, tt.old, tt.replacement)))
			checkField(t, err, tt.field, tt.words)
		})
	}
	pad := func(n int) []byte { return []byte(text + strings.Repeat("\n", n-len(text))) }
	if _, err := statement.ParseOpening(pad(statement.MaxOpening)); err != nil {
		t.Errorf("an opening of the greatest length: %v", err)
	}
	_, err := statement.ParseOpening(pad(statement.MaxOpening + 1))
	checkField(t, err, "opening", "expected at most 262144")
	_, err = statement.ParseOpening([]byte("null"))
	checkField(t, err, "", "expected an object")
}
