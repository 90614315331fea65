package calm

import (
	"os"
	"strings"
	"testing"
	"testing/fstest"
	"time"
)

func TestDisturbed(t *testing.T) {
	usual := Reading{CPU: 100, Sync: 1000}
	quiet := Watch{Before: usual, After: usual}
	for _, c := range []struct {
		name   string
		change func(*Watch)
		want   string
	}{
		{"quiet", func(*Watch) {}, ""},
		{"at the limit", func(w *Watch) { w.Before.CPU, w.After.Sync, w.Foreign = 115, 500, 0.10 }, ""},
		{"slow before", func(w *Watch) { w.Before.CPU = 84 }, "processor"},
		{"slow after", func(w *Watch) { w.After.CPU = 84 }, "processor"},
		{"fast after", func(w *Watch) { w.After.CPU = 116 }, "processor"},
		{"disk", func(w *Watch) { w.After.Sync = 400 }, "fdatasync"},
		{"others", func(w *Watch) { w.Foreign = 0.11 }, "others"},
		{"all", func(w *Watch) { w.After, w.Foreign = Reading{1, 1}, 1 }, "processor fdatasync others"},
	} {
		w := quiet
		c.change(&w)
		got := w.Disturbed(usual)
		if len(got) != len(strings.Fields(c.want)) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
			continue
		}
		for i, word := range strings.Fields(c.want) {
			if !strings.HasPrefix(got[i], word) {
				t.Errorf("%s: %q, want %q", c.name, got[i], word)
			}
		}
	}
	if got := quiet.Disturbed(Reading{}); len(got) != 0 {
		t.Errorf("without a usual reading: %q", got)
	}
}

func TestUsual(t *testing.T) {
	if got := Usual(nil); got != (Reading{}) {
		t.Errorf("of nothing: %v", got)
	}
	got := Usual([]Watch{
		{Before: Reading{1, 50}, After: Reading{3, 40}}, {Before: Reading{100, 10}, After: Reading{2, 30}},
	})
	if got != (Reading{3, 40}) {
		t.Errorf("got %v", got)
	}
}

func TestForeign(t *testing.T) {
	before := Usage{Machine: 100, Tree: 40}
	for _, c := range []struct {
		after Usage
		span  float64
		want  float64
	}{
		{Usage{Machine: 110, Tree: 50}, 20, 0},
		{Usage{Machine: 110, Tree: 45}, 20, 0.25},
		{Usage{Machine: 110, Tree: 51}, 20, 0}, // clocks of different grain
		{Usage{Machine: 110, Tree: 45}, 0, 0},
	} {
		if got := c.after.Foreign(before, c.span); got != c.want {
			t.Errorf("%+v over %v: %v, want %v", c.after, c.span, got, c.want)
		}
	}
}

// process is a line of /proc/N/stat.
func process(id, name, parent, times string) *fstest.MapFile {
	return &fstest.MapFile{Data: []byte(id + " (" + name + ") S " + parent + " 1 1 0 -1 4194560 100 200 0 0 " + times + " 20 0 1 0 100\n")}
}

func TestUse(t *testing.T) {
	const stat = "cpu  1000 20 300 99999 77777 40 50 60 0 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n"
	proc := fstest.MapFS{
		"stat":         {Data: []byte(stat)},
		"1/stat":       process("1", "init", "0", "1000 1000 1000 1000"),
		"2/stat":       process("2", "kthreadd", "0", "0 0 0 0"),
		"9/stat":       process("9", "kworker/0:1", "2", "0 5 0 0"),
		"50/stat":      process("50", "bench", "1", "10 20 30 40"),
		"51/stat":      process("51", "a (b) c", "50", "1 2 3 4"),
		"52/stat":      process("52", "grandchild", "51", "100 0 0 0"),
		"60/stat":      process("60", "other", "1", "500 500 500 500"),
		"self/stat":    {Data: []byte("nonsense")},
		"sys/whatever": {Data: []byte("")},
	}
	u, err := use(proc, 50)
	if err != nil {
		t.Fatal(err)
	}
	if want := (Usage{Machine: 14.70, Tree: 2.15}); u != want {
		t.Errorf("got %+v, want %+v", u, want)
	}
	delete(proc, "stat")
	if _, err := use(proc, 50); err == nil {
		t.Error("no error without the machine's line")
	}
	proc["stat"], proc["61/stat"] = &fstest.MapFile{Data: []byte(stat)}, &fstest.MapFile{Data: []byte("61 (x) S 1")}
	if _, err := use(proc, 50); err == nil || !strings.Contains(err.Error(), "61") {
		t.Errorf("a process's line that is cut short: %v", err)
	}
}

func TestParseRejects(t *testing.T) {
	for _, bad := range []string{"", "cpu 1 2 3", "cpu0 1 2 3 4 5 6 7 8 9", "cpu a b c d e f g h i"} {
		if v, err := parseMachine([]byte(bad)); err == nil {
			t.Errorf("parseMachine(%q) = %v", bad, v)
		}
	}
	good := string(process("1", "x", "7", "1 2 3 4").Data)
	for _, bad := range []string{"", "1 x S 7", strings.Replace(good, " 7 ", " y ", 1), strings.Replace(good, "1 2 3 4", "1 2 z 4", 1)} {
		if parent, ticks, err := parseProcess([]byte(bad)); err == nil {
			t.Errorf("parseProcess(%q) = %d, %v", bad, parent, ticks)
		}
	}
}

// TestBelow ends also if the lines of a process that ended and one that began
// make a circle.
func TestBelow(t *testing.T) {
	parent := map[int]int{5: 6, 6: 5, 7: 8}
	for n, want := range map[int]bool{5: false, 7: false, 9: false} {
		if below(parent, n, 1) != want {
			t.Errorf("below(%d) = %t", n, !want)
		}
	}
	if !below(parent, 7, 8) || !below(parent, 7, 7) {
		t.Error("a child is not below its parent, or a process not below itself")
	}
}

func TestHere(t *testing.T) {
	before, err := Use()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	c, err := NewCalibration(dir, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	r, err := c.Read()
	if err != nil || r.CPU <= 0 || r.Sync <= 0 {
		t.Errorf("got %+v, %v", r, err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	after, err := Use()
	if err != nil || after.Machine < before.Machine || after.Tree < before.Tree {
		t.Errorf("usage went from %+v to %+v, %v", before, after, err)
	}
}
