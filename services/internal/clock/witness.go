package clock

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/trialog/trialog/api/checkpoint"
)

// maxNote bounds a witness's answers: a note, or signature lines.
const maxNote = 256 << 10

// witnessTries is how often the newest checkpoint is asked for anew because the
// log has grown meanwhile.
const witnessTries = 4

// enough is the uncertainty of a witness's time that needs no further question.
const enough = 150 * time.Millisecond

// Witness is a C2SP tlog-witness, whose cosignatures carry its time to the
// second. It is asked to cosign once more the very checkpoint that it cosigned
// last, which its read interface shows: that is always consistent, and changes
// nothing but the time. Its signature is verified.
type Witness struct {
	url      string // without a slash at the end
	origin   string
	key      *checkpoint.VerifierKey
	http     *http.Client
	observed *Observed
	pause    func(context.Context, time.Duration) error
}

func (p Parser) parseWitness(rest string) (Source, error) {
	target, origin, vkey, err := httpAddress(rest, "origin")
	if err != nil {
		return nil, err
	}
	if origin == "" {
		return nil, errors.New("source of time: a witness needs ?origin=ORIGIN of a log that it follows")
	}
	key, err := checkpoint.ParseVerifierKey(vkey)
	if err != nil {
		return nil, fmt.Errorf("source of time: the witness's key: %w", err)
	}
	if key.Algorithm() == checkpoint.AlgEd25519 {
		return nil, errors.New("source of time: the witness's key signs no times, expected a cosignature key")
	}
	return &Witness{
		url: target, origin: origin, key: key, http: p.client(), observed: NewObserved("witness "+key.Name(), p.Now, p.Monotonic),
		pause: p.pause(),
	}, nil
}

// Name implements Source. It is that of the key, so that a witness that is named
// twice, by two addresses, is noticed.
func (s *Witness) Name() string { return s.observed.Name() }

// Offset implements Source. As the times are to the second, it asks again when the
// next second should begin by what is known, which halves what is not known, until
// that is little enough.
func (s *Witness) Offset(ctx context.Context) (offset, uncertainty time.Duration, err error) {
	const halvings = 2
	for asked := 0; ; asked++ {
		if err := s.observeNewest(ctx); err != nil {
			return 0, 0, fmt.Errorf("ask %s: %w", s.Name(), err)
		}
		offset, uncertainty, err = s.observed.Offset(ctx)
		if err != nil || uncertainty <= enough || asked == halvings {
			return offset, uncertainty, err
		}
		its := s.observed.now().Add(offset)
		if err := s.pause(ctx, its.Truncate(time.Second).Add(time.Second).Sub(its)); err != nil {
			return 0, 0, err
		}
	}
}

// observeNewest observes the witness once, again at once if the log grows.
func (s *Witness) observeNewest(ctx context.Context) error {
	for try := 1; ; try++ {
		stale, err := s.observe(ctx)
		if err == nil || !stale || try == witnessTries {
			return err
		}
	}
}

// observe has the witness sign its newest checkpoint once more. stale says that it
// has cosigned another one meanwhile.
func (s *Witness) observe(ctx context.Context) (stale bool, err error) {
	hash := sha256.Sum256([]byte(s.origin))
	status, raw, err := s.call(ctx, http.MethodGet, fmt.Sprintf("%s/%x/checkpoint", s.url, hash), nil)
	if err != nil {
		return false, err
	}
	if status != http.StatusOK {
		return false, fmt.Errorf("its newest checkpoint: HTTP status %d", status)
	}
	note, err := s.bare(raw)
	if err != nil {
		return false, err
	}
	var body bytes.Buffer
	fmt.Fprintf(&body, "old %d\n\n%s", note.Checkpoint().Size, note.Bytes())
	begin := s.observed.Begin()
	status, raw, err = s.call(ctx, http.MethodPost, s.url+"/add-checkpoint", body.Bytes())
	if err != nil {
		return false, err
	}
	if status != http.StatusOK {
		return status == http.StatusConflict, fmt.Errorf("a cosignature: HTTP status %d", status)
	}
	lines, err := checkpoint.ParseSignatureLines(raw)
	if err != nil {
		return false, err
	}
	for _, line := range lines {
		t, err := s.key.VerifyCheckpoint(note, line)
		switch {
		case errors.Is(err, checkpoint.ErrOtherKey):
			continue
		case err != nil:
			return false, err
		case t == 0 || t > 1<<40:
			return false, fmt.Errorf("expected a time in the cosignature, found %d", t)
		}
		s.observed.Observe(begin, time.Unix(int64(t), 0), time.Second)
		return false, nil
	}
	return false, errors.New("the answer has no cosignature by the key")
}

// bare reads a note and returns it with the log's signatures only.
//
// SPEC (tlog-witness): a client does not forward the cosignatures of others.
func (s *Witness) bare(raw []byte) (*checkpoint.Note, error) {
	note, err := checkpoint.Parse(raw)
	if err != nil {
		return nil, err
	}
	if origin := note.Checkpoint().Origin; origin != s.origin {
		return nil, fmt.Errorf("its newest checkpoint is of %q, expected %q", origin, s.origin)
	}
	var own []checkpoint.Signature
	for _, line := range note.Signatures() {
		if line.Name == s.origin {
			own = append(own, line)
		}
	}
	return checkpoint.NewNote(note.Text(), own...)
}

func (s *Witness) call(ctx context.Context, method, url string, body []byte) (status int, answer []byte, err error) {
	return ask(ctx, s.http, method, url, "", body, maxNote)
}

// ask makes one request and reads at most limit bytes of the answer.
func ask(
	ctx context.Context, client *http.Client, method, url, contentType string, body []byte, limit int64,
) (status int, answer []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	answer, err = io.ReadAll(io.LimitReader(resp.Body, limit+1))
	if err == nil && int64(len(answer)) > limit {
		err = fmt.Errorf("expected an answer of at most %d bytes", limit)
	}
	return resp.StatusCode, answer, err
}
