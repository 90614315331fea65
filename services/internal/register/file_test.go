package register

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const origin = "log.test/trials/1"

func record(size uint64) Record {
	return Record{Origin: origin, Size: size, Root: [32]byte{byte(size), 0xab}}
}

func open(t *testing.T, path string) *File {
	t.Helper()
	f, err := OpenFile(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

// holds checks what a register holds.
func holds(t *testing.T, f *File, want Record) {
	t.Helper()
	if got, err := f.Read(context.Background()); err != nil || got != want {
		t.Errorf("the register holds %+v, %v; expected %+v", got, err, want)
	}
}

func TestFileIsKept(t *testing.T) {
	ctx, path := context.Background(), filepath.Join(t.TempDir(), "register")
	f := open(t, path)
	if err := f.Create(ctx, record(5)); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	holds(t, open(t, path), record(5))
}

func TestLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "register")
	f := open(t, path)
	if second, err := OpenFile(path); !errors.Is(err, ErrOwned) || second != nil {
		t.Errorf("opened twice: %v", err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	open(t, path)
	if _, err := OpenFile(filepath.Join(t.TempDir(), "no", "folder")); err == nil || errors.Is(err, ErrOwned) {
		t.Errorf("opened without a folder: %v", err)
	}
}

// TestWriteFails lets each sync of a write fail. The register then holds the old
// record or the new one, and a swap that succeeds afterwards counts.
func TestWriteFails(t *testing.T) {
	ctx := context.Background()
	failed := errors.New("no space left")
	for at, want := range map[int]Record{1: record(0), 2: record(5)} {
		path := filepath.Join(t.TempDir(), "register")
		f := open(t, path)
		if err := f.Create(ctx, record(0)); err != nil {
			t.Fatal(err)
		}
		n := 0
		f.fsync = func(file *os.File) error {
			n++
			if n == at {
				return failed
			}
			return file.Sync()
		}
		if err := f.Swap(ctx, record(0), record(5)); !errors.Is(err, failed) {
			t.Errorf("sync %d fails, but the swap returns %v", at, err)
		}
		holds(t, f, want)
		if err := f.Swap(ctx, want, record(5)); err != nil {
			t.Errorf("again: %v", err)
		}
		holds(t, f, record(5))
	}
}

// TestLeftOver: what a crash left of a write is no obstacle, and not read.
func TestLeftOver(t *testing.T) {
	ctx, path := context.Background(), filepath.Join(t.TempDir(), "register")
	f := open(t, path)
	if err := f.Create(ctx, record(3)); err != nil {
		t.Fatal(err)
	}
	for _, left := range []string{"", "trialog-reg", format(record(9)), strings.Repeat("x", 9000)} {
		if err := os.WriteFile(path+".new", []byte(left), 0o600); err != nil {
			t.Fatal(err)
		}
		holds(t, f, record(3))
		if err := f.Swap(ctx, record(3), record(3)); err != nil {
			t.Error(err)
		}
		holds(t, f, record(3))
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(path+".new", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := f.Create(ctx, record(1)); err == nil {
		t.Error("written although the new file cannot be opened")
	}
	if _, err := f.Read(ctx); !errors.Is(err, ErrMissing) {
		t.Errorf("a write that failed left %v", err)
	}
}

func good() string { return format(record(5)) }

func TestParse(t *testing.T) {
	for _, r := range []Record{{}, record(0), record(1<<63 - 1), {Origin: origin, Size: 7, Sealed: true}} {
		if got, err := parse(format(r)); err != nil || got != r {
			t.Errorf("%+v became %+v, %v", r, got, err)
		}
	}
	root := strings.Repeat("ab", 32)
	for name, text := range map[string]string{
		"empty":              "",
		"one line":           "trialog-register@v1\n",
		"no last newline":    strings.TrimSuffix(good(), "\n"),
		"a line more":        good() + "\n",
		"a line less":        strings.Replace(good(), "open\n", "", 1),
		"a byte after":       good() + "x",
		"a byte before":      " " + good(),
		"another header":     strings.Replace(good(), "@v1", "@v2", 1),
		"CRLF":               strings.ReplaceAll(good(), "\n", "\r\n"),
		"no size":            strings.Replace(good(), "\n5\n", "\n\n", 1),
		"size with a zero":   strings.Replace(good(), "\n5\n", "\n05\n", 1),
		"size with a sign":   strings.Replace(good(), "\n5\n", "\n+5\n", 1),
		"negative size":      strings.Replace(good(), "\n5\n", "\n-5\n", 1),
		"size of 2^63":       strings.Replace(good(), "\n5\n", "\n9223372036854775808\n", 1),
		"size in hex":        strings.Replace(good(), "\n5\n", "\n0x5\n", 1),
		"short root":         "trialog-register@v1\n" + origin + "\n5\n" + root[2:] + "\nopen\n",
		"long root":          "trialog-register@v1\n" + origin + "\n5\n" + root + "ab\nopen\n",
		"root in upper case": "trialog-register@v1\n" + origin + "\n5\n" + strings.ToUpper(root) + "\nopen\n",
		"root that is none":  "trialog-register@v1\n" + origin + "\n5\n" + root[1:] + "g\nopen\n",
		"another state":      strings.Replace(good(), "open", "closed", 1),
		"no state":           strings.Replace(good(), "open", "", 1),
		"cut off":            good()[:40],
	} {
		if r, err := parse(text); !errors.Is(err, ErrCorrupt) || r != (Record{}) {
			t.Errorf("%s: %+v, %v; expected ErrCorrupt", name, r, err)
		}
		path := filepath.Join(t.TempDir(), "register")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		f := open(t, path)
		if _, err := f.Read(context.Background()); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: read: %v", name, err)
		}
		if err := f.Create(context.Background(), record(0)); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: a damaged register was made anew: %v", name, err)
		}
	}
}

// FuzzParse: what parses formats back to the same bytes.
func FuzzParse(f *testing.F) {
	f.Add(good())
	f.Add(format(Record{Sealed: true}))
	f.Add("trialog-register@v1\n\n\n\n\n")
	f.Fuzz(func(t *testing.T, text string) {
		r, err := parse(text)
		if err == nil && format(r) != text {
			t.Errorf("%q parses, but formats as %q", text, format(r))
		}
		if err != nil && !errors.Is(err, ErrCorrupt) {
			t.Errorf("error %v", err)
		}
	})
}
