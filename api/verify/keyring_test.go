package verify_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/trialog/trialog/api/internal/testlog"
	"github.com/trialog/trialog/api/receipt"
	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/api/verify"
)

// TestSuspectFrom walks over the border of what a revocation makes suspect: the
// entry before the index that it names stands, the entry at it does not,
// whether it is a statement, the enrolment that a statement rests on, a batch
// with a record of it, or what a gateway received.
func TestSuspectFrom(t *testing.T) {
	s := tell(t)
	record := func(r *receipt.Receipt) {
		r.Record = &receipt.Record{Data: s.Audit.Records[0]}
		for _, h := range testlog.Must(statement.BatchPath(s.Audit.Records, 0)) {
			r.Record.Path = append(r.Record.Path, [32]byte(h))
		}
	}
	for _, c := range []struct {
		name    string
		logged  *testlog.Logged
		change  func(*receipt.Receipt)
		revoked *testlog.Member
		border  uint64           // the entry that the revoked key made
		status  verify.KeyStatus // of the signer, if it stands
		words   string
	}{
		{"a statement", s.Early, nil, s.Stolen, s.Early.Index, verify.StatusRevoked, "its statements are suspect"},
		{"a batch", s.Audit.Logged, nil, s.Site, s.Audit.Index, verify.StatusRevoked, "its statements are suspect"},
		{"a record of a batch", s.Audit.Logged, record, s.Site, s.Audit.Index, verify.StatusRevoked, "its statements are suspect"},
		{"what a gateway received", s.Received, nil, s.Gateway, s.Received.Index, verify.StatusRevoked, "its statements are suspect"},
		{"the enrolment of the signer", s.Protocol, nil, s.Admin, s.Device.EnrolledAt, verify.StatusValid, "the enrolment of key"},
	} {
		r := s.Receipt(c.logged, s.Final)
		if c.change != nil {
			c.change(r)
		}
		raw := encode(t, r)
		for _, place := range []struct {
			origin string
			from   uint64
			stands bool
		}{
			{s.First.Origin, c.border - 1, false},
			{s.First.Origin, c.border, false},
			{s.First.Origin, c.border + 1, true},
			{s.Second.Origin, 0, true},
		} {
			ring := &verify.Keyring{Log: testlog.Log, Origin: s.Second.Origin, Size: s.Second.Size()}
			for _, m := range []*testlog.Member{s.Admin, s.Device, s.Site, s.Gateway, s.Stolen} {
				key := verify.KeyringKey{Key: m.Key.ID(), Organisation: m.Org, Origin: m.Shard.Origin, Enrolled: m.EnrolledAt}
				if m == c.revoked {
					key.Revoked, key.SuspectOrigin, key.SuspectFrom = true, place.origin, place.from
				}
				ring.Keys = append(ring.Keys, key)
			}
			v, err := verify.Verify(verify.Input{
				Policy: trusting(t, s), Receipt: raw, StatementOnly: true, Keyring: s.Keyring(ring), Now: testlog.Now(),
			})
			var f *verify.Failure
			switch {
			case place.stands && (err != nil || v.Signers[0].Status != c.status):
				t.Errorf("%s, suspect from %d of %s: %v, %+v", c.name, place.from, place.origin, err, v.Signers)
			case !place.stands && (!errors.As(err, &f) || f.Link != verify.LinkKeyStatus || !strings.Contains(f.Reason, c.words)):
				t.Errorf("%s, suspect from %d of %s: %v", c.name, place.from, place.origin, err)
			}
		}
	}
}
