package main

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/trialog/trialog/api/client"
)

// freshAfter is how old the beacon of statements may get.
const freshAfter = 10 * time.Second

// keepFresh renews the beacon.
func (e *engine) keepFresh(ctx context.Context) {
	ticker := time.NewTicker(freshAfter)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			// The old one serves as well.
			_ = e.author.refresh(ctx)
		case <-ctx.Done():
			return
		}
	}
}

// read fetches acknowledged statements in three ways, and verifies what it gets.
// All readers together keep the pace of the plan.
func (e *engine) read(ctx context.Context) {
	pause := time.Duration(float64(time.Second) * float64(e.plan.readers) / e.plan.readsPerSecond)
	ticker := time.NewTicker(max(pause, time.Microsecond))
	defer ticker.Stop()
	for n := 0; ; n++ {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		a, ok := e.pick()
		if !ok {
			continue
		}
		what, err := e.readOne(ctx, n, a)
		if ctx.Err() == nil {
			e.tally.read(what, err)
		}
	}
}

func (e *engine) readOne(ctx context.Context, n int, a acked) (string, error) {
	rest := e.author.rest
	switch n % 3 {
	case 0:
		got, err := rest.Receipt(ctx, a.sub.Identity)
		if p, early := errors.AsType[*client.Problem](err); early && p.Status == http.StatusNotFound && e.plan.waitFor == client.Pending {
			return "early", nil // only promised so far
		}
		if err == nil && got.Index != a.index {
			err = &client.UntrueError{What: "receipt", Answer: got.Receipt, Err: errors.New("it is of another index than was acknowledged")}
		}
		return "receipts", err
	case 1:
		_, err := rest.Entry(ctx, a.index)
		if _, early := errors.AsType[*client.RangeError](err); early && e.plan.waitFor == client.Pending {
			return "early", nil
		}
		return "entries", err
	}
	_, _, err := rest.Checkpoint(ctx)
	return "checkpoints", err
}
