package checkpoint

import (
	"bytes"
	"encoding/hex"
	"slices"
)

// weakEd25519 reports whether a 32-byte Ed25519 public key must not be trusted:
// its y coordinate is not reduced, so that one key would have two spellings, or
// the point has small order, so that anybody can make signatures which verify.
func weakEd25519(public []byte) bool {
	// RFC 8032, section 5.1.2: little endian y, the top bit is the sign of x,
	// which does not matter for the order of the point.
	y := slices.Clone(public)
	y[31] &= 0x7f
	slices.Reverse(y)
	if bytes.Compare(y, fieldPrime()) >= 0 {
		return true
	}
	return slices.Contains(smallOrderY(), hex.EncodeToString(y))
}

// fieldPrime returns 2^255 - 19, big endian.
func fieldPrime() []byte {
	p := bytes.Repeat([]byte{0xff}, 32)
	p[0], p[31] = 0x7f, 0xed
	return p
}

// smallOrderY returns the y coordinates of the eight points whose order divides
// 8, big endian in hex: of order 4, 1, 2, and twice 8.
func smallOrderY() []string {
	return []string{
		"0000000000000000000000000000000000000000000000000000000000000000",
		"0000000000000000000000000000000000000000000000000000000000000001",
		"7fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffec",
		"05fc536d880238b13933c6d305acdfd5f098eff289f4c345b027b2c28f95e826",
		"7a03ac9277fdc74ec6cc392cfa53202a0f67100d760b3cba4fd84d3d706a17c7",
	}
}
