// Package entry is what the log stores: one leaf, a fixed binary frame around
// the envelope exactly as it was received.
//
//	u8 version = 1 ‖ u64 receive time, ms since 1970-01-01 UTC, big-endian ‖ envelope
//
// A frame, because JSON inside JSON would be re-encoded. An entry is at most
// 65,535 bytes (C2SP tlog-tiles). Its leaf hash is RFC 6962's, SHA-256 over
// 0x00 and the entry.
package entry

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math"
	"time"

	"github.com/trialog/trialog/api/statement"
)

// Version is the first byte of an entry.
const Version = 1

// Sizes in bytes.
const (
	HeaderSize = 9
	MaxSize    = math.MaxUint16
)

// maxMillis is the latest receive time, in the year 2262: what a time in
// nanoseconds can hold, as many databases and languages do.
const maxMillis = math.MaxInt64 / int64(time.Millisecond)

// Entry is a parsed entry.
type Entry struct {
	// Received is the log's own clock when it took the statement in: a claim of
	// the log, never a bound.
	Received time.Time
	// Envelope is the DSSE envelope, verbatim.
	Envelope []byte
}

// Encode frames an envelope with the receive time, which is cut to milliseconds.
func Encode(received time.Time, envelope []byte) ([]byte, error) {
	if len(envelope) == 0 || HeaderSize+len(envelope) > MaxSize {
		return nil, fmt.Errorf("entry: an envelope of %d bytes, expected 1 to %d", len(envelope), MaxSize-HeaderSize)
	}
	ms := received.UnixMilli()
	if ms < 0 || ms > maxMillis {
		return nil, fmt.Errorf("entry: receive time %s lies before 1970 or after 2262", received.UTC().Format(time.RFC3339))
	}
	raw := make([]byte, 0, HeaderSize+len(envelope))
	raw = append(raw, Version)
	raw = binary.BigEndian.AppendUint64(raw, uint64(ms))
	return append(raw, envelope...), nil
}

// Parse reads an entry. Encode of the result gives raw back. The envelope is a
// part of raw, which the caller must not change.
func Parse(raw []byte) (*Entry, error) {
	if len(raw) <= HeaderSize || len(raw) > MaxSize {
		return nil, fmt.Errorf("entry: %d bytes, expected %d to %d", len(raw), HeaderSize+1, MaxSize)
	}
	if raw[0] != Version {
		return nil, fmt.Errorf("entry: version %d, expected %d", raw[0], Version)
	}
	ms := binary.BigEndian.Uint64(raw[1:])
	if ms > uint64(maxMillis) {
		return nil, fmt.Errorf("entry: receive time %d ms is out of range", ms)
	}
	return &Entry{Received: time.UnixMilli(int64(ms)).UTC(), Envelope: raw[HeaderSize:len(raw):len(raw)]}, nil
}

// LeafHash returns the RFC 6962 section 2.1 leaf hash of an entry's bytes.
func LeafHash(raw []byte) [sha256.Size]byte {
	h := sha256.New()
	h.Write([]byte{0})
	h.Write(raw)
	var sum [sha256.Size]byte
	h.Sum(sum[:0])
	return sum
}

// Identity computes the identity of the statement in an entry, by which a log
// finds it again. It returns false if raw is no entry with a statement in it.
func Identity(raw []byte) ([sha256.Size]byte, bool) {
	e, err := Parse(raw)
	if err != nil {
		return [sha256.Size]byte{}, false
	}
	envelope, s, err := statement.Parse(e.Envelope)
	if err != nil {
		return [sha256.Size]byte{}, false
	}
	return s.Identity(envelope.Payload), true
}
