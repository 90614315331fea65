// Package testlog makes, from fixed seeds, a small log with everything around
// it: log and witness keys, organisations with enrolled keys, statements,
// beacons, batches, receipts, a policy and a keyring. The tests of api/verify
// and the generator of api/vectors share it, so that the vectors are those
// that the tests understand.
//
// All of it is deterministic: the same program makes the same bytes. Nothing in
// it is secret.
//
// Functions that cannot go on stop with a panic of a private type; Do turns it
// into an error, so that the text of a story stays readable.
package testlog

import (
	"crypto/sha256"
	"fmt"
)

// stop is what a function of this package panics with.
type stop struct{ err error }

// Do runs f and returns the error on which a function of this package stopped.
func Do(f func()) (err error) {
	defer func() {
		switch v := recover().(type) {
		case nil:
		case stop:
			err = v.err
		default:
			panic(v)
		}
	}()
	f()
	return nil
}

// Must returns v, or stops.
func Must[T any](v T, err error) T {
	Check(err)
	return v
}

// Check stops if there is an error.
func Check(err error) {
	if err != nil {
		panic(stop{fmt.Errorf("testlog: %w", err)})
	}
}

// Seed derives 32 bytes from a label.
func Seed(label string) [32]byte { return sha256.Sum256([]byte("trialog/testlog/v1\n" + label)) }

// Stream is an endless deterministic source of bytes.
type Stream struct {
	label string
	n     int
	left  []byte
}

// NewStream returns the stream of a label.
func NewStream(label string) *Stream { return &Stream{label: label} }

// Read implements io.Reader; it never fails.
func (s *Stream) Read(p []byte) (int, error) {
	for i := range p {
		if len(s.left) == 0 {
			block := Seed(fmt.Sprintf("%s\n%d", s.label, s.n))
			s.n++
			s.left = block[:]
		}
		p[i], s.left = s.left[0], s.left[1:]
	}
	return len(p), nil
}
