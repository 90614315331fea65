// Package anchored is what is kept of an anchored checkpoint: the published note
// with the cosignatures of witnesses that are asked at a slower pace, and the
// time-stamp tokens (RFC 3161) over its text. It lies beside the tiles, where the
// anchoring writes it and the proofs read it.
//
// The store is trusted for durability only: whoever reads a Record verifies it.
package anchored

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"time"
	"unicode/utf8"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/timestamp"
	"github.com/trialog/trialog/api/verify"
)

// Key is the object that holds the newest Record of a shard.
const Key = "anchor/newest"

// Format is the value of the member format of a Record.
const Format = "trialog-anchor@v1"

// Limits of a Record.
const (
	MaxSize   = 2 << 20 // bytes
	MaxTokens = 16      // what a receipt carries
	MaxToken  = 32 << 10
)

// Record is one anchored checkpoint.
type Record struct {
	// At is when it was anchored, by the log's clock, to the second.
	At time.Time
	// Note is the checkpoint with all its signatures.
	Note *checkpoint.Note
	// Tokens are over SHA-256 of the note's text, one of an authority.
	Tokens []Token
}

// Token is a time-stamp token with who issued it.
type Token struct {
	// Authority is the name that the log's configuration gives it.
	Authority string
	// Raw is the token's DER.
	Raw []byte
}

// Authority is a time-stamp authority as its tokens are judged.
type Authority struct {
	Name string
	// Certificate is what the tokens' certificates lead to.
	Certificate *x509.Certificate
	// Policy is the one that tokens must name; nil takes any.
	Policy asn1.ObjectIdentifier
}

// Check judges a token of the authority over a checkpoint's text. nonce is that
// of the request, nil for a token that was kept.
//
// A token that names itself as one of an authority of the policy must verify by
// that too: a receipt with one that does not is refused by whoever verifies it.
func (a *Authority) Check(policy *verify.Policy, raw, text []byte, nonce *big.Int) (*timestamp.Token, error) {
	if len(raw) > MaxToken {
		return nil, fmt.Errorf("token of %s: %d bytes, expected at most %d", a.Name, len(raw), MaxToken)
	}
	t, err := timestamp.Parse(raw)
	if err != nil {
		return nil, fmt.Errorf("token of %s: %w", a.Name, err)
	}
	want := timestamp.Expect{Digest: sha256.Sum256(text), Nonce: nonce, Policy: a.Policy}
	if err := t.Verify(a.Certificate, want); err != nil {
		return nil, fmt.Errorf("token of %s: %w", a.Name, err)
	}
	if err := believable(policy, t, want.Digest); err != nil {
		return nil, fmt.Errorf("token of %s: %w", a.Name, err)
	}
	return t, nil
}

// believable holds a token against the authorities of the policy, as package verify
// does.
func believable(policy *verify.Policy, t *timestamp.Token, digest [32]byte) error {
	var broken error
	for _, named := range policy.Trust().TimeAuthorities {
		err := t.Verify(named.Certificate, timestamp.Expect{Digest: digest})
		if err == nil {
			return nil
		}
		if broken == nil && t.Claims(named.Certificate) {
			broken = fmt.Errorf("it names itself as one of the policy's %s: %w", named.Name, err)
		}
	}
	return broken
}

// Token returns the authority's token; nil if there is none.
func (r *Record) Token(authority string) []byte {
	for _, t := range r.Tokens {
		if t.Authority == authority {
			return t.Raw
		}
	}
	return nil
}

