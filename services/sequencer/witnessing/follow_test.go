package witnessing

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"
)

func TestSizesOfWitnessesAreFollowed(t *testing.T) {
	for name, tc := range map[string]struct {
		size int64 // what the witness has when the pool starts
		want string
	}{
		"fresh":   {0, "0-10"},
		"behind":  {4, "0-10 4-10"},
		"there":   {10, "0-10 10-10"},
		"leaf":    {1, "0-10 1-10"},
		"ahead":   {11, "0-10"},
		"far off": {20, "0-10"},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, 2, func(t *testing.T, w *world) {
				m := w.models["c"]
				m.size, m.root = uint64(tc.size), w.log.note(tc.size).Checkpoint().Root
				w.mustCosign(10)
				synctest.Wait()
				if got := olds(m); got != tc.want {
					t.Errorf("asked %s, want %s", got, tc.want)
				}
				if got := w.pool.held()[2].size; got != 10 && tc.size <= 10 || got != 0 && tc.size > 10 {
					t.Errorf("known size %d", got)
				}
			})
		})
	}
}

// TestAheadIsFollowedWhenTheLogGetsThere: the witness's size was refused while
// the log was behind it; nothing went back, and nothing is lost.
func TestAheadIsFollowedWhenTheLogGetsThere(t *testing.T) {
	inBubble(t, 3, func(t *testing.T, w *world) {
		m := w.models["c"]
		m.size, m.root = 12, w.log.note(12).Checkpoint().Root
		none := (*NoQuorumError)(nil)
		if _, err := w.cosign(10); !errors.As(err, &none) || none.Witnesses[4].Outcome != Ahead || none.Witnesses[4].Size != 12 {
			t.Fatalf("got %v", err)
		}
		w.mustCosign(15)
	})
}

// TestWitnessThatWentBack lost its state: it is proved to from where it is.
func TestWitnessThatWentBack(t *testing.T) {
	inBubble(t, 3, func(t *testing.T, w *world) {
		w.mustCosign(10)
		m := w.models["c"]
		m.size, m.root = 4, w.log.note(4).Checkpoint().Root
		w.mustCosign(12)
		if got := olds(m); got != "0-10 10-12 4-12" {
			t.Errorf("asked %s", got)
		}
	})
}

// TestUnknownOutcomeIsRepeated: the witness persisted, but the answer was lost.
func TestUnknownOutcomeIsRepeated(t *testing.T) {
	for name, lost := range map[string]told{
		"connection": {err: errors.New("connection reset")},
		"500":        {status: 500},
		"502":        {status: 502, kind: "text/html", body: "<html>"},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, 3, func(t *testing.T, w *world) {
				first := true
				w.models["c"].setLie(func(m *model, a asked) told {
					ans := m.honest(a)
					if first {
						first = false
						return lost
					}
					return ans
				})
				w.mustCosign(10)
				if got := olds(w.models["c"]); got != "0-10 0-10 10-10" {
					t.Errorf("asked %s", got)
				}
			})
		})
	}
}

func TestHealsWithin15Seconds(t *testing.T) {
	inBubble(t, 2, func(t *testing.T, w *world) {
		down := answer(told{err: errors.New("connection refused")})
		w.models["b"].setLie(down)
		w.models["c"].setLie(down)
		none := (*NoQuorumError)(nil)
		for end := time.Now().Add(10 * time.Minute); time.Now().Before(end); {
			if _, err := w.cosign(10); !errors.As(err, &none) {
				t.Fatalf("2 of 3 down: %v", err)
			}
		}
		if n := len(w.models["b"].seen()); n > 600 {
			t.Errorf("a witness that is down was asked %d times in ten minutes", n)
		}
		w.models["b"].setLie(nil)
		healed := time.Now()
		for {
			if _, err := w.cosign(12); err == nil {
				break
			}
		}
		if gone := time.Since(healed); gone > 15*time.Second {
			t.Errorf("healed after %s", gone)
		}
	})
}

func TestRetryAfterIsHonoured(t *testing.T) {
	inBubble(t, 3, func(t *testing.T, w *world) {
		w.models["c"].setLie(answer(told{status: 429, header: http.Header{"Retry-After": {"60"}}}))
		limited := time.Now()
		if _, err := w.cosign(10); err == nil {
			t.Fatal("cosigned")
		}
		w.models["c"].setLie(nil)
		for {
			if _, err := w.cosign(10); err == nil {
				break
			}
		}
		if gone := time.Since(limited); gone < 60*time.Second || gone > 70*time.Second {
			t.Errorf("asked again after %s, want 60 s", gone)
		}
		if got := olds(w.models["c"]); got != "0-10 0-10" {
			t.Errorf("asked %s", got)
		}
	})
}

func TestProofsThatFail(t *testing.T) {
	for name, prove := range map[string]ProveFunc{
		"error":    func(context.Context, uint64, uint64) ([][32]byte, error) { return nil, errors.New("tiles are gone") },
		"too long": func(context.Context, uint64, uint64) ([][32]byte, error) { return make([][32]byte, 64), nil },
		"wrong":    func(context.Context, uint64, uint64) ([][32]byte, error) { return make([][32]byte, 3), nil },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, 3, func(t *testing.T, w *world) {
				w.mustCosign(5)
				_, err := w.pool.Cosign(context.Background(), w.log.note(10), prove)
				want := map[bool]Outcome{true: Refused, false: NoProof}[name == "wrong"]
				none := (*NoQuorumError)(nil)
				if !errors.As(err, &none) || none.Witnesses[0].Outcome != want {
					t.Fatalf("got %v, want %s", err, want)
				}
				w.mustCosign(10)
			})
		})
	}
}

// TestSuperseded: an older candidate's caller is told.
func TestSuperseded(t *testing.T) {
	inBubble(t, 3, func(t *testing.T, w *world) {
		for _, m := range w.models {
			m.setLie(answer(told{status: 500}))
		}
		errs := make(chan error)
		go func() { _, err := w.cosign(10); errs <- err }()
		synctest.Wait()
		if _, err := w.cosign(12); err == nil {
			t.Error("cosigned")
		}
		none := (*NoQuorumError)(nil)
		if err := <-errs; !errors.As(err, &none) || none.Checkpoint.Size != 10 || none.Witnesses[0].Outcome != NotAsked {
			t.Errorf("got %v", err)
		}
	})
}

// TestConflictWithWhatWasSent ends at once.
func TestConflictWithWhatWasSent(t *testing.T) {
	inBubble(t, 2, func(t *testing.T, w *world) {
		w.models["c"].setLie(func(_ *model, a asked) told { return sizeIs(a.old) })
		w.mustCosign(10)
		synctest.Wait()
		if got := olds(w.models["c"]); got != "0-10" {
			t.Errorf("asked %s", got)
		}
	})
}
