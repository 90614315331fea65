package clock_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/timestamp"
	"github.com/trialog/trialog/api/timestamp/timestamptest"
	"github.com/trialog/trialog/services/internal/clock"
)

const origin = "log.test/1"

// fakeWitness cosigns its own newest checkpoint again.
type fakeWitness struct {
	t      *testing.T
	m      *machine
	key    *checkpoint.SigningKey
	note   *checkpoint.Note
	answer func(*fakeWitness, http.ResponseWriter, []byte) // of add-checkpoint; nil: a good one
	asked  int
}

func noteKey(t *testing.T, name string, alg checkpoint.Algorithm) *checkpoint.SigningKey {
	t.Helper()
	key, err := checkpoint.GenerateKey(rand.Reader, name, alg)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newFakeWitness(t *testing.T, m *machine) (*fakeWitness, string) {
	t.Helper()
	w := &fakeWitness{t: t, m: m, key: noteKey(t, "witness.test/w", checkpoint.AlgEd25519Cosignature)}
	log := noteKey(t, origin, checkpoint.AlgEd25519)
	note, err := checkpoint.SignLog(checkpoint.Checkpoint{Origin: origin, Size: 7, Root: checkpoint.Hash{1}}, 0, log)
	if err != nil {
		t.Fatal(err)
	}
	// Its own and a stranger's cosignature are on the note that it shows.
	var lines []checkpoint.Signature
	for _, k := range []*checkpoint.SigningKey{w.key, noteKey(t, "other.test/w", checkpoint.AlgMLDSA44)} {
		line, err := k.SignCheckpoint(note.Text(), 1)
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, line)
	}
	if w.note, err = note.With(lines...); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(w)
	t.Cleanup(server.Close)
	return w, "witness+" + server.URL + "/prefix?origin=" + url.QueryEscape(origin) + "#" + w.key.Verifier().String()
}

func (w *fakeWitness) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodGet {
		if !strings.HasPrefix(r.URL.Path, "/prefix/") || !strings.HasSuffix(r.URL.Path, "/checkpoint") {
			w.t.Errorf("path %s", r.URL.Path)
		}
		_, _ = rw.Write(w.note.Bytes())
		return
	}
	body, _ := io.ReadAll(r.Body)
	w.asked++
	if !bytes.HasPrefix(body, []byte("old 7\n\n"+origin+"\n7\n")) || bytes.Contains(body, []byte("witness")) || bytes.Contains(body, []byte("other")) {
		w.t.Errorf("asked %q", body)
	}
	if w.answer != nil {
		w.answer(w, rw, body)
		return
	}
	w.sign(rw, w.key, w.m.truth().Unix())
}

func (w *fakeWitness) sign(rw http.ResponseWriter, key *checkpoint.SigningKey, at int64) {
	line, err := key.SignCheckpoint(w.note.Text(), uint64(at))
	if err != nil {
		w.t.Error(err)
	}
	fmt.Fprintf(rw, "%s\n", line)
}

// parser makes sources that compare a machine's clock, and wait by its clock.
func parser(m *machine) clock.Parser {
	return clock.Parser{
		Now: m.now, Monotonic: m.monotonic,
		Pause: func(_ context.Context, d time.Duration) error { m.pass(d); return nil },
	}
}

// TestWitnessSource: a witness's times, which are to the second, say together what
// is within a fraction of it, at whatever fraction it is asked.
func TestWitnessSource(t *testing.T) {
	for fraction := time.Duration(0); fraction < time.Second; fraction += 37 * ms {
		for _, shift := range []time.Duration{0, 700 * ms, -time.Hour} {
			m := new(machine)
			m.pass(fraction)
			m.jump(shift)
			_, address := newFakeWitness(t, m)
			s, err := parser(m).Parse(address)
			if err != nil {
				t.Fatal(err)
			}
			offset, uncertainty, err := s.Offset(t.Context())
			if err != nil || (offset+shift).Abs() > uncertainty || uncertainty > 150*ms {
				t.Errorf("at %s, shifted by %s: %s ± %s, %v", fraction, shift, offset, uncertainty, err)
			}
		}
	}
}