// Verify judges the note by the policy, and the tokens of the authorities. It
// returns who vouches for the checkpoint, and the tokens that stand. Tokens of
// authorities that are not given, which may have been known once, are left out; one
// that fails is an error.
func (r *Record) Verify(policy *verify.Policy, authorities []Authority) (*checkpoint.Cosigned, [][]byte, error) {
	cosigned, err := policy.CheckNote(r.Note.Bytes())
	if err != nil {
		return nil, nil, fmt.Errorf("the anchored checkpoint: %w", err)
	}
	var tokens [][]byte
	for i := range authorities {
		raw := r.Token(authorities[i].Name)
		if raw == nil {
			continue
		}
		if _, err := authorities[i].Check(policy, raw, r.Note.Text(), nil); err != nil {
			return nil, nil, fmt.Errorf("the anchored checkpoint: %w", err)
		}
		tokens = append(tokens, raw)
	}
	return cosigned, tokens, nil
}

// file is the JSON shape.
type file struct {
	Format string      `json:"format"`
	At     int64       `json:"at"` // Unix seconds
	Note   string      `json:"note"`
	Tokens []fileToken `json:"tokens,omitempty"`
}

type fileToken struct {
	Authority string `json:"authority"`
	Token     []byte `json:"token"`
}

// Encode writes the record. It fails for what Parse would not read back.
func (r *Record) Encode() ([]byte, error) {
	f := file{Format: Format, At: r.At.Unix(), Note: string(r.Note.Bytes())}
	for _, t := range r.Tokens {
		f.Tokens = append(f.Tokens, fileToken{Authority: t.Authority, Token: t.Raw})
	}
	if err := f.check(); err != nil {
		return nil, fmt.Errorf("encode an anchored checkpoint: %w", err)
	}
	return f.encode()
}

func (f *file) encode() ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", " ")
	if err := e.Encode(f); err != nil {
		return nil, fmt.Errorf("encode an anchored checkpoint: %w", err)
	}
	if b.Len() > MaxSize {
		return nil, fmt.Errorf("encode an anchored checkpoint: %d bytes, expected at most %d", b.Len(), MaxSize)
	}
	return b.Bytes(), nil
}

func (f *file) check() error {
	const farthest = 1 << 40 // beyond the year 36000
	switch {
	case f.Format != Format:
		return fmt.Errorf("format: expected %q", Format)
	case f.At < 0 || f.At > farthest:
		return errors.New("at: expected Unix seconds")
	case len(f.Tokens) > MaxTokens:
		return fmt.Errorf("tokens: expected at most %d, found %d", MaxTokens, len(f.Tokens))
	}
	seen := map[string]bool{}
	for i, t := range f.Tokens {
		switch {
		case t.Authority == "" || !utf8.ValidString(t.Authority) || seen[t.Authority]:
			return fmt.Errorf("tokens[%d].authority: expected a name, each once", i)
		case len(t.Token) == 0 || len(t.Token) > MaxToken:
			return fmt.Errorf("tokens[%d].token: expected 1 to %d bytes, found %d", i, MaxToken, len(t.Token))
		}
		seen[t.Authority] = true
	}
	return nil
}

// Parse reads a record strictly: Encode of the result gives raw back. It verifies
// nothing.
func Parse(raw []byte) (*Record, error) {
	if len(raw) > MaxSize {
		return nil, fmt.Errorf("anchored checkpoint: %d bytes, expected at most %d", len(raw), MaxSize)
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	var f file
	if err := dec.Decode(&f); err != nil {
		return nil, errors.New("anchored checkpoint: not the JSON of one")
	}
	if err := f.check(); err != nil {
		return nil, fmt.Errorf("anchored checkpoint: %w", err)
	}
	note, err := checkpoint.Parse([]byte(f.Note))
	if err != nil {
		return nil, fmt.Errorf("anchored checkpoint: %w", err)
	}
	// One spelling: whatever the decoder is lenient about differs here.
	if again, err := f.encode(); err != nil || !bytes.Equal(again, raw) {
		return nil, errors.New("anchored checkpoint: not in the form that is written")
	}
	r := &Record{At: time.Unix(f.At, 0).UTC(), Note: note}
	for _, t := range f.Tokens {
		r.Tokens = append(r.Tokens, Token{Authority: t.Authority, Raw: t.Token})
	}
	return r, nil
}
