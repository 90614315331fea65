package tile_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/trialog/trialog/api/tile"
)

func TestPathsAccepted(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]tile.Path{
		"tile/0/000":                              {Width: 256},
		"tile/0/001":                              {Index: 1, Width: 256},
		"tile/0/999":                              {Index: 999, Width: 256},
		"tile/0/x001/000":                         {Index: 1000, Width: 256},
		"tile/0/x001/x234/067":                    {Index: 1234067, Width: 256}, // the example of C2SP tlog-tiles
		"tile/0/x001/x234/067.p/1":                {Index: 1234067, Width: 1},
		"tile/0/x999/x999/x999/999":               {Index: 999999999999, Width: 256},
		"tile/1/000.p/255":                        {Level: 1, Width: 255},
		"tile/7/000":                              {Level: 7, Width: 256},
		"tile/8/000":                              {Level: 8, Width: 256},
		"tile/63/000.p/1":                         {Level: 63, Width: 1},
		"tile/entries/000":                        {Entries: true, Width: 256},
		"tile/entries/000.p/17":                   {Entries: true, Width: 17},
		"tile/entries/x010/020":                   {Entries: true, Index: 10020, Width: 256},
		"tile/0/x072/x057/x594/x037/x927/935":     {Index: 1<<56 - 1, Width: 256},
		"tile/0/x072/x057/x594/x037/x927/935.p/9": {Index: 1<<56 - 1, Width: 9},
	} {
		got, err := tile.ParsePath(path)
		if err != nil || got != want {
			t.Errorf("%s: %+v, %v; want %+v", path, got, err, want)
		}
		if got.String() != path {
			t.Errorf("%s is written %s", path, got)
		}
	}
}

