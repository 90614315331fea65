package client

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/entry"
)

// maxNote bounds a checkpoint note, in bytes.
const maxNote = 1 << 20

// Checkpoint fetches the published checkpoint and verifies it: by the policy, and
// that it does not contradict the largest one that this client has met. If the
// larger tree's tiles cannot be read, the policy's witnesses alone vouch for that.
func (c *Client) Checkpoint(ctx context.Context) (*checkpoint.Cosigned, *checkpoint.Note, error) {
	if c.policy == nil {
		return nil, nil, ErrNoPolicy
	}
	return c.checkpoint(ctx, "/checkpoint")
}

// checkpoint is Checkpoint at a path.
func (c *Client) checkpoint(ctx context.Context, path string) (*checkpoint.Cosigned, *checkpoint.Note, error) {
	got, err := c.call(ctx, request{method: http.MethodGet, path: path, limit: maxNote})
	if err != nil {
		return nil, nil, err
	}
	cosigned, err := c.policy.CheckNote(got.body)
	if err != nil {
		return nil, nil, &UntrueError{What: "checkpoint", Answer: got.body, Err: err}
	}
	note, err := checkpoint.Parse(got.body)
	if err != nil {
		return nil, nil, &UntrueError{What: "checkpoint", Answer: got.body, Err: err}
	}
	if err := c.meet(ctx, note); err != nil {
		return nil, nil, err
	}
	return cosigned, note, nil
}

// RangeError says that the log has no such entry yet.
type RangeError struct{ Index, Size uint64 }

// Error implements error.
func (e *RangeError) Error() string {
	return fmt.Sprintf("there is no entry %d: the log has %d", e.Index, e.Size)
}

// Included is an entry that was verified to be in the tree of a checkpoint.
type Included struct {
	Index uint64
	Raw   []byte // as it is in the log; see package entry
	Under *checkpoint.Cosigned
}

// Entry fetches the entry at index and verifies its inclusion in the published
// checkpoint.
func (c *Client) Entry(ctx context.Context, index uint64) (*Included, error) {
	cosigned, _, err := c.Checkpoint(ctx)
	if err != nil {
		return nil, err
	}
	if index >= cosigned.Size {
		return nil, &RangeError{Index: index, Size: cosigned.Size}
	}
	var got struct {
		Entry []byte `json:"entry"`
	}
	at := strconv.FormatUint(index, 10)
	if err := c.json(ctx, "/v1/entries/"+at, nil, &got); err != nil {
		return nil, err
	}
	var inclusion struct {
		Hashes [][]byte `json:"hashes"`
	}
	query := url.Values{"index": {at}, "size": {strconv.FormatUint(cosigned.Size, 10)}}
	if err := c.json(ctx, "/v1/proofs/inclusion", query, &inclusion); err != nil {
		return nil, err
	}
	leaf := entry.LeafHash(got.Entry)
	if err := proof.VerifyInclusion(
		rfc6962.DefaultHasher, index, cosigned.Size, leaf[:], inclusion.Hashes, cosigned.Root[:],
	); err != nil {
		return nil, &UntrueError{What: "entry", Answer: got.Entry, Err: err}
	}
	return &Included{Index: index, Raw: got.Entry, Under: cosigned}, nil
}

// json fetches an answer that is no message of the .proto files.
func (c *Client) json(ctx context.Context, path string, query url.Values, into any) error {
	got, err := c.call(ctx, request{method: http.MethodGet, path: path, query: query, limit: maxAnswer})
	if err != nil {
		return err
	}
	if err := json.NewDecoder(bytes.NewReader(got.body)).Decode(into); err != nil {
		return untrue("answer", got.body, "expected JSON")
	}
	return nil
}
