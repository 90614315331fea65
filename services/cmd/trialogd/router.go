package main

import (
	"context"
	"errors"
	"slices"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	trialogv1 "github.com/trialog/trialog/api/gen/trialog/v1"
	"github.com/trialog/trialog/services/sequencer"
)

// router is the SequencerServiceClient that the gateway has: it calls the shard
// that takes statements in, and across a rollover the next one. Nobody who
// submits a statement notices one, but for a moment's delay.
type router struct{ e *engine }

// rolloverPause is between two looks whether the successor has opened.
const rolloverPause = 5 * time.Millisecond

// errLast says that nobody succeeds a shard.
var errLast = errors.New("no shard is announced behind it")

// opened waits for the shard behind sh, which has ended, to take statements in.
// The error is errLast, why the successor refuses, or that of the context.
func (r router) opened(ctx context.Context, sh *shard) (*shard, error) {
	if sh == r.e.shards[len(r.e.shards)-1] {
		return nil, errLast
	}
	tick := time.NewTicker(rolloverPause)
	defer tick.Stop()
	for {
		if next := r.e.active(); next != sh {
			err := next.seq.Ready()
			if err == nil && next.opened() {
				return next, nil
			}
			if refusesForGood(err) {
				return nil, err
			}
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-tick.C:
		}
	}
}

// refusesForGood tells whether only a restart can resolve what Ready returned.
func refusesForGood(err error) bool {
	refused, ok := errors.AsType[*sequencer.RefusedError](err)
	return ok && refused.Reason != sequencer.Standby && refused.Reason != sequencer.Clock
}

// taking returns the shard that takes statements in. Between the end of one and
// the first statement of the next it waits, but not longer than ctx lasts.
func (r router) taking(ctx context.Context) *shard {
	sh := r.e.active()
	at := slices.Index(r.e.shards, sh)
	if at == 0 || sh.opened() {
		return sh
	}
	// Before it is ready, its ledger has entries of its predecessors.
	if sh.seq.Ready() == nil {
		if size, err := sh.seq.Ledger().Size(); err != nil || size > 0 {
			return sh // it promises already
		}
	}
	if next, err := r.opened(ctx, r.e.shards[at-1]); err == nil {
		return next
	}
	return sh // it says itself why it takes nothing in
}

// hasEnded tells whether err is how a shard that has ended refuses a statement.
func hasEnded(err error) bool {
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok && info.GetReason() == "ended" {
			return true
		}
	}
	return false
}

// Add implements trialogv1.SequencerServiceClient.
func (r router) Add(ctx context.Context, req *trialogv1.AddRequest, opts ...grpc.CallOption) (*trialogv1.AddResponse, error) {
	for sh := r.taking(ctx); ; {
		resp, err := sh.client.Add(ctx, req, opts...)
		if err == nil || !hasEnded(err) {
			return resp, err
		}
		next, failed := r.opened(ctx, sh)
		if failed != nil {
			return nil, err
		}
		sh = next
	}
}

// AddStream implements trialogv1.SequencerServiceClient. A stream stays with its
// shard: when that ends, what is not answered is refused for now, and sent again
// on another stream.
func (r router) AddStream(
	ctx context.Context, opts ...grpc.CallOption,
) (grpc.BidiStreamingClient[trialogv1.AddStreamRequest, trialogv1.AddStreamResponse], error) {
	return r.taking(ctx).client.AddStream(ctx, opts...)
}

// Find implements trialogv1.SequencerServiceClient.
func (r router) Find(ctx context.Context, req *trialogv1.FindRequest, opts ...grpc.CallOption) (*trialogv1.FindResponse, error) {
	return r.e.reading().client.Find(ctx, req, opts...)
}

// Chain implements trialogv1.SequencerServiceClient.
func (r router) Chain(ctx context.Context, req *trialogv1.ChainRequest, opts ...grpc.CallOption) (*trialogv1.ChainResponse, error) {
	return r.e.reading().client.Chain(ctx, req, opts...)
}

// Head implements trialogv1.SequencerServiceClient.
func (r router) Head(ctx context.Context, req *trialogv1.HeadRequest, opts ...grpc.CallOption) (*trialogv1.HeadResponse, error) {
	return r.e.reading().client.Head(ctx, req, opts...)
}