// refusedPaths are spellings that a lenient reader would take.
func refusedPaths() []string {
	paths := []string{
		"", "/", "tile", "tile/", "/tile/0/000", "//tile/0/000", "tile//000", "tile/0", "tile/0/", "tile//0/000",
		"tile/0//000", "tile/0/000/", "tile/0/000//", "tile/0/000/.", "tile/0/000/..", "./tile/0/000", "tile/./0/000",
		"tile/0/./000", "tile/0/../0/000", "../tile/0/000", "tile/../tile/0/000", "tile/0/x001/../000", "tile/0/..",
		"tile/..", "..", "tile/0/../../checkpoint", "tile/0/../../../etc/passwd", "tile/0/....//000",
		"Tile/0/000", "TILE/0/000", "tiles/0/000", "tile/entries", "tile/entries/", "tile/Entries/000", "tile/entry/000",
		"tile/data/000", "tile/entries/0/000", "tile/entries//000", "tile/names/000",
		"tile/00/000", "tile/01/000", "tile/-1/000", "tile/+1/000", "tile/64/000", "tile/100/000", "tile/0x0/000",
		"tile/1e1/000", "tile/1.0/000", "tile/ 1/000", "tile/1 /000", "tile/a/000", "tile/18446744073709551616/000",
		"tile/18446744073709551615/000", "tile/\u0661/000", "tile/1_0/000",
		"tile/0/0", "tile/0/00", "tile/0/0000", "tile/0/1", "tile/0/1000", "tile/0/00a", "tile/0/-01", "tile/0/+01",
		"tile/0/ 01", "tile/0/01 ", "tile/0/0 1", "tile/0/a00", "tile/0/0x1", "tile/0/1e2", "tile/0/\u0660\u0660\u0661",
		"tile/0/x000", "tile/0/x001", "tile/0/x000/000", "tile/0/x000/001", "tile/0/x000/x001/000", "tile/0/x000/x000/000",
		"tile/0/001/000", "tile/0/001/x000", "tile/0/x001/x000", "tile/0/x001x000", "tile/0/X001/000", "tile/0/x001/X234/067",
		"tile/0/x01/000", "tile/0/x0001/000", "tile/0/x1/000", "tile/0/xx01/000", "tile/0/x/000", "tile/0/x001/00",
		"tile/0/x001/0000", "tile/0/x001//000", "tile/0/x001/000/", "tile/0/x001/ 00", "tile/0/x-01/000", "tile/0/x+01/000",
		"tile/0/x001/234/067", "tile/0/001/x234/067", "tile/0/x1/x234/067", "tile/0/x001\\000",
		"tile/0/x072/x057/x594/x037/x927/936", "tile/0/x999/x999/x999/x999/x999/999",
		"tile/0/x018/x446/x744/x073/x709/x551/616", "tile/0/x" + strings.Repeat("999/x", 400) + "999",
		"tile/0/000.p", "tile/0/000.p/", "tile/0/000.p/0", "tile/0/000.p/00", "tile/0/000.p/01", "tile/0/000.p/001",
		"tile/0/000.p/256", "tile/0/000.p/257", "tile/0/000.p/1000", "tile/0/000.p/-1", "tile/0/000.p/+1", "tile/0/000.p/ 1",
		"tile/0/000.p/1 ", "tile/0/000.p/1/", "tile/0/000.p/1/1", "tile/0/000.p/1.p/1", "tile/0/000.p/a", "tile/0/000.p/1a",
		"tile/0/000.p/0x1", "tile/0/000.p/18446744073709551617", "tile/0/000.p//1", "tile/0/000.p1", "tile/0/000p/1",
		"tile/0/000.P/1", "tile/0/000..p/1", "tile/0/000/.p/1", "tile/0/000/p/1", "tile/0/000.p/x001", "tile/0/.p/1",
		"tile/0/000.p/./1", "tile/0/000.p/../000", "tile/0/x001.p/000", "tile/0/x001.p/1/000", "tile/entries/000.p/0",
		"tile/entries/000.p/256", "tile/entries/000.p/007", "tile/entries/000.p", "tile/entries/x000/001", "tile/entries/1",
		"tile/0/000?", "tile/0/000?x=1", "tile/0/000#a", "tile/0/000;a", "tile/0/000.gz", "tile/0/000.json", "tile/0/000%20",
		"tile/0/%30%30%30", "tile/%30/000", "%74ile/0/000", "tile/0%2f000", "tile%2f0%2f000", "tile/0/%2e%2e/000",
		"tile/0/%2E%2E/0/000", "tile/%2e/0/000", "tile/0/000%2ep/1", "tile/0/000%00", "tile/0/000\x00", "tile/0/000\n",
		"tile/0/000\r\n", "\ntile/0/000", " tile/0/000", "tile/0/000 ", "tile/0/000\t", "tile\\0\\000", "tile/0/0\u200b00",
		"tile/0/\uff10\uff10\uff10", "tile/0/x001/x234/067.p/0", "tile/0/x001/x234/067.p/256", "checkpoint", "tail/head",
		"tail/0-0", "beacon/00", ".scratch/lock",
	}
	// Each of these makes another spelling out of a canonical path.
	for _, canonical := range []string{
		"tile/0/000", "tile/3/123", "tile/0/x001/x234/067", "tile/entries/x001/000", "tile/0/007.p/9", "tile/entries/512.p/100",
	} {
		for _, change := range []string{"%s/", "/%s", "%s.", "./%s", "%s/.", "%s.p/1", "%s%%00", "%s?", "%s\x00", " %s"} {
			if changed := fmt.Sprintf(change, canonical); !strings.HasSuffix(changed, ".p/1") || strings.Contains(canonical, ".p/") {
				paths = append(paths, changed)
			}
		}
		paths = append(paths, strings.ToUpper(canonical), strings.ReplaceAll(canonical, "/", "//"),
			strings.ReplaceAll(canonical, "/", "\\"), strings.ReplaceAll(canonical, "tile/", "tile/0"))
	}
	return paths
}

func TestPathsRefused(t *testing.T) {
	t.Parallel()
	paths := refusedPaths()
	if len(paths) < 200 {
		t.Errorf("%d paths, want at least 200", len(paths))
	}
	for _, path := range paths {
		if got, err := tile.ParsePath(path); !errors.Is(err, tile.ErrPath) {
			t.Errorf("%q: %+v, %v; want ErrPath", path, got, err)
		}
	}
}

// FuzzPath: what is taken is written the same way, and names something.
func FuzzPath(f *testing.F) {
	for _, seed := range append(refusedPaths(), "tile/0/x001/x234/067", "tile/63/000.p/1", "tile/entries/000.p/17") {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := tile.ParsePath(s)
		if err != nil {
			if p != (tile.Path{}) {
				t.Errorf("%q: an error and %+v", s, p)
			}
			return
		}
		if p.String() != s {
			t.Errorf("%q is written %q", s, p)
		}
		if p.Level < 0 || p.Level > 63 || p.Width < 1 || p.Width > 256 || p.Entries && p.Level != 0 {
			t.Errorf("%q: %+v", s, p)
		}
	})
}
