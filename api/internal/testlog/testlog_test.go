package testlog

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/trialog/trialog/api/checkpoint"
)

func TestDo(t *testing.T) {
	cause := errors.New("cause")
	if err := Do(func() { Check(cause) }); !errors.Is(err, cause) {
		t.Errorf("Do returns %v, want the cause", err)
	}
	if err := Do(func() {}); err != nil {
		t.Errorf("Do returns %v", err)
	}
	defer func() {
		if recover() == nil {
			t.Error("a panic that is not of this package is swallowed")
		}
	}()
	_ = Do(func() { panic("other") })
}

func TestStream(t *testing.T) {
	read := func(label string, chunk int) []byte {
		var b bytes.Buffer
		if _, err := io.CopyBuffer(&b, io.LimitReader(struct{ io.Reader }{NewStream(label)}, 100), make([]byte, chunk)); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	if !bytes.Equal(read("a", 7), read("a", 64)) {
		t.Error("the stream depends on how it is read")
	}
	if bytes.Equal(read("a", 7), read("b", 7)) {
		t.Error("two labels have one stream")
	}
}

// TestNoteKey: what this package signs, written down a second time, verifies by
// api/checkpoint, and is the same every time.
func TestNoteKey(t *testing.T) {
	w := New()
	w.First.AddEntry([]byte("entry"))
	for _, k := range append(w.First.Keys, w.Operators[0].Keys...) {
		text := w.First.Checkpoint(1).Body()
		s := k.Sign(text, 7)
		n, err := checkpoint.NewNote(text, s)
		if err != nil {
			t.Fatal(err)
		}
		at, err := k.VerifyCheckpoint(n, s)
		if err != nil || k.Algorithm() != checkpoint.AlgEd25519 && at != 7 {
			t.Errorf("%s: time %d, %v", k.Algorithm(), at, err)
		}
		if again := k.Sign(text, 7); !bytes.Equal(again.Bytes, s.Bytes) {
			t.Errorf("%s signs differently a second time", k.Algorithm())
		}
	}
	key := P256Key("p")
	one, err := key.Sign([]byte("m"))
	if err != nil {
		t.Fatal(err)
	}
	if two, err := key.Sign([]byte("m")); err != nil || !bytes.Equal(one, two) {
		t.Errorf("P-256 signs differently a second time: %v", err)
	}
}
