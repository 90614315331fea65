package witness

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"go.etcd.io/bbolt"

	"github.com/trialog/trialog/api/checkpoint"
)

// maxClockStep is how far the clock may be behind the newest cosignature. Within
// it the old time is used again, so that times never go back; beyond it one of
// the two is wrong, and a time that is known to be wrong is not signed.
const maxClockStep = 5 * time.Minute

// errClock is a clock that no time can be taken from.
var errClock = errors.New("the clock cannot be used")

// addCheckpoint answers an add-checkpoint request that is in the right shape.
func (w *Witness) addCheckpoint(ctx context.Context, req *addRequest) answer {
	c := req.note.Checkpoint()
	// SPEC: "If the checkpoint origin is unknown, the witness MUST respond with
	// a 404 Not Found." Nothing about an unknown origin is kept or logged.
	l := w.table.Load().byOrigin[c.Origin]
	if l == nil {
		return refuse(http.StatusNotFound, "unknown-origin", "checkpoint", errors.New("expected the origin of a configured log"))
	}
	logSigs, err := l.trusted(req.note)
	if err != nil {
		return refuse(http.StatusForbidden, "untrusted", "checkpoint", err)
	}
	ans, waits := l.gate.refusal(c)
	if waits {
		return ans
	}
	// SPEC: "checking the old size against the latest checkpoint and persisting
	// the new checkpoint must be performed atomically". One transaction holds
	// the comparison, the signing and the record.
	err = w.state.Update(func(tx *bbolt.Tx) (commit bool, err error) {
		ans, commit, err = w.judge(ctx, tx, l, req, logSigs)
		return commit, err
	})
	switch {
	case err == nil:
		if ans.status == http.StatusOK {
			l.gate.passed(c)
		}
		return ans
	case errors.Is(err, errClock):
		w.log.ErrorContext(ctx, "nothing is cosigned because of the clock", "origin", c.Origin, "error", err)
		return refuse(http.StatusServiceUnavailable, "clock", "", err)
	case ans.status >= 400:
		// The refusal stands, whether or not the journal could be written.
		w.log.ErrorContext(ctx, "journalling evidence failed", "origin", c.Origin, "error", err)
		return ans
	}
	// SPEC: "The witness MUST persist the new checkpoint before responding."
	// ans holds cosignatures by now; it is dropped.
	w.log.ErrorContext(ctx, "the state file failed", "origin", c.Origin, "size", c.Size, "error", err)
	return refuse(http.StatusInternalServerError, "state", "", errors.New("the state could not be read or written; no cosignature is given"))
}

// trusted returns the signatures on the note by keys of the log.
//
// SPEC: "The witness MUST respond with a 403 Forbidden HTTP status code if
// either no signature from a trusted key for the origin is present, or a
// signature line's key name and ID match a trusted key but the signature itself
// fails to verify." And it "MUST ignore signatures from unknown keys".
func (l *followed) trusted(n *checkpoint.Note) ([]checkpoint.Signature, error) {
	var out []checkpoint.Signature
	for _, sig := range n.Signatures() {
		for _, k := range l.keys {
			if sig.Name != k.Name() || sig.KeyID != k.ID() {
				continue
			}
			if _, err := k.VerifyCheckpoint(n, sig); err != nil {
				return nil, err
			}
			// One line a key is kept, so that a log cannot fill the record.
			if !slices.ContainsFunc(out, func(s checkpoint.Signature) bool { return s.KeyID == sig.KeyID }) {
				out = append(out, sig)
			}
		}
	}
	if len(out) == 0 {
		return nil, errors.New("expected a signature by a trusted key of the log")
	}
	return out, nil
}

// judge decides about a request inside a transaction. The answer may go out only
// if the transaction, when it is to be committed, was.
func (w *Witness) judge(
	ctx context.Context, tx *bbolt.Tx, l *followed, req *addRequest, logSigs []checkpoint.Signature,
) (_ answer, commit bool, err error) {
	// The gate was asked outside of the transaction.
	if reason := tx.Bucket([]byte(heldBucket)).Get([]byte(l.origin)); reason != nil {
		return heldAnswer(string(reason)), false, nil
	}
	rec, recNote, err := readRecord(tx, l.origin)
	if err != nil {
		return answer{}, false, err
	}
	var recorded checkpoint.Checkpoint
	if recNote != nil {
		recorded = recNote.Checkpoint()
	}
	c := req.note.Checkpoint()
	v := decide(recorded, rec != nil, req.old, req.proof, c)
	if v.kind == accept {
		return w.cosign(tx, l, req, logSigs, rec, recNote)
	}
	ans := v.answer(recorded.Size)
	if v.evidence == "" {
		return ans, false, nil
	}
	w.log.WarnContext(ctx, "refused an inconsistent checkpoint", "origin", c.Origin, "size", c.Size,
		"recorded_size", recorded.Size, "kind", v.evidence, "reason", v.reason)
	refused, err := checkpoint.NewNote(req.note.Text(), logSigs...)
	if err != nil {
		return ans, false, fmt.Errorf("keeping a refused checkpoint: %w", err)
	}
	e := &Evidence{Kind: v.evidence, Seen: w.now().Unix(), Old: req.old, Proof: req.proof, Refused: refused.Bytes()}
	if rec != nil {
		e.Recorded = rec.Note
	}
	commit, err = journal(tx, c, e)
	return ans, commit, err
}

