package storecheck

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/fsck"
	"github.com/trialog/trialog/api/tile"
	"github.com/trialog/trialog/services/internal/blob"
	"github.com/trialog/trialog/services/internal/register"
	tiles "github.com/trialog/trialog/services/internal/tile"
)

// The names of a shard's objects beside its tiles.
const (
	checkpointKey = "checkpoint"
	candidateKey  = "candidate"
	beaconPrefix  = "beacon/"
	tilePrefix    = "tile/"
)

// mark is a size at which somebody says what the root is.
type mark struct {
	kind   fsck.Kind
	object string
	size   uint64
	root   [32]byte
	// claim says who says it.
	claim      string
	met, wrong bool
}

// heads is what a shard's notes, register and tail/head say.
type heads struct {
	// head is what everything is held against: the newest body that the log has
	// signed; without any, the registered one.
	head *checkpoint.Checkpoint
	// published is the published note, if the policy accepts it.
	published []byte
	marks     []*mark
}

func (c *checker) notesOf(ctx context.Context) (*heads, error) {
	h := &heads{}
	cosigned, err := c.published(ctx, h)
	if err != nil {
		return nil, err
	}
	signed, err := c.candidate(ctx)
	if err != nil {
		return nil, err
	}
	h.head = cosigned
	if signed != nil {
		h.marks = append(h.marks, &mark{kind: KindCandidate, object: candidateKey, size: signed.Size, root: signed.Root, claim: "the log signed"})
		if cosigned == nil || signed.Size > cosigned.Size {
			h.head = signed
		}
	}
	rec, err := c.registered(ctx, cosigned, signed)
	if err != nil {
		return nil, err
	}
	if rec != nil {
		h.marks = append(h.marks, &mark{kind: KindRegister, object: "register", size: rec.Size, root: rec.Root, claim: "the register holds"})
		if h.head == nil {
			h.head = &checkpoint.Checkpoint{Origin: rec.Origin, Size: rec.Size, Root: rec.Root}
		}
	}
	if h.head == nil {
		h.head = &checkpoint.Checkpoint{Origin: c.cfg.Origin, Root: sha256.Sum256(nil)}
	}
	return h, c.tailHead(ctx, h)
}

// get returns an object, nil if there is none.
func (c *checker) get(ctx context.Context, key string) ([]byte, error) {
	data, err := c.cfg.Tiles.Get(ctx, key)
	if errors.Is(err, blob.ErrNotFound) {
		return nil, nil
	} else if err != nil {
		return nil, fmt.Errorf("read %s: %w", key, err)
	}
	return data, nil
}

// published judges the published note.
func (c *checker) published(ctx context.Context, h *heads) (*checkpoint.Checkpoint, error) {
	raw, err := c.get(ctx, checkpointKey)
	if err != nil {
		return nil, err
	}
	if raw == nil {
		c.note(fsck.Finding{Kind: fsck.KindUnchecked, Object: checkpointKey, Detail: "nothing is published"})
		return nil, nil //nolint:nilnil // there is none
	}
	cosigned, err := c.cfg.Policy.CheckNote(raw)
	if err != nil {
		at := fsck.LocateNote(ctx, c.cfg.Policy, raw, err)
		c.find(fsck.Finding{
			Kind: fsck.KindCheckpoint, Object: checkpointKey, Offset: at.Offset, Length: at.Length, Exact: at.Exact,
			Detail: fmt.Sprintf("the policy does not accept it: %v", err),
		})
		return nil, nil //nolint:nilnil // there is none to go by
	}
	for _, at := range fsck.Strangers(ctx, c.cfg.Policy, raw) {
		c.find(fsck.Finding{
			Kind: fsck.KindCheckpoint, Object: checkpointKey, Offset: at.Offset, Length: at.Length, Exact: at.Exact,
			Detail: "a signature is by an unknown key, and by one of the policy's if one bit of this byte is changed",
		})
	}
	if cosigned.Origin != c.cfg.Origin {
		c.find(fsck.Finding{Kind: fsck.KindCheckpoint, Object: checkpointKey, Detail: "it is of another shard"})
		return nil, nil //nolint:nilnil // there is none to go by
	}
	h.published = raw
	return &cosigned.Checkpoint, nil
}

// candidate judges the note that the log signed last: by the log's keys alone,
// all of which must have signed.
func (c *checker) candidate(ctx context.Context) (*checkpoint.Checkpoint, error) {
	raw, err := c.get(ctx, candidateKey)
	if err != nil || raw == nil {
		return nil, err
	}
	n, err := checkpoint.Parse(raw)
	if err == nil {
		if err = c.signedByLog(n); err == nil {
			return new(n.Checkpoint()), nil
		}
	}
	at := fsck.LocateNote(ctx, c.cfg.Policy, raw, err)
	c.find(fsck.Finding{
		Kind: KindCandidate, Object: candidateKey, Offset: at.Offset, Length: at.Length, Exact: at.Exact,
		Detail: fmt.Sprintf("the log's own keys have not signed it: %v", err),
	})
	return nil, nil //nolint:nilnil // there is none to go by
}

func (c *checker) signedByLog(n *checkpoint.Note) error {
	if n.Checkpoint().Origin != c.cfg.Origin {
		return errors.New("it is of another shard")
	}
	for _, l := range c.cfg.Policy.Notes().Logs() {
		if l.Key.Name() != c.cfg.Origin {
			continue
		}
		signed := false
		for _, s := range n.Signatures() {
			if s.Name != l.Key.Name() || s.KeyID != l.Key.ID() {
				continue
			}
			if _, err := l.Key.VerifyCheckpoint(n, s); err != nil {
				return &checkpoint.SignatureError{Key: l.Key, Signature: s, Note: n, Err: err}
			}
			signed = true
		}
		if !signed {
			return fmt.Errorf("no signature by key %s+%08x", l.Key.Name(), l.Key.ID())
		}
	}
	return nil
}

