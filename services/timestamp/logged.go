package timestamp

import (
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"

	"github.com/trialog/trialog/api/receipt"
	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/services/internal/durable"
)

// Endings of the files in the folder of what was logged, two for each batch. The
// names begin with the batch's label and the first digits of its records' root:
// after an older copy of the state file was put back, another batch may have the
// same label.
const (
	recordsEnding = ".records" // the batch's records, each behind its length as u32
	receiptEnding = ".receipt" // the batch's receipt
	rootDigits    = 16
)

// ErrNotLogged says that no record of a token is in the folder.
var ErrNotLogged = errors.New("no record of this token was logged here")

// keepLogged makes the records and the receipt of a batch durable. The same again
// changes nothing.
func keepLogged(folder, label string, records [][]byte, raw []byte) error {
	root, err := statement.BatchRoot(records)
	if err != nil {
		return fmt.Errorf("keep the records of a batch: %w", err)
	}
	base := filepath.Join(folder, label+"-"+root.String()[:rootDigits])
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
	return durable.SyncFolder(filepath.Dir(path))
}

// Receipt returns the .receipt file of the record of one token: that of its batch
// with the path inside. folder is JournalConfig.Folder. The error matches
// ErrNotLogged if all batches could be read and the token is in none of them.
func Receipt(folder string, number *big.Int) ([]byte, error) {
	files, err := os.ReadDir(folder)
	if err != nil {
		return nil, err
	}
	want := number.Text(16)
	for _, f := range files {
		base, ok := strings.CutSuffix(f.Name(), receiptEnding)
		if !ok {
			continue
		}
		records, err := readRecords(filepath.Join(folder, base+recordsEnding))
		if err != nil {
			return nil, err
		}
		for i, data := range records {
			switch serial, err := serialOf(data); {
			case err != nil:
				return nil, fmt.Errorf("%s%s: record %d: %w", base, recordsEnding, i, err)
			case serial == want:
				return recordReceipt(filepath.Join(folder, f.Name()), records, i)
			}
		}
	}
	return nil, fmt.Errorf("%w: serial number %s", ErrNotLogged, want)
}

func readRecords(path string) ([][]byte, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the records of a batch: %w", err)
	}
	list, err := decodeRecords(raw)
	if err == nil && len(list) == 0 {
		err = errors.New("records: none")
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return list, nil
}

// serialOf returns the serial number in a token's record.
func serialOf(data []byte) (string, error) {
	rec, err := statement.ParseRecord(data)
	if err != nil {
		return "", err
	}
	it, err := statement.DecodeItem(rec.Body)
	if err != nil {
		return "", err
	}
	for _, m := range it.Attributes {
		if m.Name == "serial" {
			return m.Value.Text, nil
		}
	}
	return "", errors.New("it has no serial number")
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
