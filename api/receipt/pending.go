package receipt

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/trialog/trialog/api/internal/strictjson"
	"github.com/trialog/trialog/api/statement"
)

// PendingPayloadType is the DSSE payload type of a pending record.
const PendingPayloadType = "application/vnd.trialog.pending.v1+json"

// PendingFormat is the value of the member format of a pending record.
const PendingFormat = "trialog-pending@v1"

// Pending is the log's signed promise: this leaf is durable at this index, and a
// checkpoint signed by the log will include it by the deadline. Another leaf at
// the index, or no such checkpoint, is evidence against the log. It is never a
// receipt.
type Pending struct {
	Log      string
	Origin   string
	Identity statement.Identity
	Index    uint64
	LeafHash statement.Digest
	Received time.Time // ms; the log's clock
	Deadline time.Time // ms; the log's clock
}

type pendingFile struct {
	Format   string             `json:"format"`
	Log      string             `json:"log"`
	Origin   string             `json:"origin"`
	Identity statement.Identity `json:"identity"`
	Index    uint64             `json:"index"`
	LeafHash statement.Digest   `json:"leafHash"`
	Received int64              `json:"receivedMillis"`
	Deadline int64              `json:"deadlineMillis"`
}

// Sign writes the promise as a DSSE envelope signed by key, which serves for
// nothing else.
func (p *Pending) Sign(key *statement.PrivateKey) ([]byte, error) {
	payload, err := json.Marshal(pendingFile{
		Format: PendingFormat, Log: p.Log, Origin: p.Origin, Identity: p.Identity, Index: p.Index, LeafHash: p.LeafHash,
		Received: p.Received.UnixMilli(), Deadline: p.Deadline.UnixMilli(),
	})
	if err != nil {
		return nil, fmt.Errorf("encode a pending record: %w", err)
	}
	return statement.SignDSSE(PendingPayloadType, payload, key)
}

// ParsePending reads a pending record and checks that one of keys signed it.
func ParsePending(raw []byte, keys ...*statement.PublicKey) (*Pending, error) {
	payload, sigs, err := statement.ParseDSSE(raw, PendingPayloadType, statement.MaxEnvelope)
	if err != nil {
		return nil, fmt.Errorf("pending record: %w", err)
	}
	message := statement.PAE(PendingPayloadType, payload)
	signed := false
	for _, key := range keys {
		signed = signed || len(sigs) == 1 && key.Verify(message, sigs[0].Sig) == nil
	}
	if !signed {
		return nil, errors.New("pending record: not signed by a key that the policy names")
	}
	o, err := strictjson.ParseObject(payload)
	if err != nil {
		return nil, fmt.Errorf("pending record: %w", err)
	}
	if got := o.Text("format"); got != PendingFormat {
		o.Fail("format", "expected %q", PendingFormat)
	}
	digest := func(name string) statement.Digest {
		d, err := statement.ParseDigest(o.Text(name))
		if err != nil {
			o.Fail(name, "expected 64 lower-case hexadecimal digits")
		}
		return d
	}
	millis := func(name string) time.Time {
		return time.UnixMilli(int64(o.Unsigned(name))).UTC() //nolint:gosec // at most 2^53-1
	}
	p := &Pending{
		Log: o.Text("log"), Origin: o.Text("origin"), Identity: digest("identity"), Index: o.Unsigned("index"),
		LeafHash: digest("leafHash"), Received: millis("receivedMillis"), Deadline: millis("deadlineMillis"),
	}
	if statement.CheckLog("origin", p.Origin) != nil || !statement.IsShardOf(p.Origin, p.Log) {
		o.Fail("origin", "expected a shard of %s", p.Log)
	}
	if p.Deadline.Before(p.Received) || p.Deadline.Year() > 9999 {
		o.Fail("deadlineMillis", "expected a time from receivedMillis to the end of the year 9999")
	}
	if err := o.Done(); err != nil {
		return nil, fmt.Errorf("pending record: %w", err)
	}
	return p, nil
}
