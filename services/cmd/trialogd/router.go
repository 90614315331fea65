package main

import (
	"context"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	trialogv1 "github.com/trialog/trialog/api/gen/trialog/v1"
)

// router is the SequencerServiceClient that the gateway has: it calls the shard
// that takes statements in, and across a rollover the next one. Nobody who
// submits a statement notices one, but for a moment's delay.
type router struct{ e *engine }

// rolloverPause is between two looks whether the successor has opened.
const rolloverPause = 5 * time.Millisecond

// opened waits for the shard behind sh, which has ended, to take statements in.
// It returns nil if there is none, or the context ends.
func (r router) opened(ctx context.Context, sh *shard) *shard {
	if sh == r.e.shards[len(r.e.shards)-1] {
		return nil
	}
	tick := time.NewTicker(rolloverPause)
	defer tick.Stop()
	for {
		if next := r.e.active(); next != sh && next.seq.Ready() == nil && next.seq.Checkpoint() != nil {
			return next
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
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
	for sh := r.e.active(); ; {
		resp, err := sh.client.Add(ctx, req, opts...)
		if err == nil || !hasEnded(err) {
			return resp, err
		}
		next := r.opened(ctx, sh)
		if next == nil {
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
	return r.e.active().client.AddStream(ctx, opts...)
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
