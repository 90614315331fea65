package filing

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/trialog/trialog/api/client"
	"github.com/trialog/trialog/api/receipt"
	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/api/verify"
	"github.com/trialog/trialog/tools/trialog/folder"
)

// maxRebuilds is how often a statement is signed anew because somebody else
// with the same key was quicker.
const maxRebuilds = 16

// Desk files requests for one key.
type Desk struct {
	Folder *folder.Folder // for its lock
	Client *client.Client
	Policy *verify.Policy
	Log    string // name
	Key    *statement.PrivateKey
	Now    func() time.Time
	Random io.Reader
}

// Result is what became of a request.
type Result struct {
	Request *Request
	// Already tells that the receipt was there before, and that the log was not
	// asked.
	Already bool
	Index   uint64
	// Verdict is what the receipt says, its document checked; nil as long as
	// there is only a promise.
	Verdict *verify.Verdict
	Promise *receipt.Pending
	// NotStored says why the log has not taken the document; empty if it has, or
	// was not to.
	NotStored string
	// Identity names the statement.
	Identity statement.Identity
}

// RejectedError says that the log refused a statement and stored nothing.
type RejectedError struct{ Problem *client.Problem }

// Error implements error.
func (e *RejectedError) Error() string { return e.Problem.Error() }

// Unwrap returns the log's answer.
func (e *RejectedError) Unwrap() error { return e.Problem }

