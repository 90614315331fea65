// Package trustbundle is one signed, versioned file with everything that a
// verifier believes: the policy with its sidecar, and perhaps an auditor's
// keyring and the list of the log's shards.
//
// The first bundle is believed because its fingerprint is the one that reached
// the verifier by another way (Bundle.Check). Every later one is believed because
// the signers of the one before vouch for it (Update), and only if it takes back
// nothing that was said of the past (Follows). Nothing here reads a file, a
// network or a clock.
package trustbundle

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/trialog/trialog/api/loglist"
	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/api/verify"
)

// PayloadType is the DSSE payload type of a trust bundle.
const PayloadType = "application/vnd.trialog.trust-bundle.v1+json"

// Format is the value of the member format of a trust bundle.
const Format = "trialog-trust-bundle@v1"

// Limits of a bundle.
const (
	// MaxSize is the greatest length of the envelope in bytes: room for the
	// greatest keyring, which is in base64 twice.
	MaxSize = 128 << 20
	// MaxSigners bounds the keys that may sign a bundle. The signatures of a
	// change of signers, old and new ones, are bounded by it too (DSSE).
	MaxSigners = statement.MaxSignatures
)

// Content is what a bundle says, without the signatures.
type Content struct {
	Log     string
	Version uint64 // from 1; greater in every later bundle
	// Issued and Expires are in ms. After Expires the bundle still serves to verify
	// what is old; it is no ground for an update any more.
	Issued, Expires time.Time
	// Previous is the fingerprint of the bundle before; zero exactly for Version 1.
	Previous statement.Digest
	// Threshold of the Signers must sign this bundle, and the one that follows it.
	Threshold int
	Signers   []*statement.PublicKey // 1 to MaxSigners, no key twice
	// PolicyText and Sidecar are the two halves of the policy.
	PolicyText, Sidecar []byte
	// KeyringRaw is a keyring as its auditor signed it, LogListRaw the log list as
	// a key of the sidecar's logListKeys signed it; nil if there is none.
	KeyringRaw, LogListRaw []byte
}

// Draft is a bundle's payload that was checked but for its signatures.
type Draft struct {
	content Content
	payload []byte
	policy  *verify.Policy
	keyring *verify.Keyring
	list    *loglist.List
}

// Content returns what the bundle says. The caller must not change it.
func (d *Draft) Content() Content { return d.content }

// Payload returns the bytes that are signed. The caller must not change them.
func (d *Draft) Payload() []byte { return d.payload }

// Digest is the SHA-256 of the payload. The bundle that follows names it.
func (d *Draft) Digest() statement.Digest { return digestOf(d.payload) }

// Fingerprint is the digest as 64 hexadecimal digits, for people to compare. It
// does not depend on who signed; Policy().Fingerprint() is that of the policy
// alone.
func (d *Draft) Fingerprint() string { return d.Digest().String() }

// Policy returns the policy.
func (d *Draft) Policy() *verify.Policy { return d.policy }

// Keyring returns the keyring as its auditor signed it, for
// verify.Input.Keyring; nil if the bundle has none.
func (d *Draft) Keyring() []byte { return slices.Clone(d.content.KeyringRaw) }

// KeyringContent returns what the keyring says; nil if the bundle has none.
func (d *Draft) KeyringContent() *verify.Keyring { return d.keyring }

// LogList returns the list of the log's shards; nil if the bundle has none.
func (d *Draft) LogList() *loglist.List { return d.list }

// Expired tells whether the bundle has expired at now. What it says of the past
// stays as it is; what was revoked, ended or replaced since, it does not know.
func (d *Draft) Expired(now time.Time) bool { return !now.Before(d.content.Expires) }

// Caveat says what a verdict by this bundle must carry at now; empty if nothing.
func (d *Draft) Caveat(now time.Time) string {
	if !d.Expired(now) {
		return ""
	}
	return fmt.Sprintf("the trust bundle, version %d, expired at %s: what was revoked or replaced since then is not known",
		d.content.Version, d.content.Expires.UTC().Format(time.RFC3339))
}

// Bundle is a draft that enough of its own signers have signed.
type Bundle struct {
	Draft
	sigs []statement.Signature
}

// FingerprintError says that a bundle is not the one that was named.
type FingerprintError struct{ Want, Got string }

// Error implements error.
func (e *FingerprintError) Error() string {
	return fmt.Sprintf("trust bundle: has the fingerprint %s, expected %s", e.Got, e.Want)
}

// Check tells whether this is the bundle with a fingerprint that reached the
// caller by another way: the only ground to believe a first one. The error is a
// *FingerprintError.
func (d *Draft) Check(fingerprint string) error {
	if got := d.Fingerprint(); got != fingerprint {
		return &FingerprintError{Want: fingerprint, Got: got}
	}
	return nil
}

