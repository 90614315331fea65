package sequencer

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	trialogv1 "github.com/trialog/trialog/api/gen/trialog/v1"
	"github.com/trialog/trialog/api/receipt"
	"github.com/trialog/trialog/api/statement"
)

// told is what a gateway reads out of a status.
type told struct {
	code  codes.Code
	field string
	retry time.Duration
	chain string // number and identity of a chain's head
	// reason is why nothing is taken in, in a word.
	reason string
}

func read(err error) told {
	st := status.Convert(err)
	out := told{code: st.Code()}
	for _, d := range st.Details() {
		switch d := d.(type) {
		case *errdetails.BadRequest:
			for _, v := range d.GetFieldViolations() {
				out.field += v.GetField()
			}
		case *errdetails.RetryInfo:
			out.retry = d.GetRetryDelay().AsDuration()
		case *errdetails.ErrorInfo:
			out.reason = d.GetReason()
		case *trialogv1.ChainHead:
			out.chain = strings.TrimSpace(fmt.Sprint(d.GetNumber(), " ", d.GetIdentity()))
		}
	}
	return out
}

func TestStatus(t *testing.T) {
	w := newWorld(t)
	w.open()
	defer w.close()
	id := sum("x")
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	late, cancel := context.WithDeadline(t.Context(), time.Unix(0, 0))
	defer cancel()
	secret := errors.New("dial tcp 10.0.0.7: password")
	for name, tt := range map[string]struct {
		ctx  context.Context
		err  error
		want told
		text string
	}{
		"field":         {t.Context(), &statement.FieldError{Field: "predicate.log", Reason: "expected x"}, told{code: codes.InvalidArgument, field: "predicate.log"}, "predicate.log: expected x"},
		"no field":      {t.Context(), &statement.FieldError{Reason: "not JSON"}, told{code: codes.InvalidArgument}, "not JSON"},
		"forbidden":     {t.Context(), forbid("predicate.signers[0].key", "is revoked"), told{code: codes.PermissionDenied, field: "predicate.signers[0].key"}, "predicate.signers[0].key: is revoked"},
		"missing":       {t.Context(), &MissingError{"predicate.trial", "unknown"}, told{code: codes.FailedPrecondition, field: "predicate.trial"}, "predicate.trial: unknown"},
		"empty chain":   {t.Context(), &ChainError{}, told{code: codes.Aborted, field: "predicate.chain", chain: "0"}, "predicate.chain: the chain is empty, expected number 1"},
		"chain":         {t.Context(), &ChainError{4, id}, told{code: codes.Aborted, field: "predicate.chain", chain: "4 " + id.String()}, "predicate.chain: the newest statement has number 4"},
		"wrapped":       {t.Context(), fmt.Errorf("add: %w", &ChainError{4, id}), told{code: codes.Aborted, field: "predicate.chain", chain: "4 " + id.String()}, "predicate.chain: "},
		"busy":          {t.Context(), &BusyError{After: 7 * time.Second}, told{code: codes.ResourceExhausted, retry: 7 * time.Second}, "the log is busy"},
		"ended":         {t.Context(), errors.Join(ErrNotReady, ErrEnded), told{code: codes.Unavailable, retry: retryAfter, reason: "ended"}, ErrNotReady.Error() + ": ended"},
		"clock":         {t.Context(), refuse(Clock, "%w", secret), told{code: codes.Unavailable, retry: retryAfter, reason: "clock"}, ErrNotReady.Error() + ": clock"},
		"not ready":     {t.Context(), errors.Join(ErrNotReady, secret), told{code: codes.Unavailable, retry: retryAfter}, ErrNotReady.Error()},
		"refused":       {t.Context(), errors.Join(ErrNotReady, refuse(Rollback, "%w", secret)), told{code: codes.Unavailable, retry: retryAfter, reason: "rollback"}, ErrNotReady.Error() + ": rollback"},
		"not found":     {t.Context(), ErrNotFound, told{code: codes.NotFound}, ErrNotFound.Error()},
		"client gone":   {gone, context.Canceled, told{code: codes.Canceled}, "context canceled"},
		"client late":   {late, secret, told{code: codes.DeadlineExceeded}, "context deadline exceeded"},
		"anything else": {t.Context(), secret, told{code: codes.Internal}, "the log could not answer"},
	} {
		err := w.seq.status(tt.ctx, "test", tt.err)
		if got := read(err); got != tt.want {
			t.Errorf("%s: %+v, expected %+v", name, got, tt.want)
		}
		if text := status.Convert(err).Message(); !strings.HasPrefix(text, tt.text) || strings.Contains(text, "password") {
			t.Errorf("%s: says %q, expected %q", name, text, tt.text)
		}
	}
}

