package testlog

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"fmt"
	"io"
	"math/big"
	"time"

	"filippo.io/mldsa"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/statement"
)

// NoteKey signs checkpoints. The product's own key draws randomness for
// ML-DSA-44, and refuses to sign what it should not; this one does neither.
type NoteKey struct {
	*checkpoint.VerifierKey
	ed25519 ed25519.PrivateKey
	mldsa   *mldsa.PrivateKey
}

// NewNoteKey makes the key of a name and signature type.
func NewNoteKey(name string, alg checkpoint.Algorithm) *NoteKey {
	return LabelledNoteKey(name, alg, "")
}

// LabelledNoteKey makes a further key of a name and signature type.
func LabelledNoteKey(name string, alg checkpoint.Algorithm, label string) *NoteKey {
	seed := Seed(fmt.Sprintf("note key\n%s\n%d\n%s", name, alg, label))
	public := Must(checkpoint.GenerateKey(bytes.NewReader(seed[:]), name, alg)).Verifier()
	k := &NoteKey{VerifierKey: public}
	if alg == checkpoint.AlgMLDSA44 {
		k.mldsa = Must(mldsa.NewPrivateKey(mldsa.MLDSA44(), seed[:]))
	} else {
		k.ed25519 = ed25519.NewKeyFromSeed(seed[:])
	}
	return k
}

// Sign signs a note text at time t, which type 0x01 does not state. The
// messages are those of c2sp.org/signed-note and c2sp.org/tlog-cosignature,
// written down here a second time.
func (k *NoteKey) Sign(text []byte, t uint64) checkpoint.Signature {
	s := checkpoint.Signature{Name: k.Name(), KeyID: k.ID()}
	switch k.Algorithm() {
	case checkpoint.AlgEd25519:
		s.Bytes = ed25519.Sign(k.ed25519, text)
	case checkpoint.AlgEd25519Cosignature:
		message := fmt.Appendf(nil, "cosignature/v1\ntime %d\n%s", t, text)
		s.Bytes = append(binary.BigEndian.AppendUint64(nil, t), ed25519.Sign(k.ed25519, message)...)
	case checkpoint.AlgMLDSA44:
		var origin, root string
		var size uint64
		Must(fmt.Sscanf(string(text), "%s\n%d\n%s\n", &origin, &size, &root))
		message := append([]byte("subtree/v1\n\x00"), byte(len(k.Name()))) //nolint:gosec // names here are short
		message = append(message, k.Name()...)
		message = binary.BigEndian.AppendUint64(message, t)
		message = append(append(message, byte(len(origin))), origin...) //nolint:gosec // as above
		message = binary.BigEndian.AppendUint64(message, 0)
		message = binary.BigEndian.AppendUint64(message, size)
		message = append(message, fromBase64(root)...)
		s.Bytes = append(binary.BigEndian.AppendUint64(nil, t), Must(k.mldsa.SignDeterministic(message, nil))...)
	}
	return s
}

// Ed25519Key makes a submitter's key.
func Ed25519Key(label string) *statement.PrivateKey {
	seed := Seed("submitter\n" + label)
	return Must(statement.GenerateKey(bytes.NewReader(seed[:])))
}

// Certificate makes a self-signed X.509 certificate as DER.
func Certificate(name string) []byte {
	seed := Seed("certificate\n" + name)
	key := ed25519.NewKeyFromSeed(seed[:])
	at := time.Unix(Start, 0).UTC()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: at, NotAfter: at.AddDate(10, 0, 0),
	}
	return Must(x509.CreateCertificate(NewStream(name), template, template, key.Public(), key))
}

// P256Key makes a submitter's key that signs by RFC 6979.
func P256Key(label string) *statement.PrivateKey {
	seed := Seed("submitter P-256\n" + label)
	key := Must(ecdsa.ParseRawPrivateKey(elliptic.P256(), seed[:]))
	return Must(statement.NewPrivateKey(repeatable{key}))
}

// repeatable signs without randomness.
type repeatable struct{ *ecdsa.PrivateKey }

// Sign implements crypto.Signer.
func (r repeatable) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return r.PrivateKey.Sign(nil, digest, opts)
}
