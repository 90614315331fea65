package witnessing

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/trialog/trialog/api/checkpoint"
)

const (
	// maxAnswer bounds what is read of an answer: enough for checkpoint's
	// limit of 100 Ed25519 lines or a dozen of ML-DSA-44, and a witness needs two.
	maxAnswer = 64 << 10
	// maxProof is the protocol's bound on proof lines.
	maxProof = 63
	// Retry-After is honoured between these bounds.
	minRetryAfter = time.Second
	maxRetryAfter = 5 * time.Minute
)

// reply is what one request came to.
type reply struct {
	outcome Outcome
	err     error
	// size is the body of a 409 with text/x.tlog.size; outcome is Behind then,
	// whatever the number.
	size uint64
	// wait is the Retry-After of a 429 or 503, 0 if it had none.
	wait time.Duration
	// signed holds the cosignatures that verify, by policy name; with outcome
	// Cosigned one by each key of the witness.
	signed map[string]checkpoint.Signature
}

// addBody is the body of an add-checkpoint request.
func addBody(old uint64, proof [][32]byte, note *checkpoint.Note) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "old %d\n", old)
	for _, hash := range proof {
		b.WriteString(base64.StdEncoding.EncodeToString(hash[:]))
		b.WriteByte('\n')
	}
	b.WriteByte('\n')
	b.Write(note.Bytes())
	return b.Bytes()
}

