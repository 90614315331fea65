package verify

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/trialog/trialog/api/internal/strictjson"
	"github.com/trialog/trialog/api/statement"
)

// KeyringFormat is the value of the member format of a keyring snapshot.
const KeyringFormat = "trialog-keyring@v1"

// KeyringPayloadType is the DSSE payload type of a keyring snapshot.
const KeyringPayloadType = "application/vnd.trialog.keyring.v1+json"

// maxKeyring bounds a keyring snapshot, in bytes.
const maxKeyring = 64 << 20

// Keyring is the state of all keys of a log at one checkpoint, as an auditor
// found it by reading every entry up to there.
type Keyring struct {
	Log    string
	Origin string // of the newest shard that was read
	Size   uint64 // how far it was read
	Keys   []KeyringKey
}

// KeyringKey is one key of a keyring.
type KeyringKey struct {
	Key          statement.KeyID
	Organisation string
	Origin       string // of the shard that holds the enrolment
	Enrolled     uint64 // index of the enrolment
	Revoked      bool
	// SuspectOrigin and SuspectFrom name the first entry that is suspect.
	SuspectOrigin string
	SuspectFrom   uint64
}

// Encode writes the snapshot's payload.
func (k *Keyring) Encode() []byte {
	var b strings.Builder
	fmt.Fprintf(&b, `{"format":%q,"log":%q,"origin":%q,"size":%d,"keys":[`, KeyringFormat, k.Log, k.Origin, k.Size)
	for i, key := range k.Keys {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"key":%q,"organisation":%q,"origin":%q,"enrolled":%d`, key.Key, key.Organisation, key.Origin, key.Enrolled)
		if key.Revoked {
			fmt.Fprintf(&b, `,"suspectOrigin":%q,"suspectFrom":%d`, key.SuspectOrigin, key.SuspectFrom)
		}
		b.WriteByte('}')
	}
	b.WriteString("]}")
	return []byte(b.String())
}

// ParseKeyring reads a signed snapshot; one of auditors must have signed it.
func ParseKeyring(raw []byte, auditors []*statement.PublicKey) (*Keyring, error) {
	payload, sigs, err := statement.ParseDSSE(raw, KeyringPayloadType, maxKeyring)
	if err != nil {
		return nil, err
	}
	message := statement.PAE(KeyringPayloadType, payload)
	if !slices.ContainsFunc(auditors, func(a *statement.PublicKey) bool {
		return len(sigs) == 1 && a.Verify(message, sigs[0].Sig) == nil
	}) {
		return nil, errors.New("not signed by an auditor that the policy names")
	}
	o, err := strictjson.ParseObject(payload)
	if err != nil {
		return nil, err
	}
	if got := o.Text("format"); got != KeyringFormat {
		o.Fail("format", "expected %q", KeyringFormat)
	}
	k := &Keyring{Log: o.Text("log"), Origin: o.Text("origin"), Size: o.Unsigned("size")}
	seen := map[statement.KeyID]bool{}
	for i, item := range o.Required("keys", strictjson.Array).Items {
		q := strictjson.NewObject(fmt.Sprintf("keys[%d]", i), item)
		id, err := statement.ParseDigest(q.Text("key"))
		if err != nil {
			q.Fail("key", "%s", err)
		} else if seen[id] {
			// Which of two rows counts would be the reader's choice.
			q.Fail("key", "is there twice")
		}
		seen[id] = true
		key := KeyringKey{Key: id, Organisation: q.Text("organisation"), Origin: q.Text("origin"), Enrolled: q.Unsigned("enrolled")}
		if key.SuspectOrigin = q.OptionalText("suspectOrigin"); key.SuspectOrigin != "" {
			key.Revoked, key.SuspectFrom = true, q.Unsigned("suspectFrom")
		}
		o.Join(q)
		k.Keys = append(k.Keys, key)
	}
	return k, o.Done()
}

// checkKeyStatus looks the signers up in the keyring.
func (c *checker) checkKeyStatus() *Failure {
	if c.in.Keyring == nil {
		return nil
	}
	ring, err := ParseKeyring(c.in.Keyring, c.policy.trust.Auditors)
	if err != nil {
		return fail(LinkKeyStatus, "the keyring: %w", err)
	}
	if ring.Log != c.policy.trust.Log || c.policy.shard(ring.Origin) < 0 {
		return fail(LinkKeyStatus, "the keyring is of another log, %q", ring.Log)
	}
	keys := make(map[statement.KeyID]KeyringKey, len(ring.Keys))
	for _, k := range ring.Keys {
		keys[k.Key] = k
	}
	for i := range c.verdict.Signers {
		s := &c.verdict.Signers[i]
		var f *Failure
		if s.Status, f = c.status(ring, keys, c.enrolled[s.Key], c.cosigned.Origin, c.receipt.Proof.Index); f != nil {
			return f
		}
	}
	return nil
}

// status tells what the keyring says of the key of e when it signed the entry
// at index of shard origin. It fails if the keyring does not hold the
// enrolment, or if the key, or everybody who entitled it, was suspect.
func (c *checker) status(
	ring *Keyring, keys map[statement.KeyID]KeyringKey, e *enrolment, origin string, index uint64,
) (KeyStatus, *Failure) {
	place := e
	if e.named != nil {
		place = e.named
	}
	key, ok := keys[place.key.ID()]
	if !ok && !c.before(place.origin, place.index, ring.Origin, ring.Size) {
		return StatusUnknown, nil // the snapshot ends before the enrolment
	}
	if !ok || key.Organisation != place.org || key.Origin != place.origin || key.Enrolled != place.index {
		return StatusUnknown, fail(LinkKeyStatus, "the auditor's keyring does not hold the enrolment of key %s at index %d for %q",
			place.key.ID(), place.index, place.org)
	}
	if e.named != nil {
		// A recovery key is not revoked, even if the key is that was enrolled
		// together with it.
		return StatusValid, nil
	}
	status := StatusValid
	if key.Revoked {
		if !c.before(origin, index, key.SuspectOrigin, key.SuspectFrom) {
			return StatusSuspect, fail(LinkKeyStatus, "key %s is revoked, its statements are suspect from index %d of %s on",
				key.Key, key.SuspectFrom, key.SuspectOrigin)
		}
		status = StatusRevoked
	} else if !c.before(origin, index, ring.Origin, ring.Size) {
		status = StatusUnknown // the snapshot ends before the statement
	}
	return status, c.entitled(ring, keys, e)
}

// entitled fails if everybody who entitled an enrolment was suspect when it was
// logged: what a stolen admin's key enrols is worth no more than that key.
func (c *checker) entitled(ring *Keyring, keys map[statement.KeyID]KeyringKey, e *enrolment) *Failure {
	var last *Failure
	for _, a := range e.authorities {
		by := a.by
		if a.recovery {
			by = &enrolment{key: by.recovery, named: by}
		}
		_, f := c.status(ring, keys, by, e.origin, e.index)
		if f == nil {
			return nil
		}
		last = fail(LinkKeyStatus, "the enrolment of key %s: %w", e.key.ID(), f)
	}
	return last
}

// before tells whether index of shard origin comes before the other place.
func (c *checker) before(origin string, index uint64, otherOrigin string, other uint64) bool {
	a, b := c.policy.shard(origin), c.policy.shard(otherOrigin)
	return a < b || a == b && index < other
}
