package fsck

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/verify"
)

// checkpointPath is where the newest checkpoint is.
const checkpointPath = "checkpoint"

// head returns the tree head to believe; nil if there is none, which is a
// finding then.
func (c *checker) head(ctx context.Context) (*checkpoint.Checkpoint, error) {
	if c.cfg.Head != nil {
		return c.cfg.Head, nil
	}
	raw, err := c.cfg.Source.Get(ctx, checkpointPath)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read the checkpoint: there is none: %w", err)
	} else if err != nil {
		return nil, fmt.Errorf("read the checkpoint: %w", err)
	}
	c.reader.objects.Add(1)
	c.reader.bytes.Add(uint64(len(raw)))
	judge := func(raw []byte) (*checkpoint.Checkpoint, error) {
		cosigned, err := c.cfg.Policy.CheckNote(raw)
		if err != nil {
			return nil, err
		}
		return &cosigned.Checkpoint, nil
	}
	head, err := judge(raw)
	if err == nil {
		for _, at := range Strangers(ctx, c.cfg.Policy, raw) {
			c.find(Finding{
				Kind: KindCheckpoint, Object: checkpointPath, Offset: at.Offset, Length: at.Length, Exact: at.Exact,
				Detail: "a signature is by an unknown key, and by one of the policy's if one bit of this byte is changed",
			})
		}
		return c.accept(head, raw)
	}
	f := Finding{
		Kind: KindCheckpoint, Object: checkpointPath, Length: int64(len(raw)),
		Detail: fmt.Sprintf("the policy does not accept it: %v", err),
	}
	d := newDoctor(c.cfg.Policy)
	from, to := d.suspect(raw, err)
	f.Offset, f.Length = int64(from), int64(to-from)
	for _, part := range [][2]int{{from, to}, {0, len(raw)}} {
		repaired, at := d.repair(ctx, raw, part[0], part[1])
		if repaired == nil {
			continue
		}
		if head, jerr := judge(repaired); jerr == nil {
			f.Offset, f.Length, f.Exact = int64(at), 1, true
			f.Detail = fmt.Sprintf("the policy does not accept it, and does if one bit of this byte is changed: %v", err)
			c.find(f)
			c.report.Repaired = true
			return c.accept(head, repaired)
		}
	}
	c.find(f)
	return nil, nil //nolint:nilnil // there is nothing to believe, and that was said
}

func (c *checker) accept(head *checkpoint.Checkpoint, raw []byte) (*checkpoint.Checkpoint, error) {
	if c.cfg.Origin != "" && head.Origin != c.cfg.Origin {
		return nil, fmt.Errorf("the checkpoint is of shard %q, expected %q", head.Origin, c.cfg.Origin)
	}
	n, err := checkpoint.Parse(raw)
	if err != nil {
		return nil, err
	}
	c.report.NoteDigest = hexOf(hash(n.Digest()))
	return head, nil
}

// Strangers looks at the signatures of an accepted note that the policy has no
// key for. They say nothing, unless one wrong bit made a stranger of somebody
// the policy knows: the faults are those.
func Strangers(ctx context.Context, policy *verify.Policy, raw []byte) []Fault {
	d := newDoctor(policy)
	n, err := checkpoint.Parse(raw)
	if err != nil {
		return nil
	}
	var faults []Fault
	for _, s := range n.Signatures() {
		from := bytes.LastIndex(raw, []byte(s.String()+"\n"))
		if d.knows(s) || from < 0 {
			continue
		}
		if repaired, at := d.repair(ctx, raw, from, from+len(s.String())); repaired != nil {
			faults = append(faults, Fault{Offset: int64(at), Length: 1, Exact: true})
		}
	}
	return faults
}

// doctor finds damage in notes.
type doctor struct {
	keys map[keyName]*checkpoint.VerifierKey
}

type keyName struct {
	name string
	id   uint32
}

func newDoctor(p *verify.Policy) *doctor {
	d := &doctor{keys: map[keyName]*checkpoint.VerifierKey{}}
	for _, l := range p.Notes().Logs() {
		d.keys[keyName{l.Key.Name(), l.Key.ID()}] = l.Key
	}
	for _, w := range p.Notes().Witnesses() {
		d.keys[keyName{w.Key.Name(), w.Key.ID()}] = w.Key
	}
	return d
}

