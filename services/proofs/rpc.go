package proofs

import (
	"context"
	"net/http"
	"runtime"

	"google.golang.org/grpc"

	trialogv1 "github.com/trialog/trialog/api/gen/trialog/v1"
)

// Register offers the service over gRPC. Its answers are those of the HTTP
// surface; errors carry the kind as the reason of an ErrorInfo, and the field of
// the request as a BadRequest.
func (p *Proofs) Register(s grpc.ServiceRegistrar) {
	trialogv1.RegisterProofServiceServer(s, &rpc{p: p})
}

// ServerOptions are those of a gRPC server with which small answers cost least:
// long-lived workers, so that a call does not begin with growing a new stack.
func ServerOptions() []grpc.ServerOption {
	return []grpc.ServerOption{grpc.NumStreamWorkers(uint32(16 * runtime.GOMAXPROCS(0)))}
}

// rpc is the gRPC surface.
type rpc struct {
	trialogv1.UnimplementedProofServiceServer

	p *Proofs
}

// shard returns the shard that a request names, or the active one.
func (r *rpc) shard(origin string) (*shard, *fault) {
	if origin == "" {
		return r.p.active.Load(), nil
	}
	if s := r.p.of(origin); s != nil {
		return s, nil
	}
	return nil, refuse(http.StatusNotFound, "no-such-shard", "origin", "expected the origin of a shard of this log, or none")
}

// GetCheckpoint implements trialogv1.ProofServiceServer.
func (r *rpc) GetCheckpoint(
	ctx context.Context, req *trialogv1.GetCheckpointRequest,
) (*trialogv1.GetCheckpointResponse, error) {
	s, bad := r.shard(req.GetOrigin())
	if bad != nil {
		return nil, bad.rpc()
	}
	at, err := s.latest(ctx)
	if err != nil {
		return nil, unavailable(err).rpc()
	}
	return &trialogv1.GetCheckpointResponse{Checkpoint: string(at.raw)}, nil
}

// GetInclusionProof implements trialogv1.ProofServiceServer.
func (r *rpc) GetInclusionProof(
	ctx context.Context, req *trialogv1.GetInclusionProofRequest,
) (*trialogv1.GetInclusionProofResponse, error) {
	s, bad := r.shard(req.GetOrigin())
	if bad != nil {
		return nil, bad.rpc()
	}
	p, bad := s.inclusion(ctx, req.GetIndex(), req.GetSize(), req.GetSize() != 0)
	if bad != nil {
		return nil, bad.rpc()
	}
	return &trialogv1.GetInclusionProofResponse{
		Size: p.size, Root: p.root[:], LeafHash: p.leaf[:], Path: joined(p.path),
	}, nil
}

// GetConsistencyProof implements trialogv1.ProofServiceServer.
func (r *rpc) GetConsistencyProof(
	ctx context.Context, req *trialogv1.GetConsistencyProofRequest,
) (*trialogv1.GetConsistencyProofResponse, error) {
	s, bad := r.shard(req.GetOrigin())
	if bad != nil {
		return nil, bad.rpc()
	}
	p, bad := s.consistency(ctx, req.GetFirst(), req.GetSecond(), req.GetSecond() != 0)
	if bad != nil {
		return nil, bad.rpc()
	}
	return &trialogv1.GetConsistencyProofResponse{
		Second: p.second, FirstRoot: p.firstRoot[:], SecondRoot: p.secondRoot[:], Path: joined(p.path),
	}, nil
}

// GetEntries implements trialogv1.ProofServiceServer.
func (r *rpc) GetEntries(
	ctx context.Context, req *trialogv1.GetEntriesRequest,
) (*trialogv1.GetEntriesResponse, error) {
	s, bad := r.shard(req.GetOrigin())
	if bad != nil {
		return nil, bad.rpc()
	}
	count := req.GetCount()
	if count < 1 || count > maxEntries {
		return nil, refuse(http.StatusBadRequest, "range", "count", "expected 1 to %d", maxEntries).rpc()
	}
	list, _, bad := r.p.entries(ctx, s, req.GetFirst(), int(count))
	if bad != nil {
		if bad.field == "index" {
			bad.field = "first"
		}
		return nil, bad.rpc()
	}
	return &trialogv1.GetEntriesResponse{First: req.GetFirst(), Entries: list}, nil
}

// RefreshReceipt implements trialogv1.ProofServiceServer.
func (r *rpc) RefreshReceipt(
	ctx context.Context, req *trialogv1.RefreshReceiptRequest,
) (*trialogv1.RefreshReceiptResponse, error) {
	done, bad := r.p.beginRenewal()
	if bad != nil {
		return nil, bad.rpc()
	}
	defer done()
	body, bad := r.p.refresh(ctx, req.GetReceipt(), "receipt", req.GetAnchored())
	if bad != nil {
		return nil, bad.rpc()
	}
	return &trialogv1.RefreshReceiptResponse{Receipt: body}, nil
}

// joined writes hashes one after the other.
func joined(path [][32]byte) []byte {
	out := make([]byte, 0, len(path)*32)
	for i := range path {
		out = append(out, path[i][:]...)
	}
	return out
}
