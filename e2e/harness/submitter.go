package harness

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"testing"
	"time"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/statement"
)

// Submitter is an organisation with a key that speaks to a log's REST interface
// with nothing but HTTP and JSON. It keeps its own chains, and it resolves an
// outcome that it does not know by sending the same bytes again.
type Submitter struct {
	Organisation string
	Key          *statement.PrivateKey
	Recovery     *statement.PrivateKey

	url    string
	log    string
	client *http.Client
	chains map[string]statement.Link
	beacon []byte
}

// NewSubmitter makes an organisation with new keys; Enrol makes it known.
func NewSubmitter(t testing.TB, l *Log, organisation string) *Submitter {
	t.Helper()
	key, err := statement.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	recovery, err := statement.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &Submitter{
		Organisation: organisation, Key: key, Recovery: recovery, url: l.URL, log: l.Policy().Trust().Log,
		client: &http.Client{Timeout: 30 * time.Second}, chains: map[string]statement.Link{},
	}
}

// Signed is a statement that is ready to be sent, any number of times.
type Signed struct {
	Envelope []byte
	Beacon   []byte
	Identity statement.Identity
	link     statement.Link
	chain    string
}

// Answer is what the log answered.
type Answer struct {
	State     string `json:"state"`
	Identity  string `json:"identity"`
	Index     uint64 `json:"index,string"`
	Receipt   []byte `json:"receipt"`
	Pending   []byte `json:"pending"`
	Duplicate bool   `json:"duplicate"`
}

// Problem is an answer that is an error (RFC 9457).
type Problem struct {
	Status int    `json:"status"`
	Title  string `json:"title"`
	Detail string `json:"detail"`
	Field  string `json:"field"`
	Type   string `json:"type"`
}

// Error implements error.
func (p *Problem) Error() string {
	return fmt.Sprintf("%d %s: %s (%s)", p.Status, p.Title, p.Detail, p.Field)
}

// FetchBeacon takes the newest checkpoint as beacon of the next statements.
func (s *Submitter) FetchBeacon(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+"/checkpoint", http.NoBody)
	if err != nil {
		return err
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return err
	}
	body, err := io.ReadAll(resp.Body)
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("no checkpoint: status %d", resp.StatusCode)
	}
	s.beacon = body
	return nil
}

// Clone returns a submitter with the same keys and chains, for use at the same
// time.
func (s *Submitter) Clone() *Submitter {
	c := *s
	c.chains = maps.Clone(s.chains)
	return &c
}

// At has the submitter speak to another address of the log.
func (s *Submitter) At(url string) *Submitter {
	s.url = url
	return s
}

// Took moves the chain on behind a statement that the log took in another way
// than by Send.
func (s *Submitter) Took(x *Signed) { s.chains[x.chain] = x.link }

// Say builds and signs the next statement of the chain of (trial, key).
func (s *Submitter) Say(kind statement.Kind, trial string, change func(*statement.Statement)) (*Signed, error) {
	return s.SayWith(kind, trial, change, s.Key)
}

// SayWith is Say with the keys of all signers, the submitter's first.
func (s *Submitter) SayWith(
	kind statement.Kind, trial string, change func(*statement.Statement), keys ...*statement.PrivateKey,
) (*Signed, error) {
	st := &statement.Statement{
		Log: s.log, Organisation: s.Organisation, Trial: trial, Kind: kind,
		Signers: []statement.Signer{{
			Key: s.Key.ID(), Meaning: statement.Authorship, At: statement.Date(time.Now().UTC().Format("2006-01-02T15:04:05Z")),
		}},
	}
	last := s.chains[trial]
	st.Chain = statement.Link{Number: last.Number + 1, Previous: last.Previous}
	note, err := checkpoint.Parse(s.beacon)
	if err != nil {
		return nil, fmt.Errorf("the beacon: %w", err)
	}
	c := note.Checkpoint()
	st.Beacon = &statement.Beacon{Origin: c.Origin, Size: c.Size, Note: statement.Digest(note.Digest())}
	change(st)
	payload, err := statement.Build(st)
	if err != nil {
		return nil, err
	}
	env, err := statement.Sign(payload, keys...)
	if err != nil {
		return nil, err
	}
	id := st.Identity(payload)
	return &Signed{
		Envelope: env.Bytes(), Beacon: s.beacon, Identity: id, chain: trial,
		link: statement.Link{Number: st.Chain.Number, Previous: id},
	}, nil
}

// Document makes a change that gives the statement a public document.
func Document(content []byte, mediaType string) func(*statement.Statement) {
	return func(s *statement.Statement) {
		s.MediaType, s.Subject, s.Digest = mediaType, statement.SubjectSHA256, sha256.Sum256(content)
	}
}

// OpenTrial makes a change for the first statement of a trial.
func OpenTrial(s *statement.Statement) {
	s.Subject, s.Digest = statement.SubjectTrial, statement.TrialDigest(s.Log, s.Organisation, s.Trial)
}

// Send sends a signed statement once. The chain moves on when it was taken in.
func (s *Submitter) Send(ctx context.Context, x *Signed, wait, token string) (*Answer, error) {
	body, err := json.Marshal(map[string]any{"envelope": x.Envelope, "beacon": string(x.Beacon), "wait": wait})
	if err != nil {
		return nil, err
	}
	var a Answer
	if err := s.post(ctx, "/v1/statements", body, token, &a); err != nil {
		return nil, err
	}
	s.chains[x.chain] = x.link
	return &a, nil
}

func (s *Submitter) post(ctx context.Context, path string, body []byte, token string, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return err
	}
	raw, err := io.ReadAll(resp.Body)
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		p := &Problem{}
		if err := json.Unmarshal(raw, p); err != nil {
			return fmt.Errorf("status %d and not a problem: %q", resp.StatusCode, raw)
		}
		return p
	}
	return json.Unmarshal(raw, into)
}

// SendUntil sends the same bytes again until the log gives an answer, success or
// refusal: that is how an unknown outcome is resolved.
func (s *Submitter) SendUntil(ctx context.Context, x *Signed, wait, token string) (*Answer, error) {
	for {
		a, err := s.Send(ctx, x, wait, token)
		var p *Problem
		if err == nil || errors.As(err, &p) && p.Status < 500 && p.Status != http.StatusTooManyRequests {
			return a, err
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), err)
		case <-time.After(50 * time.Millisecond): // the log may be starting again
		}
	}
}

// Enrol makes the organisation known, with its key in the roles sponsor and
// admin.
func (s *Submitter) Enrol(ctx context.Context, token string) error {
	if err := s.FetchBeacon(ctx); err != nil {
		return err
	}
	x, err := s.Say(statement.KindKey, "", func(st *statement.Statement) {
		st.Subject, st.Digest = statement.SubjectKey, s.Key.ID()
		st.Attributes = []statement.Member{
			statement.TextMember("action", "enrol"), statement.KeyMember("publicKey", s.Key.Public()),
			statement.ListMember("roles", "sponsor", "admin"), statement.KeyMember("recovery", s.Recovery.Public()),
		}
	})
	if err != nil {
		return err
	}
	_, err = s.SendUntil(ctx, x, "WAIT_FINAL", token)
	return err
}
