package fsck

import (
	"time"

	"github.com/trialog/trialog/api/entry"
	"github.com/trialog/trialog/api/statement"
)

// facts is what the history check needs of an entry. It holds no trial data
// beyond names that serve as keys of maps.
type facts struct {
	index uint64
	// unread says what of the entry cannot be read; empty if all of it can.
	unread   string
	received time.Time
	stmt     *statement.Statement
	identity statement.Identity
	message  []byte // what was signed; nil if signatures are left out
	sigs     []statement.Signature
}

// read parses an entry strictly.
func read(s sound, deep bool) facts {
	f := facts{index: s.index}
	e, err := entry.Parse(s.raw)
	if err != nil {
		f.unread = "its frame"
		return f
	}
	f.received = e.Received
	env, err := statement.ParseEnvelope(e.Envelope)
	if err != nil {
		f.unread = "its envelope"
		return f
	}
	stmt, err := statement.Decode(env.Payload)
	if err != nil {
		f.unread = "its statement"
		return f
	}
	f.stmt, f.identity = stmt, stmt.Identity(env.Payload)
	if deep {
		f.message, f.sigs = statement.PAE(statement.PayloadType, env.Payload), env.Signatures
	}
	return f
}
