package main

import (
	"errors"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/trialog/trialog/api/client"
	"github.com/trialog/trialog/api/receipt"
	"github.com/trialog/trialog/api/statement"
)

func TestParseRate(t *testing.T) {
	for text, want := range map[string]float64{"500/s": 500, "500": 500, "30000/min": 500, "3600/h": 1} {
		if got, err := parseRate(text); err != nil || math.Abs(got-want) > 1e-9 {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "0/s", "-1/s", "1.5/s", "x/s", "1/d", "1/", "99999999/s", " 1/s"} {
		if got, err := parseRate(text); err == nil {
			t.Errorf("%q: %v", text, got)
		}
	}
}

func TestMix(t *testing.T) {
	shares, err := parseMix("valid=90,duplicate=5,invalid=5")
	if err != nil {
		t.Fatal(err)
	}
	p := &plan{shares: shares}
	var seen [kinds]int
	for n := range 1000 {
		seen[p.at(n)]++
	}
	if seen != [kinds]int{900, 50, 50} {
		t.Errorf("of 1000: %v", seen)
	}
	for text, want := range map[string]string{
		"":                               "found",
		"valid":                          "found",
		"valid=x":                        "found",
		"valid=101":                      "make 101",
		"valid=200":                      "found",
		"valid=-1,invalid=101":           "found",
		"good=100":                       "found",
		"valid=50,valid=50":              "found",
		"valid=50":                       "make 50",
		"duplicate=100":                  "need valid",
		"valid=60,duplicate=40,":         "found",
		"valid=100,duplicate=5,invalid=": "found",
	} {
		if _, err := parseMix(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// TestJudge is the table of what answers are worth.
func TestJudge(t *testing.T) {
	fresh, again := &client.Acknowledgement{}, &client.Acknowledgement{Duplicate: true}
	promised := &client.Acknowledgement{Promise: &receipt.Pending{}}
	problem := func(status int) error { return &client.Problem{Status: status} }
	for i, tc := range []struct {
		kind kind
		r    client.Result
		want outcome
	}{
		{valid, client.Result{Acknowledgement: fresh}, final},
		{valid, client.Result{Acknowledgement: again}, final}, // sent again after no answer came
		{valid, client.Result{Acknowledgement: promised}, pending},
		{valid, client.Result{Err: problem(http.StatusConflict)}, unexpected},
		{valid, client.Result{Err: problem(http.StatusTooManyRequests)}, busy},
		{valid, client.Result{Err: problem(http.StatusServiceUnavailable)}, unknown},
		{valid, client.Result{Err: &client.UnreachableError{Err: errors.New("cut")}}, unknown},
		{valid, client.Result{Err: &client.UntrueError{Err: errors.New("lie")}}, untrue},
		{duplicate, client.Result{Acknowledgement: again}, known},
		{duplicate, client.Result{Acknowledgement: fresh}, unexpected},
		{invalid, client.Result{Err: problem(http.StatusBadRequest)}, refused},
		{invalid, client.Result{Acknowledgement: fresh}, unexpected},
		{invalid, client.Result{Err: problem(http.StatusTooManyRequests)}, busy},
		{invalid, client.Result{Err: &client.UntrueError{Err: errors.New("lie")}}, untrue},
	} {
		if got := judge(tc.kind, tc.r); got != tc.want {
			t.Errorf("row %d: %s, expected %s", i, got, tc.want)
		}
	}
}

// TestReport: each of the things that make a run fail does.
func TestReport(t *testing.T) {
	for want, spoil := range map[string]func(t *tally, j *checked){
		"":                        func(*tally, *checked) {},
		"an answer did not ver":   func(t *tally, _ *checked) { t.add(untrue, 0, errors.New("lie")) },
		"was not to be expected":  func(t *tally, _ *checked) { t.add(unexpected, 0, nil) },
		"3 acknowledged entries":  func(_ *tally, j *checked) { j.Missing = 3 },
		"an answer did not verif": func(t *tally, _ *checked) { t.read("entries", &client.UntrueError{Err: errors.New("lie")}) },
	} {
		tl, j := newTally(), checked{}
		tl.add(final, 20*time.Millisecond, nil)
		tl.add(final, 40*time.Millisecond, nil)
		tl.read("receipts", errors.New("connection refused")) // no lie
		spoil(tl, &j)
		r := tl.report(&plan{perSecond: 1}, 2*time.Second, j)
		if r.OK != (want == "") || !strings.Contains(r.Reason, want) {
			t.Errorf("%q: %+v", want, r)
		}
		if r.GoodputPerSec != 1 || math.Abs(r.AcceptedMillis.Max-40) > 0.1 || r.AcceptedMillis.Count != 2 {
			t.Errorf("goodput %v, latency %+v", r.GoodputPerSec, r.AcceptedMillis)
		}
	}
}

// TestJournal: what was written is read again; a line that a crash cut off was
// told to nobody; two entries at one index are a lie.
func TestJournal(t *testing.T) {
	path := filepath.Join(t.TempDir(), "acks")
	j, err := openJournal(path, true)
	if err != nil {
		t.Fatal(err)
	}
	for n := range uint64(3) {
		if err := j.add(&client.Acknowledgement{Index: n, Leaf: [32]byte{byte(n)}}); err != nil {
			t.Fatal(err)
		}
	}
	promise := &client.Acknowledgement{Index: 7, Promise: &receipt.Pending{LeafHash: statement.Digest{9}}}
	if err := j.add(promise); err != nil {
		t.Fatal(err)
	}
	if err := j.add(&client.Acknowledgement{Index: 1, Leaf: [32]byte{8}}); err == nil {
		t.Error("two entries at one index")
	}
	if err := j.close(); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, append(raw, "9 aaaa"...), 0o600); err != nil {
		t.Fatal(err)
	}
	if j, err = openJournal(path, false); err != nil {
		t.Fatal(err)
	}
	if len(j.leaves) != 4 || j.leaves[2] != [32]byte{2} || j.leaves[7] != [32]byte{9} || j.end() != 8 {
		t.Errorf("read %v", j.leaves)
	}
	if err := j.close(); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"1 2 3\n", "x " + strings.Repeat("a", 64) + " y\n", "1 " + strings.Repeat("a", 62) + " y\n", "1 " + strings.Repeat("z", 64) + " y\n", "\n"} {
		if err := os.WriteFile(path, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := openJournal(path, false); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
}
