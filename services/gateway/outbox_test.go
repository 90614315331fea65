package gateway

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

func TestOutbox(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	box, err := openOutbox(path)
	if err != nil {
		t.Fatal(err)
	}
	if r, err := box.load("p/r"); r != nil || err != nil {
		t.Errorf("an empty box gave %v, %v", r, err)
	}
	want := &record{envelope: []byte("envelope"), beacon: "beacon"}
	if err := box.save("p/r", want); err != nil {
		t.Fatal(err)
	}
	if err := box.close(); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if box, err = openOutbox(path); err != nil {
		t.Fatal(err)
	}
	got, err := box.load("p/r")
	if err != nil || !bytes.Equal(got.envelope, want.envelope) || got.beacon != want.beacon {
		t.Errorf("got %+v, %v", got, err)
	}
	if err := box.drop("p/r"); err != nil {
		t.Fatal(err)
	}
	if r, err := box.load("p/r"); r != nil || err != nil {
		t.Errorf("a dropped record is there: %v, %v", r, err)
	}
	if err := box.close(); err != nil {
		t.Fatal(err)
	}
	if err := box.save("p/r", want); err == nil {
		t.Error("a closed box took a record")
	}
	if _, err := box.load("p/r"); err == nil {
		t.Error("a closed box gave a record")
	}
	if err := box.drop("p/r"); err == nil {
		t.Error("a closed box dropped a record")
	}
}

func TestOpenOutboxRejects(t *testing.T) {
	garbage := filepath.Join(t.TempDir(), "garbage")
	if err := os.WriteFile(garbage, bytes.Repeat([]byte("x"), 1<<16), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, path := range map[string]string{
		"no path": "", "no directory": filepath.Join(t.TempDir(), "a", "b"), "garbage": garbage,
	} {
		if _, err := openOutbox(path); err == nil {
			t.Errorf("%s: opened", name)
		}
	}
}

func TestDecodeRecordRejects(t *testing.T) {
	for name, raw := range map[string]string{
		"empty":            "",
		"other version":    "\x02\x00\x00\x00\x01e",
		"short":            "\x01\x00\x00\x00",
		"no envelope":      "\x01\x00\x00\x00\x00beacon",
		"envelope too big": "\x01\x00\x00\x00\x02e",
		"length overflow":  "\x01\xff\xff\xff\xffe",
	} {
		if _, err := decodeRecord([]byte(raw)); err == nil {
			t.Errorf("%s: decoded", name)
		}
	}
}

// FuzzDecodeRecord: what decodes encodes to the same bytes.
func FuzzDecodeRecord(f *testing.F) {
	f.Add((&record{envelope: []byte("e"), beacon: "b"}).encode())
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, raw []byte) {
		r, err := decodeRecord(raw)
		if err == nil && !bytes.Equal(r.encode(), raw) {
			t.Errorf("%x encodes to %x", raw, r.encode())
		}
	})
}
