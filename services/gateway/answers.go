package gateway

import (
	"context"
	"fmt"
	"log/slog"

	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	trialogv1 "github.com/trialog/trialog/api/gen/trialog/v1"
	"github.com/trialog/trialog/api/receipt/parts"
	"github.com/trialog/trialog/api/statement"
)

// partReader takes the parts of receipts in: a parts.Checker or Assembler.
type partReader interface {
	AddCheckpoint(number uint64, note string) error
	AddBeacon(number uint64, note string) error
	AddEnrolment(number uint64, raw []byte, p parts.Proof) error
}

func addPart(to partReader, p *trialogv1.ReceiptPart) error {
	switch v := p.GetPart().(type) {
	case *trialogv1.ReceiptPart_Checkpoint:
		return to.AddCheckpoint(p.GetNumber(), v.Checkpoint)
	case *trialogv1.ReceiptPart_Beacon:
		return to.AddBeacon(p.GetNumber(), v.Beacon)
	case *trialogv1.ReceiptPart_Enrolment:
		return to.AddEnrolment(p.GetNumber(), v.Enrolment.GetEntry(), proofOf(v.Enrolment.GetProof()))
	}
	return fmt.Errorf("part %d is empty", p.GetNumber())
}

func proofOf(p *trialogv1.StreamProof) parts.Proof {
	return parts.Proof{Checkpoint: p.GetCheckpoint(), Index: p.GetIndex(), Path: p.GetPath()}
}

func finalOf(f *trialogv1.StreamFinal) parts.Final {
	return parts.Final{
		Proof: proofOf(f.GetProof()), ReceivedMillis: f.GetReceivedMs(), Entry: f.GetEntry(), Beacon: f.GetBeacon(),
		Enrolments: f.GetEnrolments(), Duplicate: f.GetDuplicate(),
	}
}

// answeredError is the error of one statement. A sequencer that stops cancels
// what it was doing; that is not the caller's doing.
func answeredError(s *spb.Status) error {
	switch codes.Code(s.GetCode()) { //nolint:exhaustive // the others are what they say; unknown ones stay unknown
	case codes.OK:
		return errUnproven
	case codes.Canceled:
		return status.Error(codes.Unavailable, "canceled")
	}
	return status.FromProto(s).Err()
}

// logUngranted records that the sequencer did what nobody let it do.
func (g *Gateway) logUngranted(ctx context.Context, id statement.Identity) {
	g.cfg.Log.LogAttrs(ctx, slog.LevelError, "sequencer let in an enrolment that nobody granted",
		slog.String("identity", id.String()))
}
