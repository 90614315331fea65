package testlog

import (
	"bytes"
	"fmt"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/statement"
)

// Option changes how a statement is said.
type Option func(*said)

type said struct {
	shard   *Shard
	beacon  *checkpoint.Note
	none    bool
	change  func(*statement.Statement)
	payload func([]byte) []byte
	keys    []*statement.PrivateKey
	raw     func(envelope []byte) []byte
}

// In says it in another shard than the first.
func In(s *Shard) Option { return func(o *said) { o.shard = s } }

// WithBeacon names a beacon of the caller's choice; nil names none.
func WithBeacon(n *checkpoint.Note) Option {
	return func(o *said) { o.beacon, o.none = n, n == nil }
}

// Changed changes the statement before it is built.
func Changed(f func(*statement.Statement)) Option { return func(o *said) { o.change = f } }

// Payload changes the payload before it is signed.
func Payload(f func([]byte) []byte) Option { return func(o *said) { o.payload = f } }

// SignedBy signs with other keys than the named ones.
func SignedBy(keys ...*statement.PrivateKey) Option { return func(o *said) { o.keys = keys } }

// Rewritten changes the envelope's bytes before they are logged.
func Rewritten(f func(envelope []byte) []byte) Option { return func(o *said) { o.raw = f } }

// AsReceived makes the payload say that a gateway received the statement, also
// where the format does not allow that.
func AsReceived() Option {
	return Payload(func(p []byte) []byte {
		p = bytes.Replace(p, []byte(`"authorship"`), []byte(`"reception"`), 1)
		return append(bytes.TrimSuffix(p, []byte("}}")), `,"received":{"principal":"p-7f3a","method":"token"}}}`...)
	})
}

// Swapped replaces a part of the payload before it is signed.
func Swapped(old, by string) Option {
	return Payload(func(p []byte) []byte {
		if !bytes.Contains(p, []byte(old)) {
			Check(fmt.Errorf("nothing to change: no %s in %s", old, p))
		}
		return bytes.Replace(p, []byte(old), []byte(by), 1)
	})
}

// Say completes a statement, signs it with the members' keys, the writer first,
// and logs it.
func (w *World) Say(s statement.Statement, signers []*Member, options ...Option) *Logged {
	o := said{shard: w.First}
	for _, option := range options {
		option(&o)
	}
	w.complete(&s, signers, &o)
	if o.change != nil {
		o.change(&s)
	}
	payload := Must(statement.Build(&s))
	if o.payload != nil {
		payload = o.payload(payload)
	}
	if o.keys == nil {
		for _, m := range signers {
			o.keys = append(o.keys, m.Key)
		}
	}
	raw := Must(statement.SignDSSE(statement.PayloadType, payload, o.keys...))
	if o.raw != nil {
		raw = o.raw(raw)
	}
	l := &Logged{Shard: o.shard, Statement: &s, Signers: signers}
	if env, err := statement.ParseEnvelope(raw); err == nil {
		l.Envelope = env
	}
	if o.beacon != nil {
		l.Beacon = o.beacon.Bytes()
	}
	l.Index = o.shard.Add(raw)
	w.chain[s.Trial+" "+s.Writer().String()] = statement.Link{Number: s.Chain.Number, Previous: s.Identity(payload)}
	return l
}
