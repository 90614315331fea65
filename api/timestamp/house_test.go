package timestamp_test

import (
	"crypto/sha256"
	"encoding/asn1"
	"math/big"
	"time"

	"github.com/trialog/trialog/api/timestamp"
	tt "github.com/trialog/trialog/api/timestamp/timestamptest"
)

// house is an authority with strangers around it.
type house struct {
	authority, other *tt.Authority
	digest           [32]byte
	nonce            *big.Int
	at               time.Time
	// unit makes another unit under the authority's issuer.
	unit func(name string, changes ...tt.Change) *tt.Entity
}

func newHouse() *house {
	h := &house{
		authority: tt.New("authority"), other: tt.New("other authority"),
		digest: sha256.Sum256([]byte("checkpoint")), nonce: big.NewInt(0x7f5a_1234_5678),
		at: time.Date(2026, 6, 1, 12, 0, 0, 250_000_000, time.UTC),
	}
	h.unit = func(name string, changes ...tt.Change) *tt.Entity {
		return tt.Issue(h.authority.Issuer, name, tt.P256Key(name), append([]tt.Change{tt.Purpose(true, tt.TimeStamping)}, changes...)...)
	}
	return h
}

func (h *house) policy() asn1.ObjectIdentifier {
	return asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 99999, 1}
}

func (h *house) expect() timestamp.Expect {
	return timestamp.Expect{Digest: h.digest, Nonce: h.nonce, Policy: h.policy()}
}

// stamp makes the good answer to the house's request, but for the changes.
func (h *house) stamp(changes ...func(*tt.Draft)) []byte {
	return h.authority.Stamp(h.digest, h.at, append([]func(*tt.Draft){func(d *tt.Draft) { d.Nonce = tt.BigInt(h.nonce) }}, changes...)...)
}

// judge parses and verifies.
func (h *house) judge(raw []byte) error {
	t, err := timestamp.Parse(raw)
	if err != nil {
		return err
	}
	return t.Verify(h.authority.Root.Cert, h.expect())
}
