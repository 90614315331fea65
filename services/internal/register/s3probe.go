package register

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
)

const (
	// probeRounds × probeRacers writes look for a server that compares and
	// writes in two steps. It is a spot check; registertest races more.
	probeRounds = 3
	probeRacers = 8
)

// ErrUnsafe is what OpenS3 returns for an object store that does not do what a
// register rests on.
var ErrUnsafe = errors.New("the object store is no place for a register")

func unsafe(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrUnsafe, fmt.Errorf(format, args...))
}

// probe makes sure, on an object that nobody else uses, that the server honours
// conditions. There are servers that ignore the headers and answer 200: with one
// of those, two sequencers would never notice each other.
func (r *S3) probe(ctx context.Context) error {
	key := r.c.Key + ".probe-" + rand.Text()
	defer r.forget(ctx, key)
	tag, err := r.mustPut(ctx, key, "1", condition{absent: true})
	if err != nil {
		return err
	}
	if err := r.mustRefuse(ctx, key, "If-None-Match", condition{absent: true}); err != nil {
		return err
	}
	if err := r.mustRefuse(ctx, key, "If-Match", condition{tag: `"00000000000000000000000000000000"`}); err != nil {
		return err
	}
	next, err := r.mustPut(ctx, key, "2", condition{tag: tag})
	switch {
	case err != nil:
		return err
	case next == tag || next == "":
		return unsafe("the object store gives another content the same ETag")
	}
	if err := r.mustRefuse(ctx, key, "If-Match", condition{tag: tag}); err != nil {
		return err
	}
	r.plainTags = tag == plainTag([]byte("1")) && next == plainTag([]byte("2"))
	got, tag, err := r.get(ctx, key)
	switch {
	case err != nil:
		return fmt.Errorf("read the probe: %w", err)
	case string(got) != "2" || tag != next:
		return unsafe("the object store does not give back what was written last")
	}
	for round := range probeRounds {
		if tag, err = r.race(ctx, key, tag, round); err != nil {
			return err
		}
	}
	return r.mustRefuseAbsent(ctx, key)
}

func (r *S3) mustPut(ctx context.Context, key, data string, c condition) (tag string, err error) {
	err = r.attempt(ctx, func(ctx context.Context) (err error) {
		tag, err = r.put(ctx, key, []byte(data), c)
		return err
	})
	if err != nil {
		return "", fmt.Errorf("write a probe: %w", err)
	}
	return tag, nil
}

// mustRefuse sends a write whose condition does not hold.
func (r *S3) mustRefuse(ctx context.Context, key, header string, c condition) error {
	err := r.attempt(ctx, func(ctx context.Context) error {
		_, err := r.put(ctx, key, []byte("refuse"), c)
		return err
	})
	switch {
	case err == nil:
		return unsafe("the object store does not honour %s", header)
	case !errors.Is(err, errRefused):
		return fmt.Errorf("write a probe: expected a refusal: %w", err)
	}
	return nil
}

// mustRefuseAbsent: a register that was removed must not come back by a swap.
func (r *S3) mustRefuseAbsent(ctx context.Context, key string) error {
	absent := key + "-absent"
	err := r.attempt(ctx, func(ctx context.Context) error {
		_, err := r.put(ctx, absent, []byte("refuse"), condition{tag: `"00000000000000000000000000000000"`})
		return err
	})
	switch {
	case err == nil:
		r.forget(ctx, absent)
		return unsafe("the object store does not honour If-Match for an object that does not exist")
	case !errors.Is(err, errRefused) && !errors.Is(err, ErrMissing):
		return fmt.Errorf("write a probe: expected a refusal: %w", err)
	}
	return nil
}

// race lets several writes replace one object at the same time and returns the
// winner's tag.
func (r *S3) race(ctx context.Context, key, tag string, round int) (string, error) {
	var wg sync.WaitGroup
	var won atomic.Int32
	for i := range probeRacers {
		wg.Go(func() {
			// What fails otherwise than by its condition proves nothing either way.
			if _, err := r.mustPut(ctx, key, fmt.Sprintf("race %d %d", round, i), condition{tag: tag}); err == nil {
				won.Add(1)
			}
		})
	}
	wg.Wait()
	if n := won.Load(); n > 1 {
		return "", unsafe("the object store does not honour If-Match when %d writes come at once: %d succeeded", probeRacers, n)
	}
	_, next, err := r.get(ctx, key)
	if err != nil {
		return "", fmt.Errorf("read the probe: %w", err)
	}
	return next, nil
}

// forget removes a probe. One that stays does no harm.
func (r *S3) forget(ctx context.Context, key string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.c.Timeout)
	defer cancel()
	_ = r.remove(ctx, key)
}