type file struct {
	Format    string   `json:"format"`
	Log       string   `json:"log"`
	Version   uint64   `json:"version"`
	Issued    int64    `json:"issuedMillis"`
	Expires   int64    `json:"expiresMillis"`
	Previous  string   `json:"previous,omitempty"`
	Threshold int      `json:"threshold"`
	Signers   []string `json:"signers"`
	Policy    []byte   `json:"policy"`
	Sidecar   []byte   `json:"sidecar"`
	Keyring   []byte   `json:"keyring,omitempty"`
	LogList   []byte   `json:"logList,omitempty"`
}

// Encode checks the content and writes its payload.
func (c *Content) Encode() ([]byte, error) {
	f := file{
		Format: Format, Log: c.Log, Version: c.Version, Issued: c.Issued.UnixMilli(), Expires: c.Expires.UnixMilli(),
		Threshold: c.Threshold, Policy: c.PolicyText, Sidecar: c.Sidecar, Keyring: c.KeyringRaw, LogList: c.LogListRaw,
	}
	if !c.Previous.IsZero() {
		f.Previous = c.Previous.String()
	}
	for _, s := range c.Signers {
		f.Signers = append(f.Signers, base64.StdEncoding.EncodeToString(s.DER()))
	}
	payload, err := json.Marshal(f)
	if err != nil {
		return nil, fmt.Errorf("encode a trust bundle: %w", err)
	}
	if _, err := Decode(payload); err != nil {
		return nil, err
	}
	return payload, nil
}

// Sign adds the signature of key to what others have signed, an envelope, or to
// what nobody has signed yet, a payload. A key signs once. The keys of the bundle
// before sign too, and need not be among the bundle's own signers.
func Sign(raw []byte, key *statement.PrivateKey) ([]byte, error) {
	d, sigs, err := Open(raw)
	if err != nil {
		return nil, err
	}
	message := statement.PAE(PayloadType, d.payload)
	for _, s := range sigs {
		if key.Public().Verify(message, s.Sig) == nil {
			return nil, fmt.Errorf("sign a trust bundle: key %s has signed it already", key.ID())
		}
	}
	if len(sigs) >= statement.MaxSignatures {
		return nil, fmt.Errorf("sign a trust bundle: it has %d signatures, which is the most", len(sigs))
	}
	sig, err := key.Sign(message)
	if err != nil {
		return nil, fmt.Errorf("sign a trust bundle: %w", err)
	}
	sigs = append(sigs, statement.Signature{KeyHint: key.ID().String(), Sig: sig})
	return statement.EncodeDSSE(PayloadType, d.payload, sigs), nil
}

// Open reads what is on its way to be signed: a payload, or an envelope with
// whatever signatures it has so far. It verifies none of them; see Parse.
func Open(raw []byte) (*Draft, []statement.Signature, error) {
	payload, sigs, err := statement.ParseDSSE(raw, PayloadType, MaxSize)
	if err != nil {
		// It is one or the other, and says which: no payload has a payloadType.
		if d, other := Decode(raw); other == nil {
			return d, nil, nil
		}
		return nil, nil, fmt.Errorf("trust bundle: %w", err)
	}
	d, err := Decode(payload)
	return d, sigs, err
}

// Parse reads a bundle strictly and checks that its own signers have signed it,
// as many as it asks for. It says nothing about whether to believe it: see
// Bundle.Check and Update.
func Parse(raw []byte) (*Bundle, error) {
	payload, sigs, err := statement.ParseDSSE(raw, PayloadType, MaxSize)
	if err != nil {
		return nil, fmt.Errorf("trust bundle: %w", err)
	}
	d, err := Decode(payload)
	if err != nil {
		return nil, err
	}
	b := &Bundle{Draft: *d, sigs: sigs}
	signed, err := d.SignedBy(sigs, d.content.Signers)
	if err != nil {
		return nil, err
	}
	if len(signed) < d.content.Threshold {
		return nil, fmt.Errorf("trust bundle: %d of its signers signed it, expected %d", len(signed), d.content.Threshold)
	}
	return b, nil
}

// SignedBy returns which of keys made one of sigs, in the order of keys. Two
// signatures of one key are an error: one of them would be there to be counted.
func (d *Draft) SignedBy(sigs []statement.Signature, keys []*statement.PublicKey) ([]statement.KeyID, error) {
	message := statement.PAE(PayloadType, d.payload)
	var ids []statement.KeyID
	for _, key := range keys {
		made := 0
		for _, s := range sigs {
			if key.Verify(message, s.Sig) == nil {
				made++
			}
		}
		if made > 1 {
			return nil, errors.New("trust bundle: two signatures are of one key")
		}
		if made == 1 {
			ids = append(ids, key.ID())
		}
	}
	return ids, nil
}

// Signers returns which of the bundle's own signers have signed it.
func (b *Bundle) Signers() []statement.KeyID {
	ids, _ := b.SignedBy(b.sigs, b.content.Signers) // Parse has checked it
	return ids
}
