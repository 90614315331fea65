package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/trialog/trialog/tools/bench/calm"
	"github.com/trialog/trialog/tools/bench/score"
)

func TestParse(t *testing.T) {
	for _, c := range []struct {
		args string
		want func(options) bool
		bad  string
	}{
		{"", func(o options) bool {
			return o.rounds == 3 && o.out == "out" && !o.short && o.growth == nil && o.only == nil
		}, ""},
		{"-rounds 5 -only a,b", func(o options) bool { return o.rounds == 5 && slices.Equal(o.only, []string{"a", "b"}) }, ""},
		{"-short -rounds 9", func(o options) bool { return o.rounds == 1 }, ""},
		{"-growth 1e5,1e6,1e7", func(o options) bool { return slices.Equal(o.growth, []uint64{1e5, 1e6, 1e7}) }, ""},
		{"-growth 100", func(o options) bool { return slices.Equal(o.growth, []uint64{100}) }, ""},
		{"-growth 1e6,1e5", nil, "growth"},
		{"-growth 1e5,1e5", nil, "growth"},
		{"-growth -1", nil, "growth"},
		{"-growth 1e12", nil, "growth"},
		{"-growth many", nil, "growth"},
		{"-rounds 0", nil, "rounds"},
		{"-rounds x", nil, "rounds"},
		{"extra", nil, "extra"},
	} {
		o, err := parse(strings.Fields(c.args))
		switch {
		case c.want == nil && (err == nil || !strings.Contains(err.Error(), c.bad)):
			t.Errorf("%q: %v, want an error on %s", c.args, err, c.bad)
		case c.want != nil && (err != nil || !c.want(o)):
			t.Errorf("%q: %+v, %v", c.args, o, err)
		}
	}
}

