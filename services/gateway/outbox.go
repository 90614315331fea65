package gateway

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/bbolt"
)

// outbox keeps what was signed for which request, so that what is sent again is
// the same. Writes are durable when they return nil; after an error either may
// be the case, and the caller sends nothing.
type outbox interface {
	// load returns the record of a request, nil if there is none.
	load(request string) (*record, error)
	save(request string, r *record) error
	// drop forgets a request of which nothing was stored anywhere.
	drop(request string) error
	close() error
}

// record is what was signed for one request.
type record struct {
	envelope []byte // verbatim, as it is sent
	beacon   string // the note that it names; empty if none
}

// recordVersion is the first byte of a record.
const recordVersion = 1

// encode writes a record: version, length of the envelope as a 32-bit
// big-endian integer, envelope, beacon.
func (r *record) encode() []byte {
	b := make([]byte, 0, 5+len(r.envelope)+len(r.beacon))
	b = append(b, recordVersion)
	b = binary.BigEndian.AppendUint32(b, uint32(len(r.envelope)))
	b = append(b, r.envelope...)
	return append(b, r.beacon...)
}

// errRecord says that a record in the state file cannot be read.
var errRecord = errors.New("a record of the state file is damaged")

// decodeRecord reads a record; encode of the result gives raw back.
func decodeRecord(raw []byte) (*record, error) {
	if len(raw) < 5 || raw[0] != recordVersion {
		return nil, errRecord
	}
	n := binary.BigEndian.Uint32(raw[1:5])
	rest := raw[5:]
	if n == 0 || uint64(n) > uint64(len(rest)) {
		return nil, errRecord
	}
	// The caller's slice is the file's, gone when the transaction ends.
	return &record{envelope: append([]byte(nil), rest[:n]...), beacon: string(rest[n:])}, nil
}

// boltOutbox is an outbox in a bbolt file, which syncs every write.
type boltOutbox struct{ db *bbolt.DB }

// openTimeout is how long another process may take to let go of the file.
const openTimeout = 5 * time.Second

func requests() []byte { return []byte("requests") }

func openOutbox(path string) (outbox, error) {
	if path == "" {
		return nil, errors.New("gateway: a key needs a state file")
	}
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: openTimeout})
	if err != nil {
		return nil, fmt.Errorf("gateway: open the state file: %w", err)
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		_, err := tx.CreateBucketIfNotExists(requests())
		return err
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("gateway: prepare the state file: %w", err), db.Close())
	}
	return &boltOutbox{db: db}, nil
}

func (o *boltOutbox) load(request string) (*record, error) {
	var r *record
	err := o.db.View(func(tx *bbolt.Tx) error {
		raw := tx.Bucket(requests()).Get([]byte(request))
		if raw == nil {
			return nil
		}
		var err error
		r, err = decodeRecord(raw)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read a request from the state file: %w", err)
	}
	return r, nil
}

// save replaces the record of a request. bbolt groups what comes at once into
// one sync.
func (o *boltOutbox) save(request string, r *record) error {
	err := o.db.Batch(func(tx *bbolt.Tx) error { return tx.Bucket(requests()).Put([]byte(request), r.encode()) })
	if err != nil {
		return fmt.Errorf("write a request to the state file: %w", err)
	}
	return nil
}

func (o *boltOutbox) drop(request string) error {
	err := o.db.Batch(func(tx *bbolt.Tx) error { return tx.Bucket(requests()).Delete([]byte(request)) })
	if err != nil {
		return fmt.Errorf("forget a request of the state file: %w", err)
	}
	return nil
}

func (o *boltOutbox) close() error {
	if err := o.db.Close(); err != nil {
		return fmt.Errorf("close the state file: %w", err)
	}
	return nil
}