// post sends one add-checkpoint request and reads the answer. The note has the
// log's signatures only.
func (p *Pool) post(ctx context.Context, e *endpoint, old uint64, proof [][32]byte, note *checkpoint.Note) reply {
	if len(proof) > maxProof {
		return reply{outcome: NoProof, err: fmt.Errorf("the proof has %d hashes, the protocol carries %d", len(proof), maxProof)}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, e.url+"/add-checkpoint", bytes.NewReader(addBody(old, proof, note)))
	if err != nil {
		return reply{outcome: Unreachable, err: fmt.Errorf("making the request: %w", err)}
	}
	req.Header.Set("Content-Type", "text/plain; charset=utf-8")
	resp, err := p.client.Do(req)
	if err != nil {
		return reply{outcome: Unreachable, err: err}
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	// Nothing is lost when closing fails: the body was read, or is of no use.
	_ = resp.Body.Close()
	if err != nil {
		return reply{outcome: Unreachable, err: fmt.Errorf("reading the answer: %w", err)}
	}
	if len(body) > maxAnswer {
		return reply{outcome: BadAnswer, err: fmt.Errorf("the answer, status %d, is longer than %d bytes", resp.StatusCode, maxAnswer)}
	}
	return p.read(e, resp.StatusCode, resp.Header, body, note)
}

// read judges an answer. Its rules are those of the specification, widened by
// what deployed witnesses were seen to do.
func (p *Pool) read(e *endpoint, status int, header http.Header, body []byte, note *checkpoint.Note) reply {
	switch {
	case status == http.StatusOK:
		return p.readCosignatures(e, body, note)
	case status == http.StatusConflict:
		return readConflict(header, body)
	case status == http.StatusNotFound || status == http.StatusForbidden:
		return reply{outcome: NotConfigured, err: fmt.Errorf("status %d", status)}
	case status == http.StatusTooManyRequests:
		return reply{outcome: RateLimited, err: errors.New("status 429"), wait: retryAfter(header, p.now())}
	case status == http.StatusBadRequest || status == http.StatusUnprocessableEntity:
		return reply{outcome: Refused, err: fmt.Errorf("status %d", status)}
	case status == http.StatusServiceUnavailable && retryAfter(header, p.now()) > 0:
		return reply{outcome: Quarantined, err: errors.New("status 503"), wait: retryAfter(header, p.now())}
	default:
		return reply{outcome: Unavailable, err: fmt.Errorf("status %d", status)}
	}
}

// readConflict reads a 409.
//
// SPEC (tlog-witness): "The response body MUST consist of the tree size of the
// latest cosigned checkpoint in decimal, followed by a newline (U+000A). The
// response MUST have a Content-Type of text/x.tlog.size." A 409 without it is
// how revision v1.0.0, and witnesses built from it, refuse another root at the
// same size.
func readConflict(header http.Header, body []byte) reply {
	mediaType, _, err := mime.ParseMediaType(header.Get("Content-Type"))
	if err != nil || mediaType != "text/x.tlog.size" {
		return reply{outcome: OtherRoot, err: errors.New("status 409 without a size: another root was cosigned at this size")}
	}
	digits, ok := strings.CutSuffix(string(body), "\n")
	size, err := strconv.ParseUint(digits, 10, 64)
	if !ok || err != nil || strconv.FormatUint(size, 10) != digits {
		return reply{outcome: BadAnswer, err: errors.New("status 409 with a body that is no size")}
	}
	return reply{outcome: Behind, size: size, err: fmt.Errorf("status 409: its latest size is %d", size)}
}

// readCosignatures reads a 200.
//
// SPEC (tlog-witness): "The client MUST ignore any cosignatures from unknown
// keys." Known is one key a policy line, and only those of this witness: what
// another witness's key has signed is not taken from here.
func (p *Pool) readCosignatures(e *endpoint, body []byte, note *checkpoint.Note) reply {
	lines, err := checkpoint.ParseSignatureLines(body)
	if err != nil {
		return reply{outcome: BadAnswer, err: err}
	}
	r := reply{outcome: Cosigned, signed: make(map[string]checkpoint.Signature)}
	for _, entry := range e.entries {
		sig, outcome, err := p.lineBy(entry.Key, lines, note)
		if err != nil {
			// The other key's line is as good as it was.
			r.outcome, r.err = outcome, errors.Join(r.err, fmt.Errorf("%s: %w", entry.Name, err))
			continue
		}
		r.signed[entry.Name] = sig
	}
	return r
}

// lineBy returns the first line by the key that is a cosignature of the note with
// an acceptable time, or why there is none.
func (p *Pool) lineBy(
	key *checkpoint.VerifierKey, lines []checkpoint.Signature, note *checkpoint.Note,
) (checkpoint.Signature, Outcome, error) {
	outcome, err := BadSignature, errors.New("no line by this key")
	for _, line := range lines {
		if line.Name != key.Name() || line.KeyID != key.ID() {
			continue
		}
		at, bad := key.VerifyCheckpoint(note, line)
		if bad != nil {
			return checkpoint.Signature{}, BadSignature, bad
		}
		if bad := p.checkTime(at); bad != nil {
			outcome, err = BadTime, bad
			continue
		}
		return line, Cosigned, nil
	}
	return checkpoint.Signature{}, outcome, err
}

// checkTime holds a cosignature's time, in Unix seconds, against the clock.
//
// SPEC (tlog-witness): "the timestamp MUST NOT be zero." (tlog-cosignature):
// "verifiers MAY reject cosignatures with timestamps in the future."
func (p *Pool) checkTime(at uint64) error {
	if at == 0 {
		return errors.New("the cosignature has no time")
	}
	// VerifyCheckpoint lets no time above 2^63-1 through, and a clock that is
	// before 1970 accepts nothing.
	now := p.now().Unix()
	skew := int64(MaxSkew / time.Second)
	if signed := int64(at); signed > now+skew || signed < now-skew {
		return fmt.Errorf("the cosignature's time %d is more than %s from the clock's %d", at, MaxSkew, now)
	}
	return nil
}

// retryAfter reads the header as RFC 9110, section 10.2.3, has it: seconds or a
// date. It is 0 if there is none that can be read.
func retryAfter(header http.Header, now time.Time) time.Duration {
	text := header.Get("Retry-After")
	if text == "" {
		return 0
	}
	wait := maxRetryAfter
	if at, err := http.ParseTime(text); err == nil {
		wait = at.Sub(now)
	} else if s, err := strconv.ParseUint(text, 10, 64); err != nil {
		return 0
	} else if s < uint64(maxRetryAfter/time.Second) {
		wait = time.Duration(s) * time.Second
	}
	return min(max(wait, minRetryAfter), maxRetryAfter)
}
