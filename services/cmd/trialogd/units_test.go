package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/trialog/trialog/services/config"
	"github.com/trialog/trialog/services/internal/register"
	"github.com/trialog/trialog/services/internal/socket"
	"github.com/trialog/trialog/services/mirror"
	"github.com/trialog/trialog/services/sequencer"
)

func TestTuneCollector(t *testing.T) {
	for gogc, want := range map[string]int{"": 400, "100": 0, "off": 0} {
		got := 0
		tuneCollector(gogc, func(percent int) int { got = percent; return 0 })
		if got != want {
			t.Errorf("GOGC=%q: set to %d, want %d", gogc, got, want)
		}
	}
}

// TestCollectorPercent: lazy while little is in use, a fixed room beyond what is in
// use when it is more, and never busier than Go's default.
func TestCollectorPercent(t *testing.T) {
	const mib = 1 << 20
	for live, want := range map[uint64]int{
		0: 400, 1: 400, 96 * mib: 400, 128 * mib: 300, 192 * mib: 200, 384 * mib: 100, 4096 * mib: 100, 1 << 63: 100,
	} {
		if got := collectorPercent(live); got != want {
			t.Errorf("%d MiB in use: %d, want %d", live/mib, got, want)
		}
	}
}

// TestCollectorIsTended: a heap that has grown gets less room than five times.
func TestCollectorIsTended(t *testing.T) {
	ballast := make([]byte, 160<<20)
	runtime.GC()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	got := 0
	if err := tendCollector(ctx, func(percent int) int { got = percent; cancel(); return 0 }); err != nil {
		t.Fatal(err)
	}
	runtime.KeepAlive(ballast)
	if got < leastPercent || got >= lazyPercent {
		t.Errorf("with %d MiB in use: set to %d", len(ballast)>>20, got)
	}
}

func TestOpening(t *testing.T) {
	now := time.Date(2026, 12, 1, 10, 0, 0, 0, time.UTC)
	for day, want := range map[string]time.Time{
		"": now.AddDate(0, 0, 30), "2027-01-01": time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC), "2026-12-01": now,
	} {
		if got, err := opening(day, now); err != nil || !got.Equal(want) {
			t.Errorf("%q: %v, %v, want %v", day, got, err, want)
		}
	}
	for _, day := range []string{"2026-11-30", "2027-1-1", "2027-02-30", "tomorrow", "2027-01-01T00:00:00Z"} {
		if got, err := opening(day, now); err == nil || !strings.HasPrefix(err.Error(), "opens: ") {
			t.Errorf("%q: %v, %v", day, got, err)
		}
	}
}

func TestHasEnded(t *testing.T) {
	with := func(reason string) error {
		s, err := status.New(codes.Unavailable, "no").WithDetails(&errdetails.ErrorInfo{Reason: reason})
		if err != nil {
			t.Fatal(err)
		}
		return s.Err()
	}
	for _, c := range []struct {
		err  error
		want bool
	}{
		{nil, false}, {errBroken, false}, {status.Error(codes.Unavailable, "ended"), false}, {with("standby"), false}, {with("ended"), true},
	} {
		if hasEnded(c.err) != c.want {
			t.Errorf("%v: %t", c.err, !c.want)
		}
	}
}

var errBroken = errors.New("broken")

// TestReasons: each reason to take nothing in has its word.
func TestReasons(t *testing.T) {
	refused := func(r sequencer.Reason) error { return &sequencer.RefusedError{Reason: r, Err: errBroken} }
	for _, c := range []struct {
		err     error
		word    string
		forGood bool
	}{
		{refused(sequencer.Standby), "standby", false},
		{errors.Join(sequencer.ErrNotReady, refused(sequencer.Standby)), "standby", false},
		{refused(sequencer.Clock), "clock", false},
		{refused(sequencer.Succession), "succession", true},
		{refused(sequencer.Owned), "owned", true},
		{refused(sequencer.Rollback), "rollback", true},
		{refused(sequencer.RegisterMissing), "register-missing", true},
		{sequencer.ErrEnded, "ended", false},
		{sequencer.ErrNotReady, "starting", false},
		{&notFollowedError{mirror.Fork, "two heads"}, "fork", false},
		{errBroken, "stopped", false},
	} {
		if got := reasonOf(c.err); got != c.word {
			t.Errorf("%v: reason %q, want %q", c.err, got, c.word)
		}
		if refusesForGood(c.err) != c.forGood {
			t.Errorf("%v: refuses for good: %t", c.err, !c.forGood)
		}
	}
}