// File brings a request into the log. Only one process of a work folder does so
// at a time.
func (d *Desk) File(ctx context.Context, r *Request, wait client.Wait) (*Result, error) {
	unlock, err := d.Folder.Lock(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { _ = unlock() }()
	res, err := d.file(ctx, r, wait)
	return res, KeepEvidence(r.Base, err, d.Now())
}

// file is File, by the one who does so.
func (d *Desk) file(ctx context.Context, r *Request, wait client.Wait) (*Result, error) {
	if err := d.check(r); err != nil {
		return nil, err
	}
	w, err := readWork(r.Base + PendingEnding)
	if err != nil {
		return nil, err
	}
	if w == nil {
		if done, err := d.done(r); err != nil || done != nil {
			return done, err
		}
	} else if err := d.resume(r, w); err != nil {
		return nil, err
	}
	return d.send(ctx, r, w, wait)
}

// check builds the request with made-up values for what the log will say, so
// that what is wrong with it is said before anything is written or sent.
func (d *Desk) check(r *Request) error {
	s := r.Statement
	some := statement.Digest{1}
	if s.Kind == statement.KindBatch {
		if len(r.Records) == 0 {
			return errors.New("a batch needs at least one record")
		}
		s.Attributes = append(slices.Clip(s.Attributes),
			statement.CountMember("count", uint64(len(r.Records))), statement.TextMember("root", some.String()))
	}
	if len(r.SealedAttributes) > 0 {
		o := statement.Opening{Context: r.context()}
		if err := o.SealAttributes(r.SealedAttributes, zeros{}); err != nil {
			return err
		}
		s.Sealed = some
	}
	opening := &statement.Opening{Context: r.context(), MediaType: s.MediaType}
	d.complete(&s, r, statement.Link{Number: 1}, nil)
	if err := r.subject(&s, opening, some); err != nil {
		return err
	}
	_, err := statement.Build(&s)
	return err
}

// resume checks that what is under way is what is asked for.
func (d *Desk) resume(r *Request, w *work) error {
	path := r.Base + PendingEnding
	opening, bodies, err := d.openings(r)
	if err != nil {
		return err
	}
	if w.statement.Writer() != d.Key.ID() || !r.says(w.statement, opening, w.Records, bodies) {
		return &TakenError{path, fmt.Sprintf(
			"is an unfinished submission of something else (%s); finish that one first by the same command as then", w.statement.Kind)}
	}
	return nil
}

// openings makes or finds what the request's commitments are opened by.
func (d *Desk) openings(r *Request) (opening *statement.Opening, bodies [][]byte, err error) {
	if r.needsOpening() {
		if opening, err = Seal(r, d.Random); err != nil {
			return nil, nil, err
		}
	}
	bodies, err = r.bodies(d.Random)
	return opening, bodies, err
}

// complete fills in what is the same for every statement of this key.
func (d *Desk) complete(s *statement.Statement, r *Request, place statement.Link, beacon *statement.Beacon) {
	at := statement.Date(d.Now().UTC().Format("2006-01-02T15:04:05Z"))
	s.Log, s.Chain, s.Beacon = d.Log, place, beacon
	s.Signers = []statement.Signer{{Key: d.Key.ID(), Meaning: r.meaning(), At: at}}
	for _, key := range r.Cosigners {
		s.Signers = append(s.Signers, statement.Signer{Key: key.ID(), Meaning: statement.Approval, At: at})
	}
}

// write builds and signs the statement and makes it durable.
func (d *Desk) write(ctx context.Context, r *Request) (*work, error) {
	s := r.Statement
	chain, err := d.Client.Chain(ctx, d.Key.ID(), s.Trial)
	if err != nil {
		return nil, err
	}
	beacon, note, err := d.Client.Beacon(ctx)
	if err != nil {
		return nil, err
	}
	d.complete(&s, r, chain.Next(), beacon)
	if err := checkPlace(&s, chain); err != nil {
		return nil, err
	}
	opening, bodies, err := d.openings(r)
	if err != nil {
		return nil, err
	}
	w := &work{Beacon: note, statement: &s}
	if s.Kind == statement.KindBatch {
		if w.Records, err = d.records(&s, bodies); err != nil {
			return nil, err
		}
	}
	if opening != nil {
		s.Sealed = opening.AttributesCommitment()
	}
	if err := r.subject(&s, opening, chain.Trial); err != nil {
		return nil, err
	}
	payload, err := statement.Build(&s)
	if err != nil {
		return nil, err
	}
	env, err := statement.Sign(payload, append([]*statement.PrivateKey{d.Key}, r.Cosigners...)...)
	if err != nil {
		return nil, err
	}
	w.Envelope = env.Bytes()
	return w, d.keep(r, w)
}

// keep makes the signed bytes durable before they are sent.
func (d *Desk) keep(r *Request, w *work) error {
	raw, err := w.encode()
	if err != nil {
		return err
	}
	return folder.WriteFile(r.Base+PendingEnding, raw, 0o600)
}

// checkPlace says in words what the log would refuse for its state.
func checkPlace(s *statement.Statement, chain *client.Chain) error {
	rule, _ := statement.RuleOf(s.Kind)
	switch {
	case chain.Organisation == "" && s.Kind != statement.KindKey:
		return errors.New("this key is not enrolled in the log; enrol it with: trialog init")
	case chain.Organisation != "" && chain.Organisation != s.Organisation:
		return fmt.Errorf("this key is enrolled for %q, not for %q", chain.Organisation, s.Organisation)
	case rule.Scope == statement.InTrial && s.Kind != statement.KindTrial && chain.Trial.IsZero():
		return fmt.Errorf("the log knows no trial %q; register it first with: trialog submit --kind trial --trial %s", s.Trial, s.Trial)
	case s.Kind == statement.KindTrial && !chain.Trial.IsZero() && s.Amends.IsZero():
		return fmt.Errorf("the log knows trial %q already; a further statement about it needs --amends", s.Trial)
	}
	return nil
}

// records salts the records of a batch and adds what the statement says of them.
func (d *Desk) records(s *statement.Statement, bodies [][]byte) ([][]byte, error) {
	list := make([][]byte, len(bodies))
	for i, body := range bodies {
		rec, err := statement.NewRecord(s.TextAttribute("recordType"), body, d.Random)
		if err != nil {
			return nil, err
		}
		list[i] = rec.Encode()
	}
	root, err := statement.BatchRoot(list)
	if err != nil {
		return nil, err
	}
	s.Attributes = append(slices.Clip(s.Attributes),
		statement.CountMember("count", uint64(len(list))), statement.TextMember("root", root.String()))
	return list, nil
}

// send sends the work until its outcome is known. nil begins anew.
func (d *Desk) send(ctx context.Context, r *Request, w *work, wait client.Wait) (*Result, error) {
	var err error
	for rebuilds := 0; ; rebuilds++ {
		if w == nil {
			if w, err = d.write(ctx, r); err != nil {
				return nil, err
			}
		}
		ack, err := d.Client.Submit(ctx, w.Envelope, w.Beacon, wait)
		if err == nil {
			return d.finish(ctx, r, w, ack)
		}
		var p *client.Problem
		if !errors.As(err, &p) || !rejected(p, w) {
			return nil, err
		}
		if p.Head == nil || rebuilds == maxRebuilds {
			if err := folder.Remove(r.Base + PendingEnding); err != nil {
				return nil, err
			}
			return nil, &RejectedError{p}
		}
		// Another process with this key was quicker. The log said that it stored
		// nothing of ours, so it is signed anew, further on in the chain.
		w = nil
	}
}

// rejected tells whether an answer means that the statement is not in the log.
// The log looks a statement up before it judges it; what its door refuses
// before that, such as a wrong token, says nothing about an earlier attempt.
func rejected(p *client.Problem, w *work) bool {
	if p.Temporary() {
		return false
	}
	if !w.found && !p.Uncertain {
		return true // the one answer to the one time it was sent
	}
	if p.Type == "" {
		return false // not the log's own words
	}
	switch p.Status {
	case http.StatusBadRequest, http.StatusConflict:
		return true
	case http.StatusForbidden:
		return strings.HasPrefix(p.Field, "envelope.payload.") && w.statement.Kind != statement.KindKey
	}
	return false
}
