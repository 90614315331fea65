package main

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
)

// noise gives random bytes and numbers far faster than the system does. It is
// for one goroutine.
type noise struct{ stream cipher.Stream }

func newNoise() (*noise, error) {
	key := make([]byte, 32)
	if _, err := rand.Read(key); err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key[:16])
	if err != nil {
		return nil, err
	}
	return &noise{cipher.NewCTR(block, key[16:])}, nil
}

// newNoises makes a source for each of n goroutines.
func newNoises(n int) ([]*noise, error) {
	all := make([]*noise, n)
	for i := range all {
		var err error
		if all[i], err = newNoise(); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// bytes returns n new random bytes.
func (s *noise) bytes(n int) []byte {
	b := make([]byte, n)
	s.stream.XORKeyStream(b, b)
	return b
}

// below returns a random number below n, which is at most 2^32.
func (s *noise) below(n uint64) uint64 {
	return binary.BigEndian.Uint64(s.bytes(8)) % n
}
