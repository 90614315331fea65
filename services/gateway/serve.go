package gateway

import (
	"log/slog"
	"net/http"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	trialogv1 "github.com/trialog/trialog/api/gen/trialog/v1"
)

// maxMessage bounds a gRPC request in bytes: that of a batch, or one message of a
// stream. The fields of other requests have bounds of their own.
const maxMessage = 4 << 20

// noDeadline takes a deadline off a connection.
func noDeadline() time.Time { return time.Time{} }

// newHTTP makes the REST server. Bodies have deadlines of their own, since
// uploads take longer than requests.
func (g *Gateway) newHTTP() *http.Server {
	return &http.Server{
		Handler:           g.handler,
		ReadHeaderTimeout: g.limits.HeaderTimeout,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    hardHeaders,
		// What net/http would say names addresses of callers.
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
	}
}

// newGRPC makes the gRPC server. It has no reflection: the .proto files are
// published, and what else is linked is nobody's business.
func (g *Gateway) newGRPC() *grpc.Server {
	s := grpc.NewServer(
		grpc.ForceServerCodecV2(tolerant{CodecV2: encoding.GetCodecV2("proto")}),
		grpc.MaxRecvMsgSize(maxMessage),
		grpc.MaxHeaderListSize(maxHeaders),
		grpc.MaxConcurrentStreams(128),
		grpc.ConnectionTimeout(g.limits.HeaderTimeout),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 20 * time.Second}),
		grpc.KeepaliveParams(keepalive.ServerParameters{
			MaxConnectionIdle: 5 * time.Minute, Time: time.Minute, Timeout: 20 * time.Second,
		}),
	)
	trialogv1.RegisterSubmissionServiceServer(s, door{g: g})
	if g.cfg.Beside != nil {
		g.cfg.Beside(s)
	}
	return s
}

// tolerant is a codec that takes any bytes for a request. Where they are none,
// it leaves a mark in the message that pass refuses: grpc itself would say
// Internal, as if it were our fault, and before it was asked who calls.
type tolerant struct{ encoding.CodecV2 }

// Unmarshal implements encoding.CodecV2.
func (c tolerant) Unmarshal(data mem.BufferSlice, v any) error {
	err := c.CodecV2.Unmarshal(data, v)
	m, ok := v.(proto.Message)
	if err == nil || !ok {
		return err
	}
	proto.Reset(m)
	m.ProtoReflect().SetUnknown(undecodable())
	return nil
}

// undecodable is the mark: an unknown field with the greatest number there is.
func undecodable() []byte {
	return protowire.AppendVarint(protowire.AppendTag(nil, protowire.MaxValidNumber, protowire.VarintType), 0)
}