// TestRowsAreThoseOfTheDesign holds the table of docs/performance.md together
// with what is measured.
func TestRowsAreThoseOfTheDesign(t *testing.T) {
	want := []string{
		"add_inprocess", "add_inprocess_dedupe", "add_stream", "signed_final", "postgres", "final_latency", "witness_down",
		"proof", "verify", "memory",
	}
	var got []string
	known, used := map[string]bool{growthProbe: true}, map[string]bool{}
	for _, p := range probes() {
		known[p.id] = true
	}
	for _, r := range rows() {
		got = append(got, r.ID)
		if r.What == "" || r.Unit == "" || len(r.Goals) == 0 {
			t.Errorf("%s says too little: %+v", r.ID, r)
		}
		for _, id := range r.Probes() {
			used[id] = true
			if !known[id] {
				t.Errorf("%s needs the probe %s, which there is not", r.ID, id)
			}
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("rows %q, want %q", got, want)
	}
	for _, l := range limits() {
		used[l.probe] = true
	}
	for id := range known {
		if !used[id] {
			t.Errorf("nobody uses what the probe %s measures", id)
		}
	}
}

// TestGoals holds each row's goal against figures that meet it and figures that
// do not.
func TestGoals(t *testing.T) {
	good := func() score.Round {
		return score.Round{
			"add": {"per_second": 100}, "tessera": {"per_second": 100}, "tessera_dedupe": {"per_second": 71},
			"stream": {"per_second": 70}, "ed25519": {"per_core_second": 1e5},
			"signed":          {"per_second": 2e4, "machine_cores": 1, "server_cores": 1},
			"signed_postgres": {"per_second": 500}, "queueleaf": {"per_second": 100},
			"latency":      {"p50_ms": 250, "p99_ms": 1000},
			"latency_down": {"p99_ms": 1000},
			"proof":        {"per_second": 2000}, "trillian_proof": {"per_second": 100},
			"verify": {
				"small_us": 3, "small_floor_us": 1, "enrolled_us": 3, "enrolled_floor_us": 1, "megabyte_us": 3, "megabyte_floor_us": 1,
			},
			growthProbe: {"first_rss_mib": 10, "last_rss_mib": 13, "full_range": 1},
		}
	}
	// The log gets all cores; its limit is made to fit.
	cores := runtime.NumCPU()
	for _, c := range []struct {
		id, probe, figure string
		bad               float64
	}{
		{"add_inprocess", "add", "per_second", 99},
		{"add_inprocess_dedupe", "tessera_dedupe", "per_second", 72},
		{"add_stream", "stream", "per_second", 69},
		{"signed_final", "signed", "per_second", 19_999},
		{"signed_final", "ed25519", "per_core_second", 1e6},
		{"postgres", "queueleaf", "per_second", 101},
		{"final_latency", "latency", "p50_ms", 251},
		{"final_latency", "latency", "p99_ms", 1001},
		{"witness_down", "latency_down", "p99_ms", 1001},
		{"proof", "trillian_proof", "per_second", 101},
		{"verify", "verify", "small_us", 3.1},
		{"verify", "verify", "megabyte_us", 3.1},
		{"memory", growthProbe, "last_rss_mib", 13.1},
	} {
		all := rows()
		r := all[slices.IndexFunc(all, func(r score.Row) bool { return r.ID == c.id })]
		round := good()
		round["ed25519"]["per_core_second"] = 2e4 / 0.9 / float64(cores)
		if got := (&score.Run{Judge: true, Rounds: []score.Round{round}}).Compute(&r); got.Pass == nil || !*got.Pass {
			t.Errorf("%s: the goal %q is not met by figures that just meet it: %+v", c.id, got.Goal, got.Goals)
		}
		round[c.probe][c.figure] = c.bad
		if got := (&score.Run{Judge: true, Rounds: []score.Round{round}}).Compute(&r); got.Pass == nil || *got.Pass {
			t.Errorf("%s: the goal %q is met with %s.%s = %v", c.id, got.Goal, c.probe, c.figure, c.bad)
		}
	}
}

// TestSignedLimit: what clients, witnesses and others use is not the log's.
func TestSignedLimit(t *testing.T) {
	all := rows()
	r := all[slices.IndexFunc(all, func(r score.Row) bool { return r.ID == "signed_final" })]
	round := score.Round{
		"signed":  {"per_second": 1, "machine_cores": 1.5, "server_cores": 1.25},
		"ed25519": {"per_core_second": 1000},
	}
	want := 1000 * (float64(runtime.NumCPU()) - 0.25)
	if got, ok := r.Limit.In(round); !ok || got != want {
		t.Errorf("limit %v, want %v", got, want)
	}
}

func TestChoose(t *testing.T) {
	some, err := choose(rows(), []string{"verify", "proof"})
	if err != nil || len(some) != 2 || some[0].ID != "verify" || some[1].ID != "proof" {
		t.Errorf("%v, %v", some, err)
	}
	if all, err := choose(rows(), nil); err != nil || len(all) != len(rows()) {
		t.Errorf("%d rows, %v", len(all), err)
	}
	if _, err := choose(rows(), []string{"speed"}); err == nil || !strings.Contains(err.Error(), "add_inprocess") {
		t.Errorf("an unknown id: %v", err)
	}
}

func TestInTurn(t *testing.T) {
	all := []probe{{id: "a", group: 1}, {id: "b", group: 1}, {id: "c", group: 1}, {id: "d", group: 2}, {id: "e", group: 3}, {id: "f", group: 3}}
	for n, want := range []string{"abcdef", "bcadfe", "cabdef", "abcdfe"} {
		var ids []string
		for _, p := range inTurn(all, n) {
			ids = append(ids, p.id)
		}
		if got := strings.Join(ids, ""); got != want {
			t.Errorf("round %d: %s, want %s", n, got, want)
		}
	}
}

func TestParseBenchmark(t *testing.T) {
	const good = `goos: linux
cpu: something
BenchmarkVerify/small/verify-2         	     500	   812345 ns/op	  120000 B/op	     900 allocs/op
BenchmarkVerify/small/floor-2          	     500	   400000 ns/op
BenchmarkVerify/enrolled/verify-2      	     500	  1000000 ns/op
BenchmarkVerify/enrolled/floor-2       	     500	   500000 ns/op
BenchmarkVerify/megabyte/verify        	     500	  2000000 ns/op
BenchmarkVerify/megabyte/floor         	     500	  1500000 ns/op
PASS
`
	m, err := parseBenchmark([]byte(good))
	if err != nil {
		t.Fatal(err)
	}
	if m.Figures["small_us"] != 812.345 || m.Figures["megabyte_floor_us"] != 1500 || len(m.Figures) != 6 {
		t.Errorf("figures %v", m.Figures)
	}
	for _, bad := range []string{
		"", strings.Replace(good, "BenchmarkVerify/enrolled/floor-2", "BenchmarkVerify/enrolled/other-2", 1),
		strings.Replace(good, "812345 ns", "fast ns", 1), strings.Replace(good, "812345", "0", 1),
	} {
		if m, err := parseBenchmark([]byte(bad)); err == nil {
			t.Errorf("no error, but %v, for\n%s", m.Figures, bad)
		}
	}
}

// newSession is a session whose programs are shell scripts.
func newSession(t *testing.T, scripts map[string]string) *session {
	t.Helper()
	s := &session{
		progress: io.Discard, now: time.Now, begin: time.Now(), dir: t.TempDir(), bin: t.TempDir(), machine: machine{CPUs: runtime.NumCPU()},
		o: options{rounds: 1, out: filepath.Join(t.TempDir(), "out")}, failed: map[string]string{}, notes: map[string][]string{},
		seen: map[string][]calm.Watch{},
	}
	for name, text := range scripts {
		if err := os.WriteFile(filepath.Join(s.bin, name), []byte("#!/bin/sh\n"+text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	var err error
	if s.speed, err = calm.NewCalibration(s.dir, s.now); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.speed.Close() })
	return s
}

func TestChild(t *testing.T) {
	s := newSession(t, map[string]string{
		"good":   `echo noise >&2; echo '{"figures":{"per_second":5},"notes":["n"]}'`,
		"args":   `echo "{\"figures\":{\"n\":$#}}"`,
		"empty":  `echo '{"figures":{}}'`,
		"silent": `true`,
		"fails":  `echo '{"figures":{"per_second":5}}'; echo "no disk in $0" >&2; exit 3`,
	})
	s.dir = s.bin
	m, err := s.child(t.Context(), "good")
	if err != nil || m.Figures["per_second"] != 5 || m.Notes[0] != "n" {
		t.Errorf("good: %+v, %v", m, err)
	}
	if m, err = s.child(t.Context(), "args", "a", "b c"); err != nil || m.Figures["n"] != 2 {
		t.Errorf("args: %+v, %v", m, err)
	}
	for _, name := range []string{"empty", "silent", "missing"} {
		if m, err := s.child(t.Context(), name); err == nil {
			t.Errorf("%s: no error but %+v", name, m)
		}
	}
	_, err = s.child(t.Context(), "fails")
	if err == nil || !strings.Contains(err.Error(), "no disk in …/fails") || strings.Contains(err.Error(), s.dir) {
		t.Errorf("fails: %v", err)
	}
}

// TestChildEndsWithContext: a program that is under way is told to end, and its
// end is waited for.
func TestChildEndsWithContext(t *testing.T) {
	s := newSession(t, nil)
	begun, ended := filepath.Join(s.dir, "begun"), filepath.Join(s.dir, "ended")
	script := "#!/bin/sh\ntrap 'touch " + ended + "; exit 1' TERM\ntouch " + begun + "\nwhile :; do sleep 0.05; done\n"
	if err := os.WriteFile(filepath.Join(s.bin, "slow"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := s.child(ctx, "slow")
		done <- err
	}()
	for {
		if _, err := os.Stat(begun); err == nil {
			break
		}
		select {
		case err := <-done:
			t.Fatalf("it has ended: %v", err)
		case <-time.After(time.Millisecond): // between two looks
		}
	}
	cancel()
	if err := <-done; err == nil {
		t.Error("no error")
	}
	if _, err := os.Stat(ended); err != nil {
		t.Errorf("it was not told to end: %v", err)
	}
}

// TestBenchWritesWhatItHasAndWhyTheRestIsMissing runs a benchmark whose programs
// all fail but one.
func TestBenchWritesWhatItHasAndWhyTheRestIsMissing(t *testing.T) {
	s := newSession(t, map[string]string{
		"trialog-bench": `case "$*" in *add*) echo '{"figures":{"per_second":500}}' ;; *) echo "broken" >&2; exit 1 ;; esac`,
		"tessera":       `echo '{"figures":{"per_second":250}}'`,
	})
	chosen, err := choose(rows(), []string{"add_inprocess", "add_stream", "memory"})
	if err != nil {
		t.Fatal(err)
	}
	s.o.only = []string{"add_inprocess", "add_stream", "memory"}
	s.o.rounds = 2
	if err := s.bench(t.Context(), chosen); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(filepath.Join(s.o.out, "bench.json"))
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Rows []map[string]any `json:"rows"`
	}
	if err := json.Unmarshal(raw, &got); err != nil || len(got.Rows) != 3 {
		t.Fatalf("%v: %s", err, raw)
	}
	add, stream, memory := got.Rows[0], got.Rows[1], got.Rows[2]
	if add["ours"] != 500.0 || add["peer"] != 250.0 || add["ratio"] != 2.0 || add["pass"] != true || len(add["rounds"].([]any)) != 2 {
		t.Errorf("add: %v", add)
	}
	if stream["ours"] != nil || stream["pass"] != nil || !strings.Contains(stream["reason"].(string), "stream: trialog-bench") {
		t.Errorf("stream: %v", stream)
	}
	if memory["ours"] != nil || !strings.Contains(memory["reason"].(string), "-growth") {
		t.Errorf("memory: %v", memory)
	}
	for _, member := range []string{"id", "ours", "peer", "limit", "unit", "ratio", "goal", "pass", "noisy"} {
		for _, row := range got.Rows {
			if _, there := row[member]; !there {
				t.Errorf("%v has no %s", row["id"], member)
			}
		}
	}
	page, err := os.ReadFile(filepath.Join(s.o.out, "bench.md"))
	if err != nil || !strings.Contains(string(page), "| add_inprocess") {
		t.Errorf("%v:\n%s", err, page)
	}
	if strings.Contains(string(raw)+string(page), s.dir) || strings.Contains(string(raw), s.bin) {
		t.Error("the results name folders of this machine")
	}
}

func TestStoppedBenchWritesNothing(t *testing.T) {
	s := newSession(t, map[string]string{"tessera": `echo '{"figures":{"per_second":250}}'`})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.bench(ctx, rows()); err == nil {
		t.Error("no error")
	}
	if _, err := os.Stat(s.o.out); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("results were written: %v", err)
	}
}

func TestGrowthFigures(t *testing.T) {
	g := &growth{Sizes: []stage{{Entries: 1e5, LoadMiB: 100}, {Entries: 1e6, LoadMiB: 300}, {Entries: 1e7, LoadMiB: 120}}}
	f := g.figures()
	if f["first_rss_mib"] != 100 || f["last_rss_mib"] != 120 || f["full_range"] != 1 {
		t.Errorf("figures %v", f)
	}
	g.Sizes[2].Entries--
	if _, full := g.figures()["full_range"]; full {
		t.Error("the goal would be judged over less than it is about")
	}
	g.Sizes = g.Sizes[:1]
	if len(g.figures()) != 0 {
		t.Error("figures of a single size")
	}
	cells := (&growth{Sizes: []stage{{Entries: 1e5}}}).cells()
	if len(cells) != 2 || len(cells[0]) != len(cells[1]) || cells[1][0] != "100,000" {
		t.Errorf("cells %q", cells)
	}
}

func TestOnDisk(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "a", "b"), 0o755); err != nil {
		t.Fatal(err)
	}
	before, err := onDisk(dir)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(filepath.Join(dir, "a", "b", "file"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(make([]byte, 1<<20)); err != nil || f.Sync() != nil || f.Close() != nil {
		t.Fatal(err)
	}
	after, err := onDisk(dir)
	if err != nil || after-before < 1<<20 || after-before > 1<<21 {
		t.Errorf("a file of 1 MiB adds %v bytes, %v", after-before, err)
	}
	if _, err := onDisk(filepath.Join(dir, "none")); err == nil {
		t.Error("no error without a folder")
	}
}

func TestMachine(t *testing.T) {
	m, err := look(t.TempDir())
	if err != nil || m.CPUs < 1 || m.Kernel == "" || m.FileSystem == "" || m.MemoryGiB < 1 {
		t.Errorf("%+v, %v", m, err)
	}
	if host, err := os.Hostname(); err == nil && len(host) > 3 && strings.Contains(m.String(), host) {
		t.Errorf("%q names the host", m)
	}
	if got := field("a: 1\nmodel name\t: A : B\nmodel name: C\n", "model name"); got != "A : B" {
		t.Errorf("field: %q", got)
	}
	if got := fileSystem(0xEF53); got != "ext4" {
		t.Errorf("ext4: %q", got)
	}
	if got := fileSystem(1); got != "file system 0x1" {
		t.Errorf("unknown: %q", got)
	}
}

func TestLinesKeepTheEnd(t *testing.T) {
	var l lines
	for range 3 {
		if n, err := l.Write([]byte(strings.Repeat("x", 40<<10))); n != 40<<10 || err != nil {
			t.Fatal(n, err)
		}
	}
	if _, err := l.Write([]byte("end")); err != nil {
		t.Fatal(err)
	}
	if got := l.String(); len(got) != 64<<10 || !strings.HasSuffix(got, "xend") {
		t.Errorf("%d bytes, …%s", len(got), got[len(got)-4:])
	}
	if got := tail("1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n"); got != "3\n4\n5\n6\n7\n8\n9\n10" {
		t.Errorf("tail: %q", got)
	}
}

// TestPostgres starts a server, makes a database and ends it.
func TestPostgres(t *testing.T) {
	if _, err := programOf("initdb"); err != nil {
		t.Skip(err)
	}
	s := newSession(t, nil)
	var err error
	// Not t.TempDir: another user must be able to enter.
	if s.dir, err = os.MkdirTemp("", "bench-test-"); err != nil { //nolint:usetesting // as it says
		t.Fatal(err)
	}
	defer os.RemoveAll(s.dir)
	if err := os.Chmod(s.dir, 0o711); err != nil {
		t.Fatal(err)
	}
	db, err := s.postgres(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if again, err := s.postgres(t.Context()); err != nil || again != db {
		t.Errorf("asked again: %v, %v", again, err)
	}
	name, err := db.create(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	psql, err := programOf("psql")
	if err != nil {
		t.Skip(err)
	}
	out, err := exec.Command(psql, db.uri(name), "-At", "-c", "SHOW fsync", "-c", "SELECT current_database()").CombinedOutput()
	if err != nil || string(out) != "on\n"+name+"\n" {
		t.Errorf("psql: %v: %s", err, out)
	}
	if err := db.drop(t.Context(), name); err != nil {
		t.Error(err)
	}
	if err := db.close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(db.dir, ".s.PGSQL.5432")); err == nil {
		t.Error("the server has not ended")
	}
}
