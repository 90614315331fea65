package bucket

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/trialog/trialog/services/internal/blob"
	"github.com/trialog/trialog/services/internal/register/registertest"
)

// TestReplaceFaults: a replacement that fails leaves the old object or the new one;
// one whose answer was lost is found to be there when the SDK sends it again.
func TestReplaceFaults(t *testing.T) {
	p := newProxy(t, registertest.Versity(t))
	c := s3Config{bucket: registertest.Bucket, endpoint: p.URL, pathStyle: true, pause: time.Millisecond}
	s, err := c.open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for f, name := range map[fault]string{lost: "lost", persisted: "persisted"} {
		for _, times := range []int{1, attempts - 1, attempts} {
			p.arm(none, 0)
			if err := s.Put(t.Context(), blob.Object{Key: "k", Data: []byte("before")}); err != nil {
				t.Fatal(err)
			}
			p.arm(f, times)
			asked := 0
			err := s.Replace(t.Context(), "k", func(current []byte) ([]byte, error) {
				asked++
				if string(current) != "before" {
					t.Errorf("%s: asked about %q", name, current)
				}
				return []byte("after"), nil
			})
			// A lost answer: the next attempt runs into the first one's success, which
			// is known by its content.
			good := times < attempts || f == persisted && p.faults < times
			if (err == nil) != good || asked != 1 {
				t.Errorf("%s %d times (%d were): %v, asked %d times", name, times, p.faults, err, asked)
			}
			want := "after"
			if f == lost && times == attempts {
				want = "before"
			}
			p.arm(none, 0)
			if got, err := s.Get(t.Context(), "k"); err != nil || string(got) != want {
				t.Errorf("%s %d times: it holds %q, %v; want %q", name, times, got, err, want)
			}
		}
	}
}

// TestReplacedOwner: who decides by what it has read, while another one writes,
// changes nothing.
func TestReplacedOwner(t *testing.T) {
	for name, start := range map[string]func(*testing.T) string{"versity": versity, "fakes3": fakes3} {
		c := s3Config{bucket: registertest.Bucket, endpoint: start(t), pathStyle: true, pause: time.Millisecond, prefix: "owner/"}
		s, err := c.open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		newer := errors.New("there is a newer one")
		rounds := 0
		err = s.Replace(t.Context(), "k", func(current []byte) ([]byte, error) {
			rounds++
			if string(current) == "newer" {
				return nil, newer
			}
			if err := s.Put(context.WithoutCancel(t.Context()), blob.Object{Key: "k", Data: []byte("newer")}); err != nil {
				t.Error(err)
			}
			return []byte("older"), nil
		})
		if !errors.Is(err, newer) || rounds != 2 {
			t.Errorf("%s: %v after %d rounds", name, err, rounds)
		}
		if got, err := s.Get(t.Context(), "k"); err != nil || string(got) != "newer" {
			t.Errorf("%s: it holds %q, %v", name, got, err)
		}
		// One that is deleted meanwhile is made.
		rounds = 0
		err = s.Replace(t.Context(), "k", func(current []byte) ([]byte, error) {
			rounds++
			if rounds == 1 {
				return []byte("again"), s.Delete(context.WithoutCancel(t.Context()), "k")
			}
			if current != nil {
				t.Errorf("%s: there is %q", name, current)
			}
			return []byte("again"), nil
		})
		if got, gerr := s.Get(t.Context(), "k"); err != nil || gerr != nil || string(got) != "again" || rounds != 2 {
			t.Errorf("%s, deleted meanwhile: %v after %d rounds; it holds %q, %v", name, err, rounds, got, gerr)
		}
		// Somebody who writes all the time has taken the object over.
		n := byte(0)
		err = s.Replace(t.Context(), "k", func([]byte) ([]byte, error) {
			n++
			return []byte("older"), s.Put(context.WithoutCancel(t.Context()), blob.Object{Key: "k", Data: []byte{n}})
		})
		if !errors.Is(err, blob.ErrReplaced) || n != replaceRounds {
			t.Errorf("%s: %v after %d rounds", name, err, n)
		}
	}
}

func versity(t *testing.T) string { return registertest.Versity(t) }
func fakes3(t *testing.T) string  { return registertest.Fakes3(t) }
