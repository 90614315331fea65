package sequencer

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/statement"
)

// submission is a statement on its way through the writer.
type submission struct {
	envelope *statement.Envelope
	stmt     *statement.Statement
	identity statement.Identity
	granted  []statement.Role
	// notIn is the size of the log in which the identity was looked for and not
	// found before the submission was queued.
	notIn  uint64
	beacon *beacon // nil if the statement names none
	// refused is what was wrong with the beacon. It counts only if the statement
	// is not in the log: one that is there is never answered with an error.
	refused error
	ticket  ticket
	// done is called exactly once, by whoever has the submission then. It must
	// not block.
	done func(outcome)
}

// cost is what a request holds in memory, about, while it is under way: its
// envelope, the payload and the statement that are decoded from it, its entry,
// and a beacon.
func (r *Request) cost() int64 { return int64(4*len(r.Envelope)+len(r.Beacon)) + 1024 }

// hint finds out, without parsing the statement, which organisation it names;
// "" if that cannot be seen. It need not be right: prepare holds it against the
// statement.
func hint(envelope []byte) string {
	const member, name = `"payload":"`, `"organisation":"`
	_, text, found := bytes.Cut(envelope, []byte(member))
	if !found {
		return ""
	}
	// The organisation stands near the beginning, in what this library writes.
	text = text[:min(len(text), 4*256)&^3]
	var buf [3 * 256]byte
	n, _ := base64.StdEncoding.Decode(buf[:], text) // as far as it goes
	_, rest, found := bytes.Cut(buf[:n], []byte(name))
	if !found {
		return ""
	}
	token, _, found := bytes.Cut(rest, []byte{'"'})
	if !found || len(token) > 64 {
		return ""
	}
	return string(token)
}

// read parses a request. It costs less than to verify its signatures.
func (s *Sequencer) read(req Request) (*submission, error) {
	env, stmt, err := statement.Parse(req.Envelope)
	if err != nil {
		return nil, err
	}
	if stmt.Log != s.c.Log {
		return nil, &statement.FieldError{Field: "predicate.log", Reason: fmt.Sprintf("expected %q", s.c.Log)}
	}
	return &submission{envelope: env, stmt: stmt, identity: stmt.Identity(env.Payload), granted: req.Granted}, nil
}

// prepare does what needs no order: parsing, signatures, identity, beacon. It
// returns a submission for the writer, or, with true, a known entry.
func (s *Sequencer) prepare(ctx context.Context, req Request) (*submission, outcome, bool, error) {
	sub, err := s.read(req)
	if err != nil {
		return nil, outcome{}, false, err
	}
	if err := s.verifySignatures(sub.envelope, sub.stmt); err != nil {
		return nil, outcome{}, false, err
	}
	sub.notIn = s.stored.Load()
	known, found, err := s.find(ctx, sub.identity)
	if err != nil {
		return nil, outcome{}, false, err
	}
	if found && known.settled(s.durable.Load()) {
		return sub, known, true, nil
	}
	if found {
		// Its batch is under way: it may not even be durable, and nothing is
		// promised before step 4. The writer knows when it has done that batch.
		sub.notIn = min(sub.notIn, known.index)
	}
	b, refused := s.checkBeacon(ctx, sub.stmt.Beacon, s.noteOf(req, sub.stmt.Beacon))
	if refused != nil && ctx.Err() != nil {
		return nil, outcome{}, false, ctx.Err()
	}
	sub.beacon, sub.refused = b, refused
	return sub, outcome{}, false, nil
}

// noteOf returns the note that came with the request or, if the log may not
// know it, earlier in the same stream.
func (s *Sequencer) noteOf(req Request, named *statement.Beacon) []byte {
	if len(req.Beacon) > 0 || named == nil || req.notes == nil {
		return req.Beacon
	}
	if _, known := s.beacons.get(checkpoint.Hash(named.Note)); known {
		return nil
	}
	return req.notes.get(named.Note)
}

// known answers a request whose statement is in the log already, when nothing
// new is taken in; false if it is not there.
func (s *Sequencer) known(ctx context.Context, req Request) (*submission, outcome, bool, error) {
	sub, err := s.read(req)
	if err != nil {
		return nil, outcome{}, false, err
	}
	out, found, err := s.find(ctx, sub.identity)
	if err != nil || !found || !out.settled(s.durable.Load()) {
		return nil, outcome{}, false, err
	}
	if err := s.verifySignatures(sub.envelope, sub.stmt); err != nil {
		return nil, outcome{}, false, err
	}
	return sub, out, true, nil
}

// verifySignatures resolves the signers' keys and checks their signatures.
func (s *Sequencer) verifySignatures(env *statement.Envelope, stmt *statement.Statement) error {
	keys := make(map[statement.KeyID]*statement.PublicKey, len(stmt.Signers))
	add := func(k *statement.PublicKey, ok bool) {
		if ok {
			keys[k.ID()] = k
		}
	}
	if stmt.Kind == statement.KindKey {
		add(stmt.EnrolledKey())
		add(stmt.RecoveryKey())
		org, err := s.c.Ledger.Organisation(stmt.Organisation)
		if err != nil {
			return err
		}
		if org != nil {
			recovery, err := statement.ParsePublicKey(org.Recovery)
			add(recovery, err == nil)
		}
	}
	signers := stmt.SignerIDs()
	for i, id := range signers {
		if keys[id] != nil {
			continue
		}
		public, err := s.enrolledKey(id)
		if err != nil {
			return err
		}
		if public == nil {
			return forbid(fmt.Sprintf("predicate.signers[%d].key", i), "the key is not enrolled")
		}
		keys[id] = public
	}
	return statement.VerifySignatures(env.Message(), env.Signatures, signers, keys)
}

// enrolledKey returns a key that is, or was, enrolled; nil if it never was.
func (s *Sequencer) enrolledKey(id statement.KeyID) (*statement.PublicKey, error) {
	if public, ok := s.keys.get(id); ok {
		return public, nil
	}
	k, err := s.c.Ledger.Key(id)
	if err != nil || k == nil {
		return nil, err
	}
	public, err := statement.ParsePublicKey(k.DER)
	if err != nil {
		return nil, fmt.Errorf("read an enrolled key: %w", err)
	}
	return s.keys.put(id, public), nil
}
