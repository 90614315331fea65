// Package edkey tells which Ed25519 public keys must not be trusted.
package edkey

import (
	"crypto/ed25519"
	"slices"
)

// Weak tells whether a point must not be trusted as a public key: its
// order divides 8, so that signatures which anybody can make verify under it
// for many messages, or its y is not reduced modulo 2^255-19, so that one key
// would have two encodings and two ids. Go's ed25519.Verify refuses neither.
func Weak(key [ed25519.PublicKeySize]byte) bool {
	// RFC 8032 section 5.1.2: y in little-endian order; the top bit is the sign
	// of x, and a point has the order of its negative.
	key[31] &= 0x7f
	return !reduced(key) || slices.Contains(smallOrder(), key)
}

// reduced tells whether the little-endian y is below 2^255-19, whose bytes are
// 0xed, thirty times 0xff, 0x7f.
func reduced(y [32]byte) bool {
	if y[31] != 0x7f || y[0] < 0xed {
		return true
	}
	return slices.ContainsFunc(y[1:31], func(b byte) bool { return b != 0xff })
}

// smallOrder returns the reduced y of the points whose order divides 8.
func smallOrder() [][32]byte {
	minusOne := [32]byte{0xec, 31: 0x7f} // order 2
	for i := 1; i < 31; i++ {
		minusOne[i] = 0xff
	}
	return [][32]byte{
		{},  // y = 0, order 4
		{1}, // y = 1, the neutral point
		minusOne,
		{ // order 8
			0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0,
			0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05,
		},
		{ // order 8
			0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f,
			0x2a, 0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a,
		},
	}
}