func (d *doctor) knows(s checkpoint.Signature) bool { return d.keys[keyName{s.Name, s.KeyID}] != nil }

// holds tells whether a signature is one of the policy's keys' on the note.
func (d *doctor) holds(n *checkpoint.Note, s checkpoint.Signature) bool {
	k := d.keys[keyName{s.Name, s.KeyID}]
	if k == nil {
		return false
	}
	_, err := k.VerifyCheckpoint(n, s)
	return err == nil
}

// suspect returns the bytes of a note among which the fault is, by the error of
// the policy: the line that cannot be read, the signature that alone does not
// verify, the text if none does; else everything.
func (d *doctor) suspect(raw []byte, err error) (from, to int) {
	var wrong *checkpoint.SignatureError
	var format *checkpoint.FormatError
	switch {
	case errors.As(err, &wrong):
		for _, s := range wrong.Note.Signatures() {
			line := []byte(wrong.Signature.String() + "\n")
			if at := bytes.LastIndex(raw, line); at >= 0 && d.holds(wrong.Note, s) {
				return at, at + len(line)
			}
		}
		return 0, len(wrong.Note.Text())
	case errors.As(err, &format) && format.Line > 0:
		return lineAt(raw, format.Line)
	}
	// A signature is missing: a name may have become a stranger's.
	if n, err := checkpoint.Parse(raw); err == nil {
		for _, s := range n.Signatures() {
			if at := bytes.LastIndex(raw, []byte(s.String()+"\n")); at >= 0 && !d.knows(s) {
				return at, at + len(s.String()) + 1
			}
		}
	}
	return 0, len(raw)
}

// lineAt returns where a line, from 1, begins and ends, its newline included.
func lineAt(raw []byte, line int) (from, to int) {
	for range line - 1 {
		n := bytes.IndexByte(raw[from:], '\n')
		if n < 0 {
			return 0, len(raw)
		}
		from += n + 1
	}
	if n := bytes.IndexByte(raw[from:], '\n'); n >= 0 {
		return from, from + n + 1
	}
	return from, len(raw)
}

// repair looks for a bit between from and to whose change makes the signature of
// its line hold or, in the text, any signature; nil if there is none.
func (d *doctor) repair(ctx context.Context, raw []byte, from, to int) (repaired []byte, at int) {
	changed := bytes.Clone(raw)
	for at = from; at < to && ctx.Err() == nil; at++ {
		for bit := range 8 {
			changed[at] ^= 1 << bit
			if d.better(changed, at) {
				return changed, at
			}
			changed[at] ^= 1 << bit
		}
	}
	return nil, 0
}

// better tells whether a note with a changed byte has a signature that holds
// where that byte is. It asks cheap questions first: it is called for every bit.
func (d *doctor) better(raw []byte, at int) bool {
	n, err := checkpoint.Parse(raw)
	if err != nil {
		return false
	}
	text := len(n.Text())
	if at <= text {
		// All hold or none does, so the first one decides.
		known := slices.IndexFunc(n.Signatures(), d.knows)
		return known >= 0 && d.holds(n, n.Signatures()[known])
	}
	line := bytes.Count(raw[text+1:at], []byte("\n"))
	return d.holds(n, n.Signatures()[line])
}

// Fault is where a note is damaged.
type Fault struct {
	// Offset is the wrong byte if Exact, else the first of Length bytes among
	// which it is.
	Offset, Length int64
	Exact          bool
}

// LocateNote says where a note is damaged that policy refused with err. What it
// looks for is one wrong bit; ctx bounds how long.
func LocateNote(ctx context.Context, policy *verify.Policy, raw []byte, err error) Fault {
	d := newDoctor(policy)
	from, to := d.suspect(raw, err)
	for _, part := range [][2]int{{from, to}, {0, len(raw)}} {
		if repaired, at := d.repair(ctx, raw, part[0], part[1]); repaired != nil {
			return Fault{Offset: int64(at), Length: 1, Exact: true}
		}
	}
	return Fault{Offset: int64(from), Length: int64(to - from)}
}