// cosign signs a checkpoint that was accepted and writes the record. rec and
// recNote are nil for a log that was never cosigned.
func (w *Witness) cosign(
	tx *bbolt.Tx, l *followed, req *addRequest, logSigs []checkpoint.Signature, rec *record, recNote *checkpoint.Note,
) (_ answer, commit bool, err error) {
	now := w.now()
	var last uint64
	if rec != nil {
		last = rec.Time
	}
	t, err := signingTime(now, last)
	if err != nil {
		return answer{}, false, err
	}
	text := req.note.Text()
	repeated := rec != nil && rec.Size == req.note.Checkpoint().Size
	if repeated && w.repeats(recNote, text, t) {
		return cosigned(w.own(recNote)), false, nil
	}
	// A repetition costs one write a second without a token. A further one in the
	// same second has another text: the log has signed the tree with and without
	// extension lines, and anybody could send the two in turn.
	if !repeated || rec.Time == t {
		if wait, ok := l.bucket.take(now); !ok {
			ans := refuse(http.StatusTooManyRequests, "rate", "", errors.New("expected fewer checkpoints from this log; try again later"))
			ans.retryAfter = wait
			return ans, false, nil
		}
	}
	lines, err := w.sign(text, t)
	if err != nil {
		return answer{}, false, err
	}
	if len(lines) == 0 {
		return refuse(http.StatusUnprocessableEntity, "unsignable", "checkpoint",
			errors.New("expected no extension lines: the witness's key does not cover them")), false, nil
	}
	note, err := checkpoint.NewNote(text, append(logSigs, lines...)...)
	if err != nil {
		return answer{}, false, fmt.Errorf("putting the cosigned note together: %w", err)
	}
	c := note.Checkpoint()
	err = writeRecord(tx, l.origin, &record{Size: c.Size, Root: c.Root, Time: t, Note: note.Bytes()})
	return cosigned(lines), true, err
}

// repeats tells whether the recorded note has the text, and a line at the time by
// each key that covers it: then it is the answer once more, so that repetitions,
// which anybody can send, are not written.
func (w *Witness) repeats(recorded *checkpoint.Note, text []byte, t uint64) bool {
	covering := len(w.keys)
	if extended := !bytes.Equal(text, recorded.Checkpoint().Body()); extended {
		covering = 0
		for _, k := range w.keys {
			if k.Verifier().Algorithm() == checkpoint.AlgEd25519Cosignature {
				covering++
			}
		}
	}
	lines := w.own(recorded)
	return len(lines) == covering && signedAt(lines, t) && bytes.Equal(text, recorded.Text())
}

// sign makes a line with each key that covers the text.
func (w *Witness) sign(text []byte, t uint64) ([]checkpoint.Signature, error) {
	var lines []checkpoint.Signature
	for _, k := range w.keys {
		sig, err := k.SignCheckpoint(text, t)
		if errors.Is(err, checkpoint.ErrUnsignable) {
			// Extension lines: ML-DSA-44 does not cover them, Ed25519 does.
			continue
		}
		if err != nil {
			return nil, err
		}
		lines = append(lines, sig)
	}
	return lines, nil
}

// own returns the witness's lines of a note.
func (w *Witness) own(n *checkpoint.Note) []checkpoint.Signature {
	var lines []checkpoint.Signature
	for _, sig := range n.Signatures() {
		for _, k := range w.keys {
			if v := k.Verifier(); sig.Name == v.Name() && sig.KeyID == v.ID() {
				lines = append(lines, sig)
			}
		}
	}
	return lines
}

// signedAt tells whether all lines are of one time. They are the witness's own,
// which begin with their time.
func signedAt(lines []checkpoint.Signature, t uint64) bool {
	for _, line := range lines {
		if len(line.Bytes) < 8 || binary.BigEndian.Uint64(line.Bytes) != t {
			return false
		}
	}
	return true
}

// signingTime is the time of a cosignature after one of time last, in Unix
// seconds: never earlier.
//
// SPEC: "The cosignature MUST NOT omit the timestamp, i.e. the timestamp MUST
// NOT be zero."
func signingTime(now time.Time, last uint64) (uint64, error) {
	if now.Unix() <= 0 {
		return 0, fmt.Errorf("%w: it says %d", errClock, now.Unix())
	}
	t := uint64(now.Unix())
	if t >= last {
		return t, nil
	}
	if behind := last - t; behind > uint64(maxClockStep/time.Second) {
		return 0, fmt.Errorf("%w: it is %d s behind the newest cosignature of this log", errClock, behind)
	}
	return last, nil
}
