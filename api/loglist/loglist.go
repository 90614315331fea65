// Package loglist is the signed list of a log's shards, oldest first: which
// shards there are, with which keys, where their tiles are served, which one is
// open, how the closed ones ended, and which ones are announced. Witnesses,
// gateways and auditors follow it to learn of a shard before it opens.
//
// The list is trusted for announcing, never for verifying: what a receipt is
// worth follows from the verifier's own policy. Follows says what a newer list
// may change, so that whoever keeps the last list that he saw notices one that
// rewrites history.
package loglist

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/statement"
)

// PayloadType is the DSSE payload type of a log list.
const PayloadType = "application/vnd.trialog.loglist.v1+json"

// Format is the value of the member format of a log list.
const Format = "trialog-loglist@v1"

// Limits of a list.
const (
	MaxSize   = 1 << 20 // bytes of the envelope
	MaxShards = 128
)

// Notice is the least time between the announcement of a shard and its opening,
// unless that is forced.
const Notice = 30 * 24 * time.Hour

// State is what a shard is doing.
type State string

// The states, in the order in which a shard goes through them.
const (
	// Announced: it has no entry yet.
	Announced State = "announced"
	// Active: it takes statements in. At most one shard of a log does.
	Active State = "active"
	// Ended: its last entry is a shard-end, and Final its last checkpoint.
	Ended State = "ended"
)

// rank orders the states; 0 is none.
func (s State) rank() int {
	switch s {
	case Announced:
		return 1
	case Active:
		return 2
	case Ended:
		return 3
	}
	return 0
}

// Final is the last checkpoint of a shard that has ended.
type Final struct {
	Size uint64
	Root checkpoint.Hash
	// Note is the SHA-256 of the last published note, which the successor's
	// shard-start names.
	Note statement.Digest
}

// Shard is one shard of the log. The shard before it in the list is its
// predecessor.
type Shard struct {
	Origin string
	// Keys sign the shard's checkpoints, both named Origin: Ed25519 (0x01) first,
	// then ML-DSA-44 (0x06).
	Keys []*checkpoint.VerifierKey
	// URL is where the tiles are served (C2SP tlog-tiles), without a trailing
	// slash; empty if nowhere yet.
	URL   string
	State State
	// Announced is when a list named the shard first, Opens when it opens at the
	// earliest, or has opened. Both in ms.
	Announced, Opens time.Time
	// Forced tells that the shard opens without the usual notice.
	Forced bool
	Final  *Final // exactly with Ended
}

// List is a log list.
type List struct {
	Log     string
	Version uint64 // increases with every list
	Issued  time.Time
	Shards  []Shard // oldest first
}

// Shard returns the shard with this origin; nil if there is none.
func (l *List) Shard(origin string) *Shard {
	for i := range l.Shards {
		if l.Shards[i].Origin == origin {
			return &l.Shards[i]
		}
	}
	return nil
}

// Active returns the shard that takes statements in; nil between the end of one
// and the opening of the next.
func (l *List) Active() *Shard {
	for i := range l.Shards {
		if l.Shards[i].State == Active {
			return &l.Shards[i]
		}
	}
	return nil
}

type listFile struct {
	Format  string      `json:"format"`
	Log     string      `json:"log"`
	Version uint64      `json:"version"`
	Issued  int64       `json:"issuedMillis"`
	Shards  []shardFile `json:"shards"`
}

type shardFile struct {
	Origin    string     `json:"origin"`
	Keys      []string   `json:"keys"`
	URL       string     `json:"url,omitempty"`
	State     State      `json:"state"`
	Announced int64      `json:"announcedMillis"`
	Opens     int64      `json:"opensMillis"`
	Forced    bool       `json:"forced,omitempty"`
	Final     *finalFile `json:"final,omitempty"`
}

type finalFile struct {
	Size uint64           `json:"size"`
	Root string           `json:"root"` // base64, as in a checkpoint
	Note statement.Digest `json:"note"`
}

// Encode checks the list and writes its payload.
func (l *List) Encode() ([]byte, error) {
	file := listFile{Format: Format, Log: l.Log, Version: l.Version, Issued: l.Issued.UnixMilli()}
	for i := range l.Shards {
		s := &l.Shards[i]
		out := shardFile{
			Origin: s.Origin, URL: s.URL, State: s.State, Announced: s.Announced.UnixMilli(), Opens: s.Opens.UnixMilli(), Forced: s.Forced,
		}
		for _, k := range s.Keys {
			out.Keys = append(out.Keys, k.String())
		}
		if f := s.Final; f != nil {
			out.Final = &finalFile{Size: f.Size, Root: base64.StdEncoding.EncodeToString(f.Root[:]), Note: f.Note}
		}
		file.Shards = append(file.Shards, out)
	}
	payload, err := json.Marshal(file)
	if err != nil {
		return nil, fmt.Errorf("encode a log list: %w", err)
	}
	if _, err := Decode(payload); err != nil {
		return nil, err
	}
	return payload, nil
}

// Sign writes the list as a DSSE envelope signed by key, which serves for nothing
// else.
func (l *List) Sign(key *statement.PrivateKey) ([]byte, error) {
	payload, err := l.Encode()
	if err != nil {
		return nil, err
	}
	return statement.SignDSSE(PayloadType, payload, key)
}

// Parse reads a signed list and checks that one of keys signed it.
func Parse(raw []byte, keys ...*statement.PublicKey) (*List, error) {
	payload, sigs, err := statement.ParseDSSE(raw, PayloadType, MaxSize)
	if err != nil {
		return nil, fmt.Errorf("log list: %w", err)
	}
	message := statement.PAE(PayloadType, payload)
	signed := false
	for _, key := range keys {
		signed = signed || len(sigs) == 1 && key.Verify(message, sigs[0].Sig) == nil
	}
	if !signed {
		return nil, errors.New("log list: not signed by a key that is known to sign lists of this log")
	}
	return Decode(payload)
}
