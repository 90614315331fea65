package timestamp

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/trialog/trialog/api/statement"
)

// record is what is kept of a token, and logged.
type record struct {
	serial serial
	time   time.Time // to the millisecond
	// imprint is what was stamped if that is a SHA-256 digest, and its SHA-256 if
	// it is a longer one: the table of kinds has room for 32 bytes.
	imprint statement.Digest
}

// recordImprint returns a record's imprint of a request's digest.
func recordImprint(digest []byte) statement.Digest {
	if len(digest) == sha256.Size {
		return statement.Digest(digest)
	}
	return sha256.Sum256(digest)
}

// recordFormat is the first byte of a stored record.
const recordFormat = 1

// value is what stands in the state file under the serial number:
// u8 format ‖ u64 time in ms ‖ imprint.
func (r *record) value() []byte {
	v := make([]byte, 0, 1+8+len(r.imprint))
	v = append(v, recordFormat)
	v = binary.BigEndian.AppendUint64(v, uint64(r.time.UnixMilli()))
	return append(v, r.imprint[:]...)
}

// parseRecord reads a record of the state file.
func parseRecord(key, value []byte) (*record, error) {
	r := new(record)
	if len(key) != len(r.serial) || len(value) != 1+8+len(r.imprint) || value[0] != recordFormat {
		return nil, fmt.Errorf("the state file: the record of token %x cannot be read", key)
	}
	copy(r.serial[:], key)
	r.time = time.UnixMilli(int64(binary.BigEndian.Uint64(value[1:])))
	copy(r.imprint[:], value[9:])
	return r, nil
}

// item is the record as it is logged (docs/formats.md, kind token). The time is
// cut to the second, as statements have it.
func (r *record) item(organisation string) []byte {
	it := &statement.Item{
		Context: statement.Context{Organisation: organisation, Kind: statement.KindToken},
		Attributes: []statement.Member{
			statement.TextMember("serial", r.serial.text()),
			statement.TextMember("imprint", r.imprint.String()),
			statement.TextMember("time", string(date(r.time))),
		},
	}
	return it.Encode()
}

func date(t time.Time) statement.Date {
	return statement.Date(t.UTC().Format("2006-01-02T15:04:05Z"))
}
