package timestamp

import (
	"encoding/binary"
	"errors"
	"fmt"

	"go.etcd.io/bbolt"
)

// batch is a signed batch of records on its way into the log.
type batch struct {
	label            string
	envelope, beacon []byte
	records          [][]byte // as statement.Record encodes them
	serials          []serial // of the records, in their order
}

// Keys of the batch bucket.
const (
	labelKey    = "label"
	envelopeKey = "envelope"
	beaconKey   = "beacon"
	recordsKey  = "records" // see encodeRecords
	serialsKey  = "serials" // one behind the other
)

// keepBatch makes the batch durable, before it is sent.
func (s *state) keepBatch(b *batch) error {
	var serials []byte
	for _, n := range b.serials {
		serials = append(serials, n[:]...)
	}
	return s.update(func(tx *bbolt.Tx) error {
		bucket := tx.Bucket([]byte(batchBucket))
		if bucket.Get([]byte(envelopeKey)) != nil {
			return errors.New("another batch is under way")
		}
		for key, value := range map[string][]byte{
			labelKey: []byte(b.label), envelopeKey: b.envelope, beaconKey: b.beacon,
			recordsKey: encodeRecords(b.records), serialsKey: serials,
		} {
			if err := bucket.Put([]byte(key), value); err != nil {
				return fmt.Errorf("keep the batch: %w", err)
			}
		}
		return nil
	})
}

// batch returns the batch that is under way; nil if there is none.
func (s *state) batch() (b *batch, err error) {
	err = s.View(func(tx *bbolt.Tx) error {
		bucket := tx.Bucket([]byte(batchBucket))
		get := func(key string) []byte { return append([]byte(nil), bucket.Get([]byte(key))...) }
		if bucket.Get([]byte(envelopeKey)) == nil {
			return nil
		}
		b = &batch{label: string(get(labelKey)), envelope: get(envelopeKey), beacon: get(beaconKey)}
		var err error
		if b.records, err = decodeRecords(get(recordsKey)); err != nil {
			return err
		}
		b.serials, err = decodeSerials(get(serialsKey))
		if err == nil && (len(b.records) == 0 || len(b.serials) != len(b.records)) {
			err = fmt.Errorf("the state file: the batch has %d records and %d serial numbers", len(b.records), len(b.serials))
		}
		return err
	})
	return b, err
}

// dropBatch forgets the batch that is under way, and its records with it if it
// was logged.
func (s *state) dropBatch(logged bool) error {
	forgotten := 0
	err := s.update(func(tx *bbolt.Tx) error {
		bucket, tokens := tx.Bucket([]byte(batchBucket)), tx.Bucket([]byte(tokensBucket))
		if logged {
			serials, err := decodeSerials(bucket.Get([]byte(serialsKey)))
			if err != nil {
				return err
			}
			for _, n := range serials {
				if tokens.Get(n[:]) != nil {
					forgotten++
				}
				if err := tokens.Delete(n[:]); err != nil {
					return fmt.Errorf("forget the record of a token: %w", err)
				}
			}
		}
		for _, key := range []string{labelKey, envelopeKey, beaconKey, recordsKey, serialsKey} {
			if err := bucket.Delete([]byte(key)); err != nil {
				return fmt.Errorf("forget the batch: %w", err)
			}
		}
		return nil
	})
	if err == nil {
		s.records.Add(-int64(forgotten))
	}
	return err
}

func decodeSerials(raw []byte) ([]serial, error) {
	var n serial
	if len(raw)%len(n) != 0 {
		return nil, fmt.Errorf("the state file: %d bytes of serial numbers", len(raw))
	}
	list := make([]serial, 0, len(raw)/len(n))
	for ; len(raw) > 0; raw = raw[len(n):] {
		list = append(list, serial(raw[:len(n)]))
	}
	return list, nil
}

// encodeRecords writes records one behind the other, each behind its length as
// u32, big endian.
func encodeRecords(records [][]byte) []byte {
	var out []byte
	for _, r := range records {
		out = binary.BigEndian.AppendUint32(out, uint32(len(r)))
		out = append(out, r...)
	}
	return out
}

// decodeRecords reads what encodeRecords writes.
func decodeRecords(raw []byte) ([][]byte, error) {
	var list [][]byte
	for len(raw) > 0 {
		if len(raw) < 4 {
			return nil, errors.New("records: cut off")
		}
		n := binary.BigEndian.Uint32(raw)
		if raw = raw[4:]; uint64(n) > uint64(len(raw)) {
			return nil, errors.New("records: cut off")
		}
		list = append(list, raw[:n:n])
		raw = raw[n:]
	}
	return list, nil
}