func TestSourceOf(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "mirror", "2026"), 0o700); err != nil {
		t.Fatal(err)
	}
	mirrored := filepath.Join(dir, "mirror")
	for _, c := range []struct {
		from    string
		several bool
		want    string // empty for a refusal
	}{
		{"https://m.test", true, "https://m.test/shards/2026"},
		{"https://m.test/", false, "https://m.test/shards/2026"},
		{"http://m.test/shards/old", false, "http://m.test/shards/old"},
		{"http://m.test/shards/old", true, ""},
		{mirrored, true, "file:" + mirrored + "/2026"},
		{"file:" + mirrored, false, "file:" + mirrored + "/2026"},
		{dir, false, "file:" + dir},
		{dir, true, ""},
		{"s3://b?prefix=a/", false, "s3://b?prefix=a/"},
		{"s3://b", true, ""},
		{filepath.Join(dir, "missing"), false, ""},
		{"ftp://m.test", false, ""},
	} {
		got, err := sourceOf(c.from, "2026", c.several)
		if got != c.want || (err == nil) != (c.want != "") || err != nil && !strings.HasPrefix(err.Error(), "from: ") {
			t.Errorf("%s, several %t: %q, %v, want %q", c.from, c.several, got, err, c.want)
		}
	}
	if at, err := sourceOf("", "2026", true); at != "" || err != nil {
		t.Errorf("none named: %q, %v", at, err)
	}
}

func TestCopyPlace(t *testing.T) {
	for data, want := range map[string]string{
		"m": "file:m/1", "file:/m": "file:/m/1", "s3://b": "s3://b?prefix=1%2F",
		"s3://b?region=r&prefix=a/": "s3://b?prefix=a%2F1%2F&region=r",
	} {
		if got, err := copyPlace(data, "1"); err != nil || got != want {
			t.Errorf("%s: %q, %v, want %q", data, got, err, want)
		}
	}
}