func TestServer(t *testing.T) {
	c := newCast(t)
	v, ctx := &Server{sequencer: c.seq}, t.Context()
	s := c.world.protocol("T1", "by RPC")
	env := c.sign(s, c.admin)
	add := &trialogv1.AddRequest{Submit: &trialogv1.SubmitRequest{Envelope: env.Bytes(), Beacon: string(c.beacon()), Wait: trialogv1.Wait_WAIT_PENDING}}
	resp, err := v.Add(ctx, add)
	if err != nil {
		t.Fatal(err)
	}
	got := resp.GetSubmitted()
	p, err := receipt.ParsePending(got.GetPending(), c.pending.Public())
	if err != nil || got.GetState() != trialogv1.State_STATE_PENDING || got.GetReceipt() != nil || got.GetDuplicate() {
		t.Fatalf("answer %v, %v", got, err)
	}
	if p.Identity.String() != got.GetIdentity() || p.Index != got.GetIndex() || p.Identity != s.Identity(env.Payload) {
		t.Errorf("promise %+v in answer %v", p, got)
	}
	add.Submit.Wait = trialogv1.Wait_WAIT_FINAL
	if resp, err = v.Add(ctx, add); err != nil {
		t.Fatal(err)
	}
	final := resp.GetSubmitted()
	if final.GetState() != trialogv1.State_STATE_FINAL || final.GetPending() != nil || !final.GetDuplicate() || final.GetIndex() != p.Index {
		t.Errorf("answer %v", final)
	}
	c.check(final.GetReceipt(), "by RPC")
	found, err := v.Find(ctx, &trialogv1.FindRequest{Identity: got.GetIdentity()})
	if err != nil || found.GetFound().GetIndex() != p.Index {
		t.Fatalf("found %v, %v", found, err)
	}
	c.check(found.GetFound().GetReceipt(), "by RPC")
	head, err := v.Head(ctx, &trialogv1.HeadRequest{})
	if err != nil || head.GetOrigin() != testOrigin || head.GetCheckpoint() != string(c.beacon()) {
		t.Errorf("head %v, %v", head, err)
	}
	chain := func(trial, key string) (*trialogv1.GetChainResponse, error) {
		r, err := v.Chain(ctx, &trialogv1.ChainRequest{Chain: &trialogv1.GetChainRequest{Trial: trial, Key: key}})
		return r.GetHead(), err
	}
	h, err := chain("T1", c.admin.ID().String())
	if err != nil || h.GetNumber() != s.Chain.Number || h.GetIdentity() != got.GetIdentity() || h.GetOrganisation() != "acme" ||
		h.GetTrialIdentity() != c.first.String() || !h.GetReceived().AsTime().Equal(p.Received) {
		t.Errorf("chain %v, %v", h, err)
	}
	h, err = chain("T1", c.stranger.ID().String())
	if err != nil || h.GetNumber() != 0 || h.GetIdentity() != "" || h.GetOrganisation() != "" || h.GetReceived() != nil {
		t.Errorf("chain of a stranger %v, %v", h, err)
	}
	for name, err := range map[string]error{
		"find: no identity":   second(v.Find(ctx, &trialogv1.FindRequest{})),
		"find: upper case":    second(v.Find(ctx, &trialogv1.FindRequest{Identity: strings.ToUpper(sum("y").String())})),
		"chain: no key":       second(chain("T1", "")),
		"chain: bad trial":    second(chain("T 1", c.admin.ID().String())),
		"chain: nothing":      second(v.Chain(ctx, &trialogv1.ChainRequest{})),
		"add: nothing":        second(v.Add(ctx, &trialogv1.AddRequest{})),
		"add: empty envelope": second(v.Add(ctx, &trialogv1.AddRequest{Submit: &trialogv1.SubmitRequest{}})),
	} {
		if code := status.Code(err); code != codes.InvalidArgument {
			t.Errorf("%s: %v, expected InvalidArgument", name, err)
		}
	}
	if err := second(v.Find(ctx, &trialogv1.FindRequest{Identity: sum("y").String()})); status.Code(err) != codes.NotFound {
		t.Errorf("find what is not there: %v", err)
	}
}

// second drops an answer.
func second[T any](_ T, err error) error { return err }

// TestServerNotReady: before it has started a sequencer answers, and says no.
func TestServerNotReady(t *testing.T) {
	w := newWorld(t)
	w.open()
	defer w.close()
	v, ctx := &Server{sequencer: w.seq}, t.Context()
	if err := second(v.Add(ctx, &trialogv1.AddRequest{})); read(err) != (told{code: codes.Unavailable, retry: retryAfter}) {
		t.Errorf("add: %v", err)
	}
	if err := second(v.Find(ctx, &trialogv1.FindRequest{Identity: sum("y").String()})); status.Code(err) != codes.NotFound {
		t.Errorf("find: %v", err)
	}
	head, err := v.Head(ctx, &trialogv1.HeadRequest{})
	if err != nil || head.GetCheckpoint() != "" || head.GetOrigin() != testOrigin {
		t.Errorf("head: %v, %v", head, err)
	}
}