// registered reads the register and holds it against what was signed.
func (c *checker) registered(ctx context.Context, cosigned, signed *checkpoint.Checkpoint) (*register.Record, error) {
	if c.cfg.Register == nil {
		return nil, nil //nolint:nilnil // it is left out
	}
	wrong := func(detail string) (*register.Record, error) {
		c.find(fsck.Finding{Kind: KindRegister, Object: "register", Detail: detail})
		return nil, nil //nolint:nilnil // there is none to go by
	}
	rec, err := c.cfg.Register.Read(ctx)
	switch {
	case errors.Is(err, register.ErrMissing):
		return wrong("there is none")
	case errors.Is(err, register.ErrCorrupt):
		return wrong(err.Error())
	case err != nil:
		return nil, fmt.Errorf("read the register: %w", err)
	case rec.Origin != c.cfg.Origin:
		return wrong("it is of another shard")
	}
	for _, s := range []*checkpoint.Checkpoint{cosigned, signed} {
		switch {
		case s == nil:
		case rec.Size < s.Size:
			return wrong(fmt.Sprintf("it is at size %d, and size %d was signed: it is damaged or was put back", rec.Size, s.Size))
		case rec.Size == s.Size && rec.Root != [32]byte(s.Root):
			return wrong(fmt.Sprintf("its root at size %d is not the one that was signed", rec.Size))
		}
	}
	return &rec, nil
}

// tailHead reads how far the tiles go.
func (c *checker) tailHead(ctx context.Context, h *heads) error {
	raw, err := c.get(ctx, tiles.HeadKey)
	if err != nil {
		return err
	}
	if raw == nil {
		if h.head.Size > 0 {
			c.find(fsck.Finding{Kind: fsck.KindMissing, Object: tiles.HeadKey, Detail: "there is no such object"})
		}
		return nil
	}
	if head, err := tiles.ParseHead(raw); err == nil && head.Size>>63 == 0 {
		h.marks = append(h.marks, &mark{
			kind: KindHead, object: tiles.HeadKey, size: head.Size, root: head.Root, claim: "the tiles' head holds",
		})
		return nil
	}
	c.find(fsck.Finding{Kind: KindHead, Object: tiles.HeadKey, Length: int64(len(raw)), Detail: "is not written as it should be"})
	return nil
}

// objects looks at each object's name, and at the beacons' content.
func (c *checker) objects(ctx context.Context, size uint64) error {
	for key, err := range c.cfg.Tiles.List(ctx, "") {
		if err != nil {
			return fmt.Errorf("list the tiles' objects: %w", err)
		}
		switch {
		case key == checkpointKey || key == candidateKey || strings.HasPrefix(key, tiles.TailPrefix):
		case strings.HasPrefix(key, beaconPrefix):
			if err := c.beacon(ctx, key); err != nil {
				return err
			}
		case strings.HasPrefix(key, tilePrefix):
			if p, err := tile.ParsePath(key); err != nil || p.Width < tile.FullWidth || !p.In(size) && !p.In(size+maxAhead) {
				c.note(fsck.Finding{Kind: KindLeftover, Object: key, Detail: "belongs to nothing that the log has signed"})
			}
		default:
			c.note(fsck.Finding{Kind: KindLeftover, Object: key, Detail: "belongs to nothing"})
		}
	}
	return nil
}

// maxAhead is how many entries tiles may be ahead of what is signed without
// being called leftovers: they are written before it is signed.
const maxAhead = 1 << 16

// beacon checks that a kept note is the one that its name says.
func (c *checker) beacon(ctx context.Context, key string) error {
	raw, err := c.get(ctx, key)
	if err != nil || raw == nil {
		return err
	}
	want, err := hex.DecodeString(strings.TrimPrefix(key, beaconPrefix))
	if err != nil || len(want) != sha256.Size {
		c.note(fsck.Finding{Kind: KindLeftover, Object: key, Detail: "is no beacon's name"})
		return nil //nolint:nilerr // that is what was noted
	}
	if got := sha256.Sum256(raw); !bytes.Equal(got[:], want) {
		f := fsck.Finding{
			Kind: KindBeacon, Object: key, Length: int64(len(raw)), Want: hex.EncodeToString(want), Got: hex.EncodeToString(got[:]),
			Detail: "its digest is not its name",
		}
		if at, ok := wrongBit(raw, [32]byte(want)); ok {
			f.Offset, f.Length, f.Exact = int64(at), 1, true
		}
		c.find(f)
		return nil
	}
	if _, err := checkpoint.Parse(raw); err != nil {
		c.find(fsck.Finding{Kind: KindBeacon, Object: key, Length: int64(len(raw)), Detail: "is no checkpoint note"})
	}
	return nil
}

// wrongBit looks for the byte with the one bit whose change gives the digest.
func wrongBit(data []byte, want [32]byte) (at int, ok bool) {
	if len(data) > 1<<16 {
		return 0, false
	}
	changed := bytes.Clone(data)
	for at = range changed {
		for bit := range 8 {
			changed[at] ^= 1 << bit
			if sha256.Sum256(changed) == want {
				return at, true
			}
			changed[at] ^= 1 << bit
		}
	}
	return 0, false
}
