package fsck_test

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/trialog/trialog/api/fsck"
)

func TestCleanStatements(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, 2, 255, 256, 257, 511, 512, 513, 700} {
		l := statements().at(t, n)
		var last, total uint64
		r := l.check(t, nil, func(c *fsck.Config) { c.Progress = func(d, of uint64) { last, total = d, of } })
		if !r.Clean() || len(r.Notes) > 0 || r.Entries != uint64(n) || r.Signatures != uint64(n) || r.Size != uint64(n) {
			t.Errorf("%s: %+v", sizeName(n), r)
		}
		if last != uint64(n) || total != uint64(n) {
			t.Errorf("%s: progress ended at %d of %d", sizeName(n), last, total)
		}
	}
}

// TestCleanTrees goes over the borders of tiles of every level.
func TestCleanTrees(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 65535, 65536, 65537, 65536 + 3*256 + 77} {
		l := tall().at(t, n)
		r := l.check(t, nil, treeOnly)
		if !r.Clean() || r.Entries != uint64(n) || len(r.Notes) > 0 {
			t.Errorf("%s: %+v", sizeName(n), r)
		}
		// Every object was read.
		if want := uint64(len(l.files)); r.Objects != want {
			t.Errorf("%s: %d objects read, want %d", sizeName(n), r.Objects, want)
		}
	}
}

// TestSameReport: what the workers do first is not to be seen.
func TestSameReport(t *testing.T) {
	t.Parallel()
	l := statements().at(t, 700)
	change := files{
		"tile/0/000": flip(l.files["tile/0/000"], 99, 1), "tile/0/001": nil, "tile/entries/000": flip(l.files["tile/entries/000"], 5000, 3),
		"tile/1/000.p/2": flip(l.files["tile/1/000.p/2"], 40, 0),
	}
	var first []byte
	for _, workers := range []int{1, 2, 7, 7, 7} {
		r := l.check(t, change, func(c *fsck.Config) { c.Workers = workers })
		got, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		if first == nil {
			first = got
			if len(r.Findings) != 4 {
				t.Errorf("%d findings, want 4:\n%s", len(r.Findings), places(r))
			}
		}
		if !bytes.Equal(got, first) {
			t.Errorf("with %d workers\n%s\nwith one\n%s", workers, got, first)
		}
	}
}

func BenchmarkCheck(b *testing.B) {
	l := said(20_000)
	l = l.at(b, 20_002)
	for name, option := range map[string]func(*fsck.Config){
		"deep": func(*fsck.Config) {}, "shallow": func(c *fsck.Config) { c.Shallow = true }, "tree": treeOnly,
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if r := l.check(b, nil, option); !r.Clean() {
					b.Fatal(places(r))
				}
			}
			b.ReportMetric(20_002*float64(b.N)/b.Elapsed().Seconds(), "entries/s")
		})
	}
}