// TestSetAside: a store is renamed, never written over.
func TestSetAside(t *testing.T) {
	dir := t.TempDir()
	place := config.Shard{Store: "pebble:" + filepath.Join(dir, "store")}
	for _, content := range []string{"first", "second"} {
		if err := makeFolder(filepath.Join(dir, "store")); err != nil {
			t.Fatal(err)
		}
		if err := writeNew(filepath.Join(dir, "store", "f"), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := setAside(place); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]string{"store.aside-1": "first", "store.aside-2": "second"} {
		if raw, err := os.ReadFile(filepath.Join(dir, name, "f")); err != nil || string(raw) != want {
			t.Errorf("%s holds %q, %v", name, raw, err)
		}
	}
	if err := setAside(place); err != nil {
		t.Errorf("a store that is not there: %v", err)
	}
	if err := setAside(config.Shard{Store: "postgres://a@b/c"}); err == nil || !strings.HasPrefix(err.Error(), "empty-store: ") {
		t.Errorf("a database: %v", err)
	}
}

// TestRegisterInUse: a register with another record is not taken for a new one.
func TestRegisterInUse(t *testing.T) {
	first := register.Record{Origin: "log.test/a/1", Root: [32]byte{1}}
	for name, c := range map[string]struct {
		there register.Record
		ok    bool
	}{
		"the same":         {first, true},
		"another shard's":  {register.Record{Origin: "log.test/a/2", Root: [32]byte{1}}, false},
		"one with entries": {register.Record{Origin: "log.test/a/1", Size: 7, Root: [32]byte{2}}, false},
	} {
		r, err := register.OpenFile(filepath.Join(t.TempDir(), "register"))
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Create(t.Context(), c.there); err != nil {
			t.Fatal(err)
		}
		if err := createRegister(t.Context(), r, first); (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
		if got, err := r.Read(t.Context()); err != nil || got != c.there {
			t.Errorf("%s: now %+v, %v", name, got, err)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestAdminSocket: whether a process has the log is seen at its socket.
func TestAdminSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "admin", "socket")
	listener, err := socket.Listen(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	if err := checkNobody(t.Context(), path); err == nil || !strings.Contains(err.Error(), "stop the log first") {
		t.Errorf("a process has it: %v", err)
	}
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	if err := checkNobody(t.Context(), path); err != nil {
		t.Errorf("nobody has it: %v", err)
	}
	if _, err := askRollover(t.Context(), path, false); !errors.Is(err, errNotRunning) {
		t.Errorf("asked of nobody: %v", err)
	}
}

// TestWithShard: both files get the keys once, behind those of the others.
func TestWithShard(t *testing.T) {
	l, s := newData(t)
	read := func(path string) []byte {
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	policy, sidecar := read(l.policy()), read(l.sidecar())
	origin := s.Log + "/2"
	keys, err := makeLogKeys(t.TempDir(), origin)
	if err != nil {
		t.Fatal(err)
	}
	const url = "http://log.test/shards/2"
	text, trust, err := withShard(policy, sidecar, origin, keys, url)
	if err != nil {
		t.Fatal(err)
	}
	old := strings.SplitAfter(string(policy), "\n")
	added := []string{"log " + keys[0] + " " + url + "\n", "log " + keys[1] + " " + url + "\n"}
	if want := strings.Join(slices.Insert(old, 2, added...), ""); string(text) != want {
		t.Errorf("policy:\n%s\nwant:\n%s", text, want)
	}
	// Whatever a crash left half done comes out the same.
	half := strings.Replace(string(text), added[1], "", 1)
	for name, c := range map[string][2][]byte{
		"both done": {text, trust}, "policy done": {text, sidecar}, "sidecar done": {policy, trust}, "one key": {[]byte(half), sidecar},
	} {
		gotText, gotTrust, err := withShard(c[0], c[1], origin, keys, url)
		if err != nil || !bytes.Equal(gotText, text) || !bytes.Equal(gotTrust, trust) {
			t.Errorf("%s: %v\n%s\n%s", name, err, gotText, gotTrust)
		}
	}
	other, err := makeLogKeys(t.TempDir(), origin)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		policy, sidecar string
		keys            []string
	}{
		"other keys":     {string(text), string(trust), other},
		"no policy":      {"", string(sidecar), keys},
		"sidecar null":   {string(policy), "null", keys},
		"sidecar broken": {string(policy), "{", keys},
		"keys no list":   {string(policy), `{"requiredLogKeys":7}`, keys},
	} {
		if _, _, err := withShard([]byte(c.policy), []byte(c.sidecar), origin, c.keys, url); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}

	// A witness that follows the log list is told by it.
	path := l.witness(1, "witness.json")
	listing := read(path)
	if err := followShard(path, origin, keys); err != nil || !slices.Equal(listing, read(path)) {
		t.Errorf("with a log list: %v", err)
	}
	known, err := config.ParseWitness(listing)
	if err != nil || len(known.LogLists) != 1 || len(known.Peers) != 2 || known.Logs[0].URL != "http://127.0.0.1:8080/shards/1" {
		t.Fatalf("%+v, %v", known, err)
	}
	known.LogLists = nil
	older, err := json.Marshal(known)
	if err != nil {
		t.Fatal(err)
	}
	if err := replace(path, older, 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := followShard(path, origin, keys); err != nil {
			t.Fatal(err)
		}
	}
	c, err := config.ParseWitness(read(path))
	if err != nil || len(c.Logs) != 2 || c.Logs[1].Origin != origin || !slices.Equal(c.Logs[1].Keys, keys) {
		t.Errorf("%+v, %v", c, err)
	}
	before := read(path)
	if err := followShard(path, origin, other); err == nil || !slices.Equal(before, read(path)) {
		t.Errorf("other keys: %v", err)
	}
}

// TestFirstLayout: a log of the time when there was one shard starts, and its
// shards go on behind it.
func TestFirstLayout(t *testing.T) {
	l, s := newData(t)
	for from, to := range map[string]string{
		"shards/1/store": "store", "shards/1/tiles": "tiles", "registers/1": "register/register",
		"shards/1/keys/log-ed25519.key": "keys/log-ed25519.key", "shards/1/keys/log-mldsa44.key": "keys/log-mldsa44.key",
	} {
		if err := makeFolder(filepath.Dir(l.path(to))); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(l.path(from), l.path(to)); err != nil {
			t.Fatal(err)
		}
	}
	old := `{"log":"` + s.Log + `","origin":"` + s.Shards[0].Origin + `","operator":"x","witnesses":["` + strings.Join(s.Witnesses, `","`) + `"]}`
	if err := replace(l.settings(), []byte(old), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{l.logList(), l.key(listKey)} { // they came later
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	p := &program{now: time.Now}
	if _, err := p.announce(t.Context(), l, "2", shardOptions{}); err != nil {
		t.Fatal(err)
	}
	s, err := l.readSettings()
	if err != nil {
		t.Fatal(err)
	}
	startWitnesses(t, l, s)
	e, err := openEngine(t.Context(), l, s, time.Now, quiet())
	if err != nil {
		t.Fatal(err)
	}
	defer e.close()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- e.run(ctx) }()
	await(t, "the log is ready", func() bool { return e.ready() == nil })
	if a, b := e.list.shard(s.Shards[0].Origin), e.list.shard(s.Shards[1].Origin); a == nil || b == nil {
		t.Errorf("the list names %v and %v", a, b)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestAnnounceOfARunningLog: a process that has the log keeps the announcement
// out, with a register that has a lock or not.
func TestAnnounceOfARunningLog(t *testing.T) {
	l, s := newData(t)
	p := &program{now: time.Now}
	refused := func(name string) {
		t.Helper()
		if _, err := p.announce(t.Context(), l, "2", shardOptions{}); err == nil || !strings.Contains(err.Error(), "stop the log first") {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := os.Stat(l.path("shards", "2")); err == nil {
			t.Errorf("%s: something was made", name)
		}
	}
	r, err := openRegister(t.Context(), s.Shards[0].Under(l.dir))
	if err != nil {
		t.Fatal(err)
	}
	refused("register locked")
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	var listener net.Listener
	if listener, err = socket.Listen(t.Context(), l.admin()); err != nil {
		t.Fatal(err)
	}
	refused("socket answers")
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
}
