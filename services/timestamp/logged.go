package timestamp

import (
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"strings"

	"github.com/trialog/trialog/api/receipt"
	"github.com/trialog/trialog/api/statement"
)

// Endings of the files in the folder of what was logged, two for each batch.
const (
	recordsEnding = ".records" // the batch's records, each behind its length as u32
	receiptEnding = ".receipt" // the batch's receipt
)

// ErrNotLogged says that no record of a token is in the folder.
var ErrNotLogged = errors.New("no record of this token was logged here")

// keepLogged makes the records and the receipt of a batch durable. The same again
// changes nothing.
func keepLogged(folder, label string, records [][]byte, raw []byte) error {
	base := filepath.Join(folder, label)
	if err := writeFile(base+recordsEnding, encodeRecords(records)); err != nil {
		return fmt.Errorf("keep the records of a batch: %w", err)
	}
	if err := writeFile(base+receiptEnding, raw); err != nil {
		return fmt.Errorf("keep the receipt of a batch: %w", err)
	}
	return nil
}

// writeFile puts a file at its place when it is whole and durable.
func writeFile(path string, data []byte) error {
	f, err := os.OpenFile(path+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return syncFolder(filepath.Dir(path))
}

// Receipt returns the .receipt file of the record of one token: that of its batch
// with the path inside. folder is JournalConfig.Folder. The error matches
// ErrNotLogged if the token is in none of the batches.
func Receipt(folder string, number *big.Int) ([]byte, error) {
	files, err := filepath.Glob(filepath.Join(folder, "*"+receiptEnding))
	if err != nil {
		return nil, err
	}
	want := number.Text(16)
	for _, file := range files {
		records, err := readRecords(strings.TrimSuffix(file, receiptEnding) + recordsEnding)
		if err != nil {
			return nil, err
		}
		for i, data := range records {
			if serialOf(data) == want {
				return recordReceipt(file, records, i)
			}
		}
	}
	return nil, fmt.Errorf("%w: serial number %s", ErrNotLogged, want)
}

func readRecords(path string) ([][]byte, error) {
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("the records of a batch are missing: %w", err)
	}
	if err != nil {
		return nil, err
	}
	list, err := decodeRecords(raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return list, nil
}

// serialOf returns the serial number in a token's record; empty if it is none.
func serialOf(data []byte) string {
	rec, err := statement.ParseRecord(data)
	if err != nil {
		return ""
	}
	it, err := statement.DecodeItem(rec.Body)
	if err != nil {
		return ""
	}
	for _, m := range it.Attributes {
		if m.Name == "serial" {
			return m.Value.Text
		}
	}
	return ""
}

func recordReceipt(file string, records [][]byte, index int) ([]byte, error) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	r, err := receipt.Parse(raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	path, err := statement.BatchPath(records, index)
	if err != nil {
		return nil, err
	}
	r.Record = &receipt.Record{Data: records[index], Index: uint64(index)}
	for _, h := range path {
		r.Record.Path = append(r.Record.Path, [32]byte(h))
	}
	return r.Encode()
}
