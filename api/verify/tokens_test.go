package verify_test

import (
	"crypto/sha256"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/trialog/trialog/api/internal/testlog"
	"github.com/trialog/trialog/api/receipt"
	"github.com/trialog/trialog/api/timestamp/timestamptest"
	"github.com/trialog/trialog/api/verify"
)

// stamps is a receipt of the story with time-stamps on it.
type stamps struct {
	*testlog.Story
	named, second, own *timestamptest.Authority // the log's own is not in the policy
	policy             *verify.Policy
	size, at           uint64 // of the receipt's checkpoint
}

func newStamps(t *testing.T) *stamps {
	t.Helper()
	s := &stamps{
		Story: tell(t), named: timestamptest.New("authority A"), second: timestamptest.New("authority B"),
		own: timestamptest.New("the log's own"),
	}
	s.size = s.Final.Checkpoint().Size
	s.at = s.First.Time(s.size)
	s.policy = s.believing(t, "")
	return s
}

// believing is the policy that names two authorities, the first under a policy
// of its own.
func (s *stamps) believing(t *testing.T, policy string) *verify.Policy {
	t.Helper()
	side := s.Sidecar()
	side.Format = verify.TrustFormat2
	side.TimeAuthorities = []testlog.TimeAuthority{
		{Name: "A", Certificate: s.named.Root.Cert.Raw, Policy: policy},
		{Name: "B", Certificate: s.second.Unit.Cert.Raw},
	}
	p, err := verify.ParsePolicy(s.PolicyText(), side.Encode())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// stamp is an authority's token on the note's text, so many seconds after the
// log's time.
func (s *stamps) stamp(a *timestamptest.Authority, after time.Duration, changes ...func(*timestamptest.Draft)) []byte {
	digest := sha256.Sum256(s.Final.Text())
	at := time.Unix(int64(s.at), 0).UTC().Add(after)
	return a.Stamp(digest, at, append([]func(*timestamptest.Draft){func(d *timestamptest.Draft) {}}, changes...)...)
}

// input is the receipt of Plain with these cosignatures and tokens.
func (s *stamps) input(t *testing.T, l *testlog.Logged, cosign []testlog.Cosign, tokens ...[]byte) verify.Input {
	t.Helper()
	r := s.Receipt(l, s.First.Note(s.size, cosign...))
	r.Tokens = tokens
	return verify.Input{Receipt: encode(t, r), Policy: s.policy, Document: s.Pdf, Now: testlog.Now()}
}

const (
	year  = 365 * 24 * time.Hour
	years = uint64(year / time.Second)
)

// TestTokens: a token of a named authority narrows the upper bound, and nothing
// else does.
func TestTokens(t *testing.T) {
	s := newStamps(t)
	broken := func(d *timestamptest.Draft) { d.ChangeSignature = func(b []byte) []byte { b[len(b)-1] ^= 1; return b } }
	other := func(d *timestamptest.Draft) {
		digest := sha256.Sum256([]byte("another checkpoint"))
		d.Imprint = timestamptest.Sequence(timestamptest.Algorithm(timestamptest.SHA256, nil), timestamptest.Octets(digest[:]))
	}
	silent := func(d *timestamptest.Draft) { d.Accuracy = nil }
	// The first witness at once, the quorum's second one after a day.
	slow := s.CosignAt(s.at+1, s.at+86400, 0)
	prompt := s.Cosign(s.at)
	for _, c := range []struct {
		name    string
		cosign  []testlog.Cosign
		tokens  [][]byte
		after   uint64 // seconds from at to the bound
		status  []verify.StampStatus
		caveats string
		fails   string
	}{
		{name: "none", cosign: slow, after: 86400},
		{
			name: "narrows", cosign: slow, tokens: [][]byte{s.stamp(s.named, time.Minute)}, after: 61,
			status: []verify.StampStatus{verify.StampNarrows}, caveats: "rests on the time-stamp of A",
		},
		{
			name: "the earlier of two narrows", cosign: slow,
			tokens: [][]byte{s.stamp(s.named, time.Hour), s.stamp(s.second, time.Minute), s.stamp(s.named, 2*time.Hour)}, after: 61,
			status:  []verify.StampStatus{verify.StampVerified, verify.StampNarrows, verify.StampVerified},
			caveats: "rests on the time-stamp of B",
		},
		{
			name: "later than the cosignatures", cosign: prompt, tokens: [][]byte{s.stamp(s.named, time.Minute)}, after: 2,
			status: []verify.StampStatus{verify.StampVerified},
		},
		{
			name: "a second earlier than the cosignatures", cosign: prompt, tokens: [][]byte{s.stamp(s.named, 0)}, after: 1,
			status: []verify.StampStatus{verify.StampNarrows},
		},
		{
			name: "states no accuracy", cosign: slow, tokens: [][]byte{s.stamp(s.named, time.Minute, silent)}, after: 360,
			status: []verify.StampStatus{verify.StampNarrows},
		},
		{
			name: "of an authority that is not named", cosign: slow, tokens: [][]byte{s.stamp(s.own, time.Minute)}, after: 86400,
			status: []verify.StampStatus{verify.StampNotEvaluated}, caveats: "1 of 1 time-stamp tokens were not evaluated",
		},
		{
			name: "broken, of an authority that is not named", cosign: slow, tokens: [][]byte{s.stamp(s.own, time.Minute, broken)}, after: 86400,
			status: []verify.StampStatus{verify.StampNotEvaluated}, caveats: "1 of 1 time-stamp tokens were not evaluated",
		},
		{
			name: "not a token, beside a good one", cosign: slow, tokens: [][]byte{[]byte("not a token"), s.stamp(s.named, time.Minute)}, after: 61,
			status: []verify.StampStatus{verify.StampNotEvaluated, verify.StampNarrows}, caveats: "1 of 2 time-stamp tokens were not evaluated",
		},
		{name: "signature altered", cosign: slow, tokens: [][]byte{s.stamp(s.named, time.Minute, broken)}, fails: "names itself as one of A"},
		{name: "on another checkpoint", cosign: slow, tokens: [][]byte{s.stamp(s.second, time.Minute, other)}, fails: "names itself as one of B"},
		{
			name: "altered, behind a good one", cosign: slow,
			tokens: [][]byte{s.stamp(s.named, time.Minute), s.stamp(s.named, time.Minute, broken)}, fails: "time-stamp token 2",
		},
		{name: "cosignatures that state no time", cosign: untimed(s), tokens: [][]byte{s.stamp(s.named, time.Minute)}, fails: "state no time"},
	} {
		t.Run(c.name, func(t *testing.T) {
			in := s.input(t, s.NoBeacon, c.cosign, c.tokens...)
			v, err := verify.Verify(in)
			if c.fails != "" {
				failsAt(t, in, verify.LinkTime, c.fails)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := v.NotAfter.Time.Unix() - int64(s.at); got != int64(c.after) {
				t.Errorf("the bound is %d s after the log's time, want %d", got, c.after)
			}
			if said := strings.Join(v.Caveats, "\n"); !strings.Contains(said, c.caveats) {
				t.Errorf("caveats %q, want %q", v.Caveats, c.caveats)
			}
			if len(v.TimeStamps) != len(c.status) {
				t.Fatalf("%d time-stamps, want %d", len(v.TimeStamps), len(c.status))
			}
			for i, want := range c.status {
				got := v.TimeStamps[i]
				if got.Status != want || (got.Reason != "") != (want == verify.StampNotEvaluated) ||
					(want == verify.StampNotEvaluated) != (got.Authority == "") {
					t.Errorf("time-stamp %d: %+v, want %s", i, got, want)
				}
			}
			// Each bound is shown alone.
			if (v.CosignedNotAfter != nil) != (c.tokens != nil) ||
				c.tokens != nil && v.CosignedNotAfter.Time.Unix() != latest(c.cosign, 2) {
				t.Errorf("by the cosignatures alone: %+v", v.CosignedNotAfter)
			}
			if _, err := json.Marshal(v); err != nil {
				t.Error(err)
			}
		})
	}
}

// latest is the time of the n-th cosignature: that of the quorum.
func latest(cosign []testlog.Cosign, n int) int64 { return int64(cosign[n-1].Time) }

func untimed(s *stamps) []testlog.Cosign {
	var list []testlog.Cosign
	for _, op := range s.Operators {
		list = append(list, testlog.Cosign{Key: op.Keys[1]})
	}
	return list
}

// TestTokenPolicy: a policy may believe an authority under one of its policies.
func TestTokenPolicy(t *testing.T) {
	s := newStamps(t)
	slow := s.CosignAt(s.at+1, s.at+86400, 0)
	for _, c := range []struct {
		policy string
		status verify.StampStatus
	}{{timestamptest.Policy, verify.StampNarrows}, {timestamptest.Policy + ".2", verify.StampNotEvaluated}} {
		in := s.input(t, s.Plain, slow, s.stamp(s.named, time.Minute))
		in.Policy = s.believing(t, c.policy)
		if got := in.Policy.Trust().TimeAuthorities[0].Policy; got.String() != c.policy || in.Policy.Trust().TimeAuthorities[1].Policy != nil {
			t.Errorf("policy %v", got)
		}
		v, err := verify.Verify(in)
		if err != nil || v.TimeStamps[0].Status != c.status || v.TimeStamps[0].Authority != "A" {
			t.Errorf("%s: %v, %+v", c.policy, err, v.TimeStamps)
		}
	}
}

// TestLyingClocks: what clocks that run behind or ahead can do to the bounds.
func TestLyingClocks(t *testing.T) {
	s := newStamps(t)
	at := s.at
	honest := verdictOf(t, s.input(t, s.Plain, s.CosignAt(at+1, at+2, at+3)))
	for _, c := range []struct {
		name    string
		logged  *testlog.Logged
		cosign  []testlog.Cosign
		tokens  [][]byte
		after   int64 // seconds from at to the bound
		status  verify.StampStatus
		caveats []string
		none    bool // no caveat besides that of the honest receipt
	}{
		{
			name: "one witness and the log's own authority a year behind", cosign: s.CosignAt(at+1, at+2, at-years),
			tokens: [][]byte{s.stamp(s.own, -year)}, after: 1, status: verify.StampNotEvaluated,
		},
		{name: "one witness a year behind", cosign: s.CosignAt(at+1, at+2, at-years), after: 1, none: true},
		{
			name: "a named authority a year behind", cosign: s.Cosign(at),
			tokens: [][]byte{s.stamp(s.named, -year)}, after: 2, status: verify.StampContradicted,
			caveats: []string{"a time-stamp of A does not count", "the first of the witnesses cosigned at"},
		},
		{
			name: "a named authority a year behind, beside cosignatures that state no time", logged: s.NoBeacon,
			cosign: append(s.Cosign(at), untimed(s)...), tokens: [][]byte{s.stamp(s.named, -year)}, after: 2,
			status: verify.StampContradicted, caveats: []string{"the first of the witnesses cosigned at"},
		},
		{
			name: "a named authority six minutes behind", cosign: s.Cosign(at),
			tokens: [][]byte{s.stamp(s.named, -6*time.Minute)}, after: 2, status: verify.StampContradicted,
		},
		{
			name: "a named authority four minutes behind", cosign: s.Cosign(at),
			tokens: [][]byte{s.stamp(s.named, -4*time.Minute)}, after: -239, status: verify.StampNarrows,
		},
		{
			name: "a named authority and one witness a year behind", cosign: s.CosignAt(at+1, at+2, at-years),
			tokens: [][]byte{s.stamp(s.named, -year)}, after: 1, status: verify.StampContradicted,
			caveats: []string{"a time-stamp of A does not count", "before the beacon"},
		},
		{
			name: "a named authority and one witness a year behind, no beacon", logged: s.NoBeacon, cosign: s.CosignAt(at+1, at+2, at-years),
			tokens: [][]byte{s.stamp(s.named, -year)}, after: 1 - int64(years), status: verify.StampNarrows,
			caveats: []string{"rests on the time-stamp of A: by the cosignatures alone it is"},
		},
		{
			name: "two operators a year behind, no beacon", logged: s.NoBeacon, cosign: s.CosignAt(at+1, at-years, at-years+2), after: 2 - int64(years),
			caveats: []string{"differ by more than 5m0s: the upper bound", "rests on regulator-1, university-1, and differs from ethics-1 ("},
		},
		{
			name: "one witness a year ahead", cosign: s.CosignAt(at+1, at+2, at+years), after: 2,
			caveats: []string{"rests on ethics-1, regulator-1, and differs from university-1 ("},
		},
		{
			name: "a named authority ahead of the witnesses", cosign: s.Cosign(at), tokens: [][]byte{s.stamp(s.named, time.Hour)},
			after: 2, status: verify.StampVerified,
		},
		{
			name: "a named authority a year ahead", cosign: s.Cosign(at), tokens: [][]byte{s.stamp(s.named, year)},
			after: 2, status: verify.StampContradicted, caveats: []string{"after this machine's time"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := s.Plain
			if c.logged != nil {
				l = c.logged
			}
			v := verdictOf(t, s.input(t, l, c.cosign, c.tokens...))
			if got := v.NotAfter.Time.Unix() - int64(at); got != c.after {
				t.Errorf("the bound is %d s after the log's time, want %d", got, c.after)
			}
			if c.status != "" && v.TimeStamps[0].Status != c.status {
				t.Errorf("the time-stamp: %+v, want %s", v.TimeStamps[0], c.status)
			}
			said := strings.Join(v.Caveats, "\n")
			for _, want := range c.caveats {
				if !strings.Contains(said, want) {
					t.Errorf("caveats %q, want %q", v.Caveats, want)
				}
			}
			if c.none && said != strings.Join(honest.Caveats, "\n") {
				t.Errorf("caveats %q, want %q", v.Caveats, honest.Caveats)
			}
			if v.Inclusion.OperatorsSeen != 3 || l == s.Plain && !v.NotBefore.Time.Equal(honest.NotBefore.Time) {
				t.Errorf("verdict %+v", v)
			}
		})
	}
	// Two operators behind, and a beacon: the bounds cross.
	failsAt(t, s.input(t, s.Plain, s.CosignAt(at+1, at-years, at-years+2)), verify.LinkTime, "the beacon is dated")
}

// TestBeaconClocks: the same for the lower bound.
func TestBeaconClocks(t *testing.T) {
	s := newStamps(t)
	for _, c := range []struct {
		name     string
		of       func(at uint64) []testlog.Cosign
		after    int64
		caveat   string
		verified bool
	}{
		{"agree", func(at uint64) []testlog.Cosign { return s.Cosign(at) }, 2, "", true},
		{"one a year behind", func(at uint64) []testlog.Cosign { return s.CosignAt(at-years, at+2, at+3) }, 2, "differs from ethics-1 (", true},
		{"one a year ahead", func(at uint64) []testlog.Cosign { return s.CosignAt(at+1, at+2, at+years) }, 2, "", true},
		{"two an hour ahead", func(at uint64) []testlog.Cosign { return s.CosignAt(at, at+3600, at+3601) }, 3600, "rests on regulator-1, university-1, and differs", false},
	} {
		size := s.First.Size()
		at := s.First.Time(size)
		var in verify.Input
		if err := testlog.Do(func() {
			l := s.Say(testlog.Document("protocol", s.Pdf), []*testlog.Member{s.Device}, testlog.WithBeacon(s.First.Note(size, c.of(at)...)))
			in = verify.Input{
				Receipt: encode(t, s.Receipt(l, s.Note(s.First, s.First.Size()))), Policy: s.policy, Document: s.Pdf, Now: testlog.Now(),
			}
		}); err != nil {
			t.Fatal(err)
		}
		v, err := verify.Verify(in)
		if c.verified != (err == nil) {
			t.Errorf("%s: %v", c.name, err)
		}
		if got := v.NotBefore.Time.Unix() - int64(at); got != c.after {
			t.Errorf("%s: the bound is %d s after the log's time, want %d", c.name, got, c.after)
		}
		said := strings.Join(v.Caveats, "\n")
		if strings.Contains(said, "the lower bound") != (c.caveat != "") || !strings.Contains(said, c.caveat) {
			t.Errorf("%s: caveats %q, want %q", c.name, v.Caveats, c.caveat)
		}
	}
}

// TestTokenCrosses: whose clocks disagree when a time-stamp makes the bounds cross.
func TestTokenCrosses(t *testing.T) {
	s := newStamps(t)
	var r *receipt.Receipt
	size := s.First.Size()
	before := time.Unix(int64(s.First.Time(size)), 0).UTC()
	if err := testlog.Do(func() {
		l := s.Say(testlog.Document("protocol", s.Pdf), []*testlog.Member{s.Device}, testlog.WithBeacon(s.First.Note(size, s.Cosign(s.First.Time(size))...)))
		// One witness is behind, so that the time-stamp does not contradict them.
		later := s.First.Time(s.First.Size())
		r = s.Receipt(l, s.First.Note(s.First.Size(), s.CosignAt(later+1, later+2, s.First.Time(size))...))
	}); err != nil {
		t.Fatal(err)
	}
	r.Tokens = [][]byte{s.named.Stamp(sha256.Sum256(r.Proof.Note.Text()), before.Add(-2*time.Minute))}
	v := verdictOf(t, verify.Input{Receipt: encode(t, r), Policy: s.policy, Document: s.Pdf, Now: testlog.Now()})
	if said := strings.Join(v.Caveats, "\n"); !strings.Contains(said, "the clocks of A and of the beacon's witnesses disagree: the bounds cross by 2m1s") {
		t.Errorf("caveats %q", v.Caveats)
	}
}

// TestFlippedToken: a token of a named authority with any of its bits changed
// fails the link, or cannot be read and moves nothing.
func TestFlippedToken(t *testing.T) {
	s := newStamps(t)
	slow := s.CosignAt(s.at+1, s.at+86400, 0)
	good := s.stamp(s.named, time.Minute)
	step := 3
	if testing.Short() {
		step = 31
	}
	s.policy = s.policy.Remembering() // the notes are not what is flipped
	failed, unread := 0, 0
	for i := 0; i < len(good); i += step {
		v, err := verify.Verify(s.input(t, s.NoBeacon, slow, flip(good, i, 1<<(i%8))))
		switch {
		case err != nil:
			failed++
			if v.Failure.Link != verify.LinkTime {
				t.Errorf("byte %d: %v", i, err)
			}
		case v.TimeStamps[0].Status == verify.StampNotEvaluated && v.NotAfter == v.CosignedNotAfter:
			unread++
		default:
			t.Errorf("byte %d of %x makes no difference: %+v", i, around(good, i), v.TimeStamps[0])
		}
	}
	if failed == 0 || unread == 0 {
		t.Errorf("%d fail, %d are not read: the flips are too one-sided", failed, unread)
	}
}

func verdictOf(t *testing.T, in verify.Input) *verify.Verdict {
	t.Helper()
	v, err := verify.Verify(in)
	if err != nil {
		t.Fatal(err)
	}
	return v
}