// TestHostileWitness: nothing but the key's own signature with a time counts.
func TestHostileWitness(t *testing.T) {
	for name, answer := range map[string]func(*fakeWitness, http.ResponseWriter, []byte){
		"another key": func(w *fakeWitness, rw http.ResponseWriter, _ []byte) {
			w.sign(rw, noteKey(w.t, "else.test/w", checkpoint.AlgEd25519Cosignature), 1_790_000_000)
		},
		"its name, another key": func(w *fakeWitness, rw http.ResponseWriter, _ []byte) {
			w.sign(rw, noteKey(w.t, w.key.Verifier().Name(), checkpoint.AlgEd25519Cosignature), 1_790_000_000)
		},
		"end of time": func(w *fakeWitness, rw http.ResponseWriter, _ []byte) { w.sign(rw, w.key, 1<<62) },
		"altered": func(w *fakeWitness, rw http.ResponseWriter, _ []byte) {
			line, _ := w.key.SignCheckpoint(w.note.Text(), 1_790_000_000)
			line.Bytes[7]++ // the time
			fmt.Fprintf(rw, "%s\n", line)
		},
		"garbage":  func(_ *fakeWitness, rw http.ResponseWriter, _ []byte) { _, _ = rw.Write([]byte("200 OK")) },
		"nothing":  func(*fakeWitness, http.ResponseWriter, []byte) {},
		"refusal":  func(_ *fakeWitness, rw http.ResponseWriter, _ []byte) { rw.WriteHeader(http.StatusForbidden) },
		"too long": func(_ *fakeWitness, rw http.ResponseWriter, _ []byte) { _, _ = rw.Write(make([]byte, 1<<20)) },
		"conflict": func(_ *fakeWitness, rw http.ResponseWriter, _ []byte) { rw.WriteHeader(http.StatusConflict) },
	} {
		m := new(machine)
		w, address := newFakeWitness(t, m)
		w.answer = answer
		s, err := parser(m).Parse(address)
		if err != nil {
			t.Fatal(err)
		}
		if offset, uncertainty, err := s.Offset(t.Context()); err == nil {
			t.Errorf("%s: %s ± %s", name, offset, uncertainty)
		}
		if want := map[bool]int{true: 4, false: 1}[name == "conflict"]; w.asked != want {
			t.Errorf("%s: asked %d times", name, w.asked)
		}
	}
}

// TestForeignCheckpoint: the checkpoint of another log is not asked for.
func TestForeignCheckpoint(t *testing.T) {
	m := new(machine)
	w, address := newFakeWitness(t, m)
	s, err := parser(m).Parse(strings.Replace(address, url.QueryEscape(origin), "log.test%2F2", 1))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Offset(t.Context()); err == nil || w.asked != 0 {
		t.Errorf("%v, asked %d times", err, w.asked)
	}
}

// fakeAuthority stamps with a machine's true time.
func fakeAuthority(t *testing.T, m *machine, change func(*timestamptest.Draft)) (address, file string) {
	t.Helper()
	a := timestamptest.New("authority")
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		q, err := timestamp.ParseRequest(body)
		if err != nil || r.Header.Get("Content-Type") != "application/timestamp-query" {
			t.Errorf("asked %x: %v", body, err)
			return
		}
		token := a.Stamp([32]byte(q.Digest), m.truth(), func(d *timestamptest.Draft) {
			d.Nonce, _ = asn1.Marshal(q.Nonce)
			if change != nil {
				change(d)
			}
		})
		_, _ = w.Write(timestamptest.Sequence(timestamptest.Sequence(timestamptest.Int(0)), token))
	}))
	t.Cleanup(server.Close)
	file = filepath.Join(t.TempDir(), "root.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.Root.Cert.Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	return "rfc3161+" + server.URL + "/tsr", file
}

func TestAuthoritySource(t *testing.T) {
	for _, shift := range []time.Duration{0, 300 * ms, -time.Hour} {
		m := new(machine)
		m.jump(shift)
		address, file := fakeAuthority(t, m, nil)
		s, err := parser(m).Parse(address + "#" + file)
		if err != nil {
			t.Fatal(err)
		}
		offset, uncertainty, err := s.Offset(t.Context())
		if err != nil || (offset+shift).Abs() > uncertainty || uncertainty < 99*ms || uncertainty > 110*ms {
			t.Errorf("shifted by %s: %s ± %s, %v", shift, offset, uncertainty, err)
		}
	}
}

// TestAuthoritySourceAccuracy: an authority that states none is used with the one
// that the configuration states, or not at all.
func TestAuthoritySourceAccuracy(t *testing.T) {
	for query, want := range map[string]time.Duration{"": -1, "?accuracy=500ms": 500 * ms} {
		m := new(machine)
		address, file := fakeAuthority(t, m, func(d *timestamptest.Draft) { d.Accuracy = nil })
		p := parser(m)
		p.Dir = filepath.Dir(file)
		s, err := p.Parse(address + query + "#" + filepath.Base(file))
		if err != nil {
			t.Fatal(err)
		}
		_, uncertainty, err := s.Offset(t.Context())
		if (err == nil) != (want > 0) || err == nil && uncertainty != want {
			t.Errorf("%q: %s, %v", query, uncertainty, err)
		}
	}
}

// TestHostileAuthority: a token of somebody else, or of another question, counts
// nothing.
func TestHostileAuthority(t *testing.T) {
	other := timestamptest.New("somebody else")
	for name, change := range map[string]func(*timestamptest.Draft){
		"somebody else's": func(d *timestamptest.Draft) { d.As(other.Unit) },
		"another nonce":   func(d *timestamptest.Draft) { d.Nonce = timestamptest.Int(1) },
		"another digest": func(d *timestamptest.Draft) {
			d.Imprint = timestamptest.Sequence(timestamptest.Algorithm(timestamptest.SHA256, timestamptest.Null()), timestamptest.Octets(make([]byte, 32)))
		},
	} {
		m := new(machine)
		address, file := fakeAuthority(t, m, change)
		s, err := parser(m).Parse(address + "#" + file)
		if err != nil {
			t.Fatal(err)
		}
		if offset, _, err := s.Offset(t.Context()); err == nil {
			t.Errorf("%s: %s", name, offset)
		}
	}
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	m := new(machine)
	_, file := fakeAuthority(t, m, nil)
	s, err := parser(m).Parse("rfc3161+" + server.URL + "#" + file)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Offset(t.Context()); err == nil {
		t.Error("a time from nothing")
	}
}

