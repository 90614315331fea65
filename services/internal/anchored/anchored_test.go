package anchored

import (
	"bytes"
	"crypto/sha256"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/timestamp/timestamptest"
	"github.com/trialog/trialog/api/verify"
)

const origin = "log.test/trials/1"

func noteKey(t testing.TB, name string, alg checkpoint.Algorithm) *checkpoint.SigningKey {
	t.Helper()
	seed := sha256.Sum256(fmt.Appendf(nil, "%s %d", name, alg))
	k, err := checkpoint.GenerateKey(bytes.NewReader(seed[:]), name, alg)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func newNote(t testing.TB) *checkpoint.Note {
	t.Helper()
	n, err := checkpoint.SignLog(checkpoint.Checkpoint{Origin: origin, Size: 7, Root: checkpoint.Hash{1}}, 1_800_000_000, logKeys(t)...)
	if err != nil {
		t.Fatal(err)
	}
	sig, err := noteKey(t, "w.test", checkpoint.AlgEd25519Cosignature).SignCheckpoint(n.Text(), 1_800_000_000)
	if err != nil {
		t.Fatal(err)
	}
	if n, err = n.With(sig); err != nil {
		t.Fatal(err)
	}
	return n
}

func logKeys(t testing.TB) []*checkpoint.SigningKey {
	return []*checkpoint.SigningKey{noteKey(t, origin, checkpoint.AlgEd25519), noteKey(t, origin, checkpoint.AlgMLDSA44)}
}

// newPolicy names the time authorities with these certificates.
func newPolicy(t testing.TB, authorities map[string][]byte) *verify.Policy {
	t.Helper()
	keys := logKeys(t)
	text := fmt.Sprintf("log %s\nlog %s\nwitness w %s\nquorum w\n", keys[0].Verifier(), keys[1].Verifier(),
		noteKey(t, "w.test", checkpoint.AlgEd25519Cosignature).Verifier())
	trust := map[string]any{
		"format": verify.TrustFormat, "log": "log.test/trials", "logOperator": "operator", "acceptReceived": false,
		"requiredLogKeys": []string{keys[0].Verifier().String(), keys[1].Verifier().String()},
		"operators":       map[string]string{"w": "another"},
	}
	var list []any
	for name, der := range authorities {
		list = append(list, map[string]string{"name": name, "certificate": base64.StdEncoding.EncodeToString(der)})
	}
	if list != nil {
		trust["timeAuthorities"] = list
	}
	sidecar, err := json.Marshal(trust)
	if err != nil {
		t.Fatal(err)
	}
	p, err := verify.ParsePolicy([]byte(text), sidecar)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func at() time.Time { return time.Date(2026, 11, 5, 12, 0, 0, 0, time.UTC) }

func TestRoundTrip(t *testing.T) {
	for _, tokens := range [][]Token{nil, {{"a", []byte{1}}}, {{"a <b>&", []byte("xyz")}, {"b", bytes.Repeat([]byte{7}, MaxToken)}}} {
		r := &Record{At: at(), Note: newNote(t), Tokens: tokens}
		raw, err := r.Encode()
		if err != nil {
			t.Fatal(err)
		}
		got, err := Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		if !got.At.Equal(r.At) || !bytes.Equal(got.Note.Bytes(), r.Note.Bytes()) || !reflect.DeepEqual(got.Tokens, r.Tokens) {
			t.Errorf("got %+v, want %+v", got, r)
		}
	}
	r := &Record{Tokens: []Token{{"a", []byte{1}}}}
	if r.Token("a") == nil || r.Token("b") != nil {
		t.Error("a token is not found by its authority")
	}
}

func TestEncodeRefuses(t *testing.T) {
	many := make([]Token, MaxTokens+1)
	for i := range many {
		many[i] = Token{strconv.Itoa(i), []byte{1}}
	}
	for name, r := range map[string]Record{
		"before 1970":  {At: time.Unix(-1, 0)},
		"far future":   {At: time.Unix(1<<41, 0)},
		"many tokens":  {At: at(), Tokens: many},
		"empty token":  {At: at(), Tokens: []Token{{"a", nil}}},
		"long token":   {At: at(), Tokens: []Token{{"a", make([]byte, MaxToken+1)}}},
		"no authority": {At: at(), Tokens: []Token{{"", []byte{1}}}},
		"twice":        {At: at(), Tokens: []Token{{"a", []byte{1}}, {"a", []byte{2}}}},
		"not UTF-8":    {At: at(), Tokens: []Token{{"\xff", []byte{1}}}},
	} {
		r.Note = newNote(t)
		if raw, err := r.Encode(); err == nil {
			t.Errorf("%s: encoded as %s", name, raw)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	r := &Record{At: at(), Note: newNote(t), Tokens: []Token{{"a", []byte{1, 2, 3}}}}
	good, err := r.Encode()
	if err != nil {
		t.Fatal(err)
	}
	edit := func(old, next string) []byte {
		if !bytes.Contains(good, []byte(old)) {
			t.Errorf("%q is not in it", old)
		}
		return bytes.Replace(good, []byte(old), []byte(next), 1)
	}
	for name, raw := range map[string][]byte{
		"nothing":            nil,
		"no JSON":            []byte("x"),
		"null":               []byte("null\n"),
		"an array":           []byte("[]\n"),
		"empty object":       []byte("{}\n"),
		"other format":       edit("anchor@v1", "anchor@v2"),
		"unknown member":     edit(`"at"`, `"x": 1, "at"`),
		"member twice":       edit(`"at"`, `"at": 7, "at"`),
		"case":               edit(`"at"`, `"At"`),
		"fraction":           edit(`"at": 1`, `"at": 0.1`),
		"time as text":       edit(strconv.FormatInt(at().Unix(), 10), `"1"`),
		"negative time":      edit(`"at": `, `"at": -`),
		"empty tokens":       edit(string(good[bytes.Index(good, []byte(`"tokens"`)):bytes.LastIndexByte(good, ']')]), `"tokens": [`),
		"null tokens":        edit(string(good[bytes.Index(good, []byte(`"tokens"`)):bytes.LastIndexByte(good, ']')+1]), `"tokens": null`),
		"other base64":       edit(`"AQID"`, `"AQI="`+"x"),
		"trailing":           append(bytes.Clone(good), ' '),
		"second value":       append(bytes.Clone(good), "{}"...),
		"no newline":         bytes.TrimSuffix(good, []byte("\n")),
		"other white space":  edit("\n ", "\n  "),
		"damaged note":       edit(`\n7\n`, `\n07\n`),
		"note with no lines": edit(`\n\n`, `\n`),
		"too long":           bytes.Repeat([]byte(" "), MaxSize+1),
	} {
		if got, err := Parse(raw); err == nil {
			t.Errorf("%s: parsed as %+v", name, got)
		}
	}
}

func TestVerify(t *testing.T) {
	one, two := timestamptest.New("one"), timestamptest.New("two")
	note := newNote(t)
	digest := sha256.Sum256(note.Text())
	r := &Record{At: at(), Note: note, Tokens: []Token{{"t1", one.Stamp(digest, at())}, {"t2", two.Stamp(digest, at())}, {"gone", []byte{1}}}}
	authorities := []Authority{{Name: "t1", Certificate: one.Root.Cert}, {Name: "t2", Certificate: two.Unit.Cert}, {Name: "t3", Certificate: two.Unit.Cert}}
	plain := newPolicy(t, nil)
	for name, policy := range map[string]*verify.Policy{
		"none named": plain, "root": newPolicy(t, map[string][]byte{"x": one.Root.Cert.Raw}),
		"another": newPolicy(t, map[string][]byte{"x": timestamptest.New("third").Root.Cert.Raw}),
	} {
		c, tokens, err := r.Verify(policy, authorities)
		if err != nil || c.Size != 7 || len(tokens) != 2 || !bytes.Equal(tokens[0], r.Tokens[0].Raw) || !bytes.Equal(tokens[1], r.Tokens[1].Raw) {
			t.Errorf("%s: %+v, %d tokens, %v", name, c, len(tokens), err)
		}
	}
	oid := asn1.ObjectIdentifier{1, 2, 3}
	other := sha256.Sum256(note.Bytes()) // of the note instead of its text
	for name, change := range map[string]func(r *Record, a []Authority){
		"over the whole note":  func(r *Record, _ []Authority) { r.Tokens[0].Raw = one.Stamp(other, at()) },
		"of another authority": func(r *Record, _ []Authority) { r.Tokens[0].Raw = r.Tokens[1].Raw },
		"another policy":       func(_ *Record, a []Authority) { a[0].Policy = oid },
		"another certificate":  func(_ *Record, a []Authority) { a[0].Certificate = two.Root.Cert },
		"damaged":              func(r *Record, _ []Authority) { r.Tokens[1].Raw[100] ^= 1 },
		"too long":             func(r *Record, _ []Authority) { r.Tokens[1].Raw = make([]byte, MaxToken+1) },
		"not cosigned": func(r *Record, _ []Authority) {
			var err error
			if r.Note, err = checkpoint.NewNote(note.Text(), note.Signatures()[:2]...); err != nil {
				t.Fatal(err)
			}
		},
	} {
		bad := &Record{At: r.At, Note: r.Note}
		for _, token := range r.Tokens {
			bad.Tokens = append(bad.Tokens, Token{token.Authority, bytes.Clone(token.Raw)})
		}
		list := append([]Authority{}, authorities...)
		change(bad, list)
		if _, tokens, err := bad.Verify(plain, list); err == nil {
			t.Errorf("%s: verified, with %d tokens", name, len(tokens))
		}
	}
}

// TestPolicysAuthority: a token that claims to be of an authority which the policy
// names, and does not verify by that, would spoil the receipt that carries it.
func TestPolicysAuthority(t *testing.T) {
	one := timestamptest.New("one")
	// The same name and serial number, another key: a unit that was made anew.
	again := timestamptest.NewWithKey("one", timestamptest.P256Key("another key"))
	note := newNote(t)
	a := Authority{Name: "t1", Certificate: again.Unit.Cert}
	token := again.Stamp(sha256.Sum256(note.Text()), at())
	if _, err := a.Check(newPolicy(t, nil), token, note.Text(), nil); err != nil {
		t.Errorf("by itself: %v", err)
	}
	policy := newPolicy(t, map[string][]byte{"named": one.Unit.Cert.Raw})
	if _, err := a.Check(policy, token, note.Text(), nil); err == nil || !strings.Contains(err.Error(), "named") {
		t.Errorf("with the policy: %v", err)
	}
}

func TestNonce(t *testing.T) {
	one := timestamptest.New("one")
	note := newNote(t)
	a := Authority{Name: "t1", Certificate: one.Root.Cert}
	policy := newPolicy(t, nil)
	token := one.Stamp(sha256.Sum256(note.Text()), at(), func(d *timestamptest.Draft) { d.Nonce = timestamptest.Int(7) })
	for nonce, good := range map[*big.Int]bool{nil: true, big.NewInt(7): true, big.NewInt(8): false} {
		if _, err := a.Check(policy, token, note.Text(), nonce); (err == nil) != good {
			t.Errorf("nonce %v: %v", nonce, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, tokens := range [][]Token{nil, {{"a", []byte{1}}}} {
		raw, err := (&Record{At: at(), Note: newNote(f), Tokens: tokens}).Encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		r, err := Parse(raw)
		if err != nil {
			return
		}
		again, err := r.Encode()
		if err != nil || !bytes.Equal(again, raw) {
			t.Errorf("parsed, and written as %q (%v) instead of %q", again, err, raw)
		}
	})
}
