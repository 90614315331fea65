package witnessing

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/trialog/trialog/api/checkpoint"
)

func TestRetryAfter(t *testing.T) {
	at := time.Date(2026, 11, 5, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Duration{
		"": 0, "x": 0, "-5": 0, "1.5": 0, "0": time.Second, "1": time.Second, "7": 7 * time.Second,
		"299": 299 * time.Second, "300": maxRetryAfter, "18446744073709551615": maxRetryAfter, "18446744073709551616": 0,
		"Thu, 05 Nov 2026 12:00:30 GMT": 30 * time.Second,
		"Thu, 05 Nov 2026 11:00:00 GMT": time.Second,
		"Thu, 05 Nov 2099 12:00:00 GMT": maxRetryAfter,
	} {
		if got := retryAfter(http.Header{"Retry-After": {text}}, at); got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
}

func TestOwnClockIsUsedForTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 3)
		defer w.close()
		clock := time.Unix(0, 0)
		w.pool.now = func() time.Time { return clock }
		none := (*NoQuorumError)(nil)
		if _, err := w.cosign(10); !errors.As(err, &none) || none.Witnesses[0].Outcome != BadTime {
			t.Errorf("clock at zero: %v", err)
		}
	})
	for name, d := range map[string]time.Duration{"ahead": MaxSkew, "behind": -MaxSkew} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, 3, func(t *testing.T, w *world) {
				w.models["c"].setLie(func(m *model, a asked) told { return m.sign(a.note.Text(), uint64(time.Now().Add(d).Unix())) })
				w.mustCosign(10)
			})
		})
	}
}

// TestTimeZero is refused also by a log whose clock is that wrong itself.
func TestTimeZero(t *testing.T) {
	p := &Pool{now: func() time.Time { return time.Unix(100, 0) }}
	if p.checkTime(0) == nil || p.checkTime(1) != nil {
		t.Error("at second 100, time 0 must be refused and time 1 taken")
	}
}

// endless is an answer that never ends; it counts what is read of it.
type endless struct{ read int }

func (e *endless) Read(b []byte) (int, error) {
	if e.read > 1<<24 {
		return 0, errors.New("16 MiB were read")
	}
	e.read += len(b)
	return len(b), nil
}

func TestAnswersAreReadToABound(t *testing.T) {
	inBubble(t, 3, func(t *testing.T, w *world) {
		stream := &endless{}
		w.models["c"].setLie(answer(told{status: 200, stream: stream}))
		none := (*NoQuorumError)(nil)
		if _, err := w.cosign(10); !errors.As(err, &none) || none.Witnesses[4].Outcome != BadAnswer {
			t.Errorf("got %v", err)
		}
		if stream.read > 2*maxAnswer {
			t.Errorf("%d bytes were read", stream.read)
		}
	})
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	inBubble(t, 3, func(t *testing.T, w *world) {
		w.models["c"].setLie(answer(told{status: 308, header: http.Header{"Location": {"http://a.example/x/add-checkpoint"}}}))
		if _, err := w.cosign(10); err == nil {
			t.Fatal("cosigned")
		}
		if got := olds(w.models["a"]); got != "0-10" {
			t.Errorf("a was asked %s", got)
		}
	})
}

func FuzzRead(f *testing.F) {
	w := newWorld(f, 3)
	defer w.close()
	e := w.pool.witnesses[0]
	note, err := w.pool.logSigned(w.log.note(10))
	if err != nil {
		f.Fatal(err)
	}
	good := w.models["a"].sign(note.Text(), now())
	f.Add(200, "", []byte(good.body))
	f.Add(409, "text/x.tlog.size", []byte("5\n"))
	f.Add(409, "text/x.tlog.size; charset=utf-8", []byte("9223372036854775808\n"))
	f.Add(409, "", []byte(""))
	f.Fuzz(func(t *testing.T, status int, kind string, body []byte) {
		rep := w.pool.read(e, status, http.Header{"Content-Type": {kind}}, body, note)
		if (rep.outcome == Cosigned) != (len(rep.signed) == len(e.entries)) || (rep.outcome == Cosigned) != (rep.err == nil) {
			t.Errorf("outcome %s with %d lines, error %v", rep.outcome, len(rep.signed), rep.err)
		}
		for name, sig := range rep.signed {
			i := slices.IndexFunc(e.entries, func(x checkpoint.WitnessEntry) bool { return x.Name == name })
			if _, err := e.entries[i].Key.VerifyCheckpoint(note, sig); err != nil {
				t.Error(err)
			}
		}
		if rep.outcome == Behind && fmt.Sprintln(rep.size) != string(body) {
			t.Errorf("size %d from %q", rep.size, body)
		}
	})
}