func TestParseHTTPSources(t *testing.T) {
	m := new(machine)
	key := noteKey(t, "witness.test/w", checkpoint.AlgEd25519Cosignature).Verifier().String()
	mldsa := noteKey(t, "witness.test/w", checkpoint.AlgMLDSA44).Verifier().String()
	log := noteKey(t, "witness.test/w", checkpoint.AlgEd25519).Verifier().String()
	_, file := fakeAuthority(t, m, nil)
	empty := filepath.Join(t.TempDir(), "empty.pem")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for s, want := range map[string]string{
		"witness+https://w.test?origin=log.test/1#" + key:         "witness witness.test/w",
		"witness+https://w.test/a/?origin=log.test%2F1#" + mldsa:  "witness witness.test/w",
		"rfc3161+https://tsa.test/tsr#" + file:                    "authority https://tsa.test/tsr",
		"rfc3161+http://tsa.test/tsr?accuracy=1s#" + file:         "authority http://tsa.test/tsr",
		"rfc3161+https://tsa.test:8443/tsr?accuracy=20ms#" + file: "authority https://tsa.test:8443/tsr",
	} {
		if got, err := parser(m).Parse(s); err != nil || got.Name() != want {
			t.Errorf("%s: %v", s, err)
		}
	}
	for _, s := range []string{
		"witness+https://w.test#" + key, "witness+https://w.test?origin=#" + key, "witness+https://w.test?origin=a&origin=b#" + key,
		"witness+https://w.test?origin=a&x=y#" + key, "witness+https://w.test?origin=a", "witness+https://w.test?origin=a#", "witness+https://w.test?origin=a#x",
		"witness+https://w.test?origin=a#" + log, "witness+ntp://w.test?origin=a#" + key, "witness+https://?origin=a#" + key,
		"witness+https://u@w.test?origin=a#" + key, "witness+https://w.test?origin=%zz#" + key, "witness://w.test?origin=a#" + key,
		"rfc3161+https://tsa.test/tsr", "rfc3161+https://tsa.test/tsr#", "rfc3161+https://tsa.test/tsr#" + file + "x",
		"rfc3161+https://tsa.test/tsr#" + empty, "rfc3161+https://tsa.test/tsr?accuracy=1#" + file, "rfc3161+https://tsa.test/tsr?accuracy=-1s#" + file,
		"rfc3161+https://tsa.test/tsr?origin=a#" + file, "rfc3161+ftp://tsa.test/tsr#" + file, "roughtime+https://tsa.test#" + file, "https://w.test",
	} {
		if got, err := parser(m).Parse(s); err == nil {
			t.Errorf("%q was taken for %s", s, got.Name())
		}
	}
}

// TestObservedTogether: observations that have a part in common say more, and one
// that has none with those before stands for itself.
func TestObservedTogether(t *testing.T) {
	m := new(machine)
	o := clock.NewObserved("w", m.now, m.monotonic)
	observe := func(shift time.Duration) {
		o.Observe(o.Begin(), m.truth().Add(shift).Truncate(time.Second), time.Second)
	}
	for i := range 10 {
		observe(0)
		m.pass(time.Duration(1100+i) * ms)
	}
	_, narrow, err := o.Offset(t.Context())
	if err != nil || narrow > 120*ms {
		t.Errorf("± %s, %v", narrow, err)
	}
	observe(time.Minute) // the source was set
	offset, uncertainty, err := o.Offset(t.Context())
	if err != nil || (offset-time.Minute).Abs() > uncertainty || uncertainty < 400*ms {
		t.Errorf("%s ± %s, %v", offset, uncertainty, err)
	}
}

// TestOneSourceOneName: a source has one name however its address is spelled, so
// that it cannot count twice.
func TestOneSourceOneName(t *testing.T) {
	m := new(machine)
	_, file := fakeAuthority(t, m, nil)
	for a, b := range map[string]string{
		"ntp://time.example.org":                      "ntp://Time.Example.ORG:123",
		"rfc3161+https://tsa.example.org/tsr#" + file: "rfc3161+https://TSA.example.org/tsr/#" + file,
	} {
		x, errX := parser(m).Parse(a)
		y, errY := parser(m).Parse(b)
		if err := errors.Join(errX, errY); err != nil {
			t.Fatal(err)
		}
		if x.Name() != y.Name() {
			t.Errorf("%s is %q, %s is %q", a, x.Name(), b, y.Name())
		}
	}
}
