package filing

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/trialog/trialog/api/client"
	"github.com/trialog/trialog/api/client/clienttest"
	"github.com/trialog/trialog/api/evidence"
)

// goodWork returns the bytes of a .trialog-pending file.
func goodWork(t *testing.T) []byte {
	t.Helper()
	w, dir := newWorld(t), t.TempDir()
	w.log.Script(clienttest.CutBefore)
	r := consents(dir)
	if _, err := w.desk(t.TempDir()).File(context.Background(), r, client.Final); err == nil {
		t.Fatal("the connection was not cut")
	}
	raw, err := os.ReadFile(r.Base + PendingEnding)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestReadWork(t *testing.T) {
	good := string(goodWork(t))
	path := filepath.Join(t.TempDir(), "x"+PendingEnding)
	if w, err := readWork(path); w != nil || err != nil {
		t.Fatalf("where there is none: %+v, %v", w, err)
	}
	write := func(text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(good)
	w, err := readWork(path)
	if err != nil || !w.found || w.statement == nil || len(w.Records) != 3 || len(w.Beacon) == 0 {
		t.Fatalf("read as %+v, %v", w, err)
	}
	if again, err := w.encode(); err != nil || string(again) != good {
		t.Errorf("it is not written back as it was: %v", err)
	}
	for name, text := range map[string]string{
		"empty":             "",
		"half":              good[:len(good)/2],
		"more":              good + "{}",
		"another format":    strings.Replace(good, workFormat, "trialog-work@v2", 1),
		"an unknown member": strings.Replace(good, `"format"`, `"x":1,"format"`, 1),
		"no envelope":       `{"format":"` + workFormat + `"}`,
		"no statement":      `{"format":"` + workFormat + `","envelope":"e30="}`,
		"a list":            "[]",
	} {
		t.Run(name, func(t *testing.T) {
			write(text)
			if w, err := readWork(path); err == nil {
				t.Errorf("read as %+v", w)
			}
		})
	}
}

// Whatever is read is written back as a file that is read as the same.
func FuzzReadWork(f *testing.F) {
	f.Add([]byte(`{"format":"trialog-work@v1","envelope":"e30="}`))
	f.Add([]byte(`{`))
	path := filepath.Join(f.TempDir(), "x"+PendingEnding)
	f.Fuzz(func(t *testing.T, raw []byte) {
		if err := os.WriteFile(path, raw, 0o600); err != nil {
			t.Fatal(err)
		}
		w, err := readWork(path)
		if err != nil {
			return
		}
		once, err := w.encode()
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, once, 0o600); err != nil {
			t.Fatal(err)
		}
		again, err := readWork(path)
		if err != nil {
			t.Fatal(err)
		}
		if twice, _ := again.encode(); !bytes.Equal(twice, once) {
			t.Fatalf("%s became %s", once, twice)
		}
	})
}

// TestTwoPromisesOfOnePlace: a log that promises the place to another entry when it is
// asked again has contradicted itself, whatever becomes of the two.
func TestTwoPromisesOfOnePlace(t *testing.T) {
	w, dir := newWorld(t), t.TempDir()
	d, r := w.desk(dir), protocol(dir)
	res, err := d.File(context.Background(), r, client.Pending)
	if err != nil || res.Promise == nil {
		t.Fatal(err)
	}
	w.log.Lose(int(res.Index))
	w.log.Contradict()
	_, err = d.File(context.Background(), protocol(dir), client.Pending)
	kept, ok := errors.AsType[*EvidenceError](err)
	if !ok || kept.Kind != evidence.KindPromiseFork || kept.Path != r.Base+EvidenceEnding {
		t.Fatalf("%v", err)
	}
	raw, err := os.ReadFile(kept.Path)
	if err != nil {
		t.Fatal(err)
	}
	if f, err := evidence.Verify(raw, w.policy); err != nil || !f.Conclusive {
		t.Errorf("%+v, %v", f, err)
	}
}
