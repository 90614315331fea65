package tile

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// MaxEntry is the length of the longest entry: its length is written in 16 bits.
const MaxEntry = 1<<16 - 1

var errTruncated = errors.New("the last entry is cut short")

// AppendEntry appends an entry to the bytes of a bundle.
//
// SPEC (C2SP tlog-tiles, "Log entries"): "Entry bundles are sequences of
// big-endian uint16 length-prefixed log entries."
func AppendEntry(bundle, entry []byte) ([]byte, error) {
	if len(entry) > MaxEntry {
		return nil, fmt.Errorf("entry of %d bytes, want at most %d", len(entry), MaxEntry)
	}
	bundle = binary.BigEndian.AppendUint16(bundle, uint16(len(entry))) //nolint:gosec // at most MaxEntry
	return append(bundle, entry...), nil
}

// ParseBundle returns the entries of a bundle, 1 to 256 of them, as slices of
// data. It refuses an empty bundle and bytes after the last entry.
func ParseBundle(data []byte) ([][]byte, error) {
	var entries [][]byte
	for len(data) > 0 {
		if len(entries) == FullWidth {
			return nil, fmt.Errorf("%d bytes after the last of %d entries", len(data), FullWidth)
		}
		entry, rest, err := cutEntry(data)
		if err != nil {
			return nil, err
		}
		entries = append(entries, entry)
		data = rest
	}
	if len(entries) == 0 {
		return nil, errors.New("no entries")
	}
	return entries, nil
}

// ParsePrefix returns the first n entries of a bundle, as slices of data, and how
// many bytes they take. What follows them is not looked at: in a bundle that
// grows in place it may be what a crash left behind.
func ParsePrefix(data []byte, n int) (entries [][]byte, length int, err error) {
	entries = make([][]byte, n)
	rest := data
	for i := range entries {
		if entries[i], rest, err = cutEntry(rest); err != nil {
			return nil, 0, fmt.Errorf("entry %d of the bundle: %w", i, err)
		}
	}
	return entries, len(data) - len(rest), nil
}

func cutEntry(data []byte) (entry, rest []byte, err error) {
	if len(data) < 2 {
		return nil, nil, errTruncated
	}
	n := int(binary.BigEndian.Uint16(data))
	if len(data) < 2+n {
		return nil, nil, errTruncated
	}
	return data[2 : 2+n : 2+n], data[2+n:], nil
}
