package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/trialog/trialog/api/vectors"
)

// TestVerifyTimeStamps: what is said of the time-stamps in a receipt, short and
// with --details.
func TestVerifyTimeStamps(t *testing.T) {
	for _, c := range []struct {
		id   string
		code int
		says []string
		more []string // with --details
		not  string
	}{
		{
			id: "token-narrows", code: exitVerified,
			says: []string{
				"logged not after 2026-03-01 04:51:01 UTC", "\n  a time-stamp by Time Authority A, 2026-03-01 04:51:00 UTC, accurate to 0.1 s\n",
				"note: the upper bound rests on the time-stamp of Time Authority A",
			},
			more: []string{
				"\n  logged not after 2026-03-01 04:51:01 UTC, by the time-stamp of Time Authority A",
				"\n  without the time-stamps: logged not after 2026-03-02 04:50:00 UTC, by the cosignatures",
				"accurate to 0.1 s: narrows, number 4711, alone: logged not after 2026-03-01 04:51:01 UTC\n",
			},
		},
		{
			id: "token-not-named", code: exitVerified,
			says: []string{"logged not after 2026-03-02 04:50:00 UTC", "note: the time-stamp in the receipt is of nobody whom your policy names"},
			more: []string{"a time-stamp by somebody whom your policy does not name, 2026-03-01 04:51:00 UTC, not looked at: not-evaluated"},
			not:  "accurate to",
		},
		{
			id: "token-back-dated", code: exitVerified,
			says: []string{"logged not after 2026-03-01 04:50:02 UTC", "note: a time-stamp of Time Authority A does not count: it is dated 2025"},
			more: []string{": contradicted, number 4711, alone: logged not after 2025-03-01"},
			not:  "\n  a time-stamp by",
		},
		{
			id: "token-signature-altered", code: exitNotVerified,
			says: []string{"NOT VERIFIED  the times: a time-stamp in the receipt is not what it says it is", "ask for it anew"},
			more: []string{"failing link: time", "names itself as one of Time Authority A"},
		},
		{id: "two-of-three", code: exitVerified, says: []string{"logged not after"}, not: "time-stamp"},
	} {
		t.Run(c.id, func(t *testing.T) {
			for _, details := range []bool{false, true} {
				got, code := verifyVector(t, "verify-"+c.id, details)
				want := c.says
				if details {
					want = append(want, c.more...)
				}
				for _, w := range want {
					if !strings.Contains(got, w) {
						t.Errorf("details %t: %q is not in\n%s", details, w, got)
					}
				}
				if code != c.code || !details && c.not != "" && strings.Contains(got, c.not) {
					t.Errorf("details %t: code %d, want %d:\n%s", details, code, c.code, got)
				}
			}
		})
	}
}

// verifyVector runs "trialog verify" over the files of a vector.
func verifyVector(t *testing.T, id string, details bool) (string, int) {
	t.Helper()
	list, err := vectors.List()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, v := range list {
		if v.ID != id {
			continue
		}
		path := map[string]string{}
		for input, name := range v.Inputs {
			raw, err := vectors.File(name)
			if err != nil {
				t.Fatal(err)
			}
			path[input] = filepath.Join(dir, input)
			if err := os.WriteFile(path[input], raw, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		now, err := time.Parse(time.RFC3339, v.Args["now"])
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		p := &program{
			out: &out, errs: &out, in: strings.NewReader(""), now: func() time.Time { return now },
			dir: dir, getenv: func(string) string { return "" },
		}
		args := []string{"verify", path["document"], path["receipt"], "--policy", path["policy"], "--trust", path["trust"]}
		if details {
			args = append(args, "--details")
		}
		code := p.main(t.Context(), args)
		return out.String(), code
	}
	t.Fatalf("no vector %s", id)
	return "", 0
}
