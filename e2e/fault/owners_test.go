package fault

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/receipt"
	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/e2e/harness"
	"github.com/trialog/trialog/internal/pgtest"
)

// sightings are all the checkpoints of a shard that anybody has seen.
type sightings struct {
	t    *testing.T
	work sync.WaitGroup

	mu    sync.Mutex
	roots map[uint64]checkpoint.Hash
	notes int // differing ones
	seen  map[[sha256.Size]byte]bool
	back  map[string]int // how often an older one came behind a newer one
}

func newSightings(t *testing.T) *sightings {
	t.Helper()
	return &sightings{t: t, roots: map[uint64]checkpoint.Hash{}, seen: map[[sha256.Size]byte]bool{}, back: map[string]int{}}
}

// add notes a checkpoint. Two roots at one size are a fork.
func (s *sightings) add(from string, raw []byte) {
	digest := sha256.Sum256(raw)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.seen[digest] {
		return
	}
	s.seen[digest] = true
	n, err := checkpoint.Parse(raw)
	if err != nil {
		s.t.Errorf("%s: %v in %q", from, err, raw)
		return
	}
	s.notes++
	c := n.Checkpoint()
	if root, ok := s.roots[c.Size]; ok && root != c.Root {
		s.t.Errorf("%s: two roots at size %d: %s and %s", from, c.Size, root, c.Root)
	}
	s.roots[c.Size] = c.Root
}

// watch reads a checkpoint again and again until ctx ends.
func (s *sightings) watch(ctx context.Context, from string, read func(context.Context) ([]byte, error)) {
	s.work.Go(func() {
		var last []byte
		for ctx.Err() == nil {
			if raw, err := read(ctx); err == nil && !bytes.Equal(raw, last) {
				s.add(from, raw)
				s.compare(from, last, raw)
				last = raw
			}
			select {
			case <-ctx.Done():
			case <-time.After(5 * time.Millisecond): // between two looks
			}
		}
	})
}

// compare counts the times when a place showed an older checkpoint than before.
func (s *sightings) compare(from string, before, now []byte) {
	was, err := checkpoint.Parse(before)
	if err != nil {
		return // nothing was seen there yet
	}
	is, err := checkpoint.Parse(now)
	if err == nil && is.Checkpoint().Size < was.Checkpoint().Size {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.back[from]++
		s.t.Logf("%s: behind size %d comes size %d", from, was.Checkpoint().Size, is.Checkpoint().Size)
	}
}

// fetch reads a checkpoint over HTTP. A process that was stopped does not answer.
func fetch(url string) func(context.Context) ([]byte, error) {
	client := &http.Client{Timeout: 250 * time.Millisecond, Transport: &http.Transport{DisableKeepAlives: true}}
	return func(ctx context.Context) ([]byte, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
		if err != nil {
			return nil, err
		}
		resp, err := client.Do(req)
		if err != nil {
			return nil, err
		}
		raw, err := io.ReadAll(resp.Body)
		if err := errors.Join(err, resp.Body.Close()); err != nil {
			return nil, err
		}
		if resp.StatusCode != http.StatusOK {
			return nil, fmt.Errorf("status %d", resp.StatusCode)
		}
		return raw, nil
	}
}

func readFile(path string) func(context.Context) ([]byte, error) {
	return func(context.Context) ([]byte, error) { return os.ReadFile(path) }
}

// owners are two programs that were set up to own one shard.
type owners struct {
	t       *testing.T
	random  *rand.Rand
	now     *harness.Log // the owner
	other   *harness.Log
	door    *harness.Door
	tiles   string // folder
	load    *load
	seen    *sightings
	probe   *harness.Submitter
	refused int // how often an owner found that it is none any more
	both    int // how often no owner was left, and one was started again
	kept    int // how often the owner was quicker than the other one
}

// newOwners starts a log that was made, with a twin that is not started, and
// submitters that work.
func newOwners(t *testing.T, l *harness.Log, tiles string) *owners {
	t.Helper()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	twin := l.Twin()
	l.With("--witnesses-elsewhere")
	l.RunWitnesses()
	l.Start()
	o := &owners{
		t: t, random: rand.New(rand.NewPCG(seed, 0)), now: l, other: twin, door: harness.NewDoor(t, l), tiles: tiles, seen: newSightings(t),
	}
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(func() { cancel(); o.seen.work.Wait() })
	for name, url := range map[string]string{"the first owner": l.URL, "the second owner": twin.URL} {
		o.seen.watch(ctx, name, fetch(url+"/checkpoint"))
	}
	origin := sha256.Sum256([]byte(l.Policy().Trust().Log + "/1"))
	for n, address := range l.Witnesses() {
		o.seen.watch(ctx, fmt.Sprintf("witness %d", n+1), fetch("http://"+address+"/"+hex.EncodeToString(origin[:])+"/checkpoint"))
	}
	for _, object := range []string{"candidate", "checkpoint"} {
		o.seen.watch(ctx, object, readFile(filepath.Join(tiles, object)))
	}
	o.load = startLoadAt(t, l, o.door.URL, 4)
	o.probe = harness.NewSubmitter(t, l, "probe")
	if err := o.probe.At(o.door.URL).Enrol(ctx, l.Token("enrol")); err != nil {
		t.Fatal(err)
	}
	return o
}

// suspend stops the owner at a random moment of whatever it is doing.
func (o *owners) suspend() {
	o.load.await(o.random.IntN(40))
	timer := time.NewTimer(time.Duration(o.random.IntN(20_000)) * time.Microsecond)
	<-timer.C
	o.now.Suspend()
}

// swap makes the other one the owner, and leads the submitters there.
func (o *owners) swap() {
	o.now, o.other = o.other, o.now
	o.door.Lead(o.now)
}

// finish checks all that was seen and acknowledged.
func (o *owners) finish() {
	t := o.t
	t.Helper()
	o.load.await(20)
	o.load.end()
	o.load.settle(o.now)
	o.load.check(o.now)
	for _, a := range o.load.acks {
		if a.answer.State != "STATE_FINAL" {
			continue
		}
		r, err := receipt.Parse(a.answer.Receipt)
		if err != nil {
			t.Fatal(err)
		}
		o.seen.add("a receipt", r.Proof.Note.Bytes())
	}
	o.now.Stop()
	if out, err := o.now.Run("fsck", "--data", o.now.Dir); err != nil {
		t.Errorf("fsck: %v\n%s", err, out)
	}
	if o.seen.notes < 2 {
		t.Error("hardly a checkpoint was seen")
	}
	t.Logf("%d checkpoints at %d sizes seen; %d times one refused, %d times both, %d times the owner stayed it",
		o.seen.notes, len(o.seen.roots), o.refused, o.both, o.kept)
}

// TestTwoOwnersOfFiles has a second program try to own a shard on Pebble whose
// owner was stopped: it is refused while the owner lives, and goes on when the
// owner is dead. They take turns.
func TestTwoOwnersOfFiles(t *testing.T) {
	l := harness.NewLog(t)
	l.Init()
	o := newOwners(t, l, l.Part("tiles"))
	for range rounds(20) {
		o.suspend()
		o.other.Launch()
		if s := o.other.Await(20*time.Second, func(harness.State) bool { return false }); s.State != "ended" ||
			!strings.Contains(s.Detail, "owned") {
			t.Fatalf("a second owner beside a stopped one: %+v", s)
		}
		o.refused++
		o.other.Kill()
		o.now.Resume()
		o.load.await(4)
		o.suspend()
		o.now.Kill()
		o.other.Start()
		o.swap()
		o.load.await(4)
	}
	o.finish()
}

// TestTwoOwnersOfDatabase does the same where no lock holds: the server of
// PostgreSQL ends the sessions of an owner that does not move, and the register is
// an object. The owner that was stopped goes on before, or after, the other has
// begun, and never signs a thing.
func TestTwoOwnersOfDatabase(t *testing.T) {
	o, endSessions := newDatabaseOwners(t)
	for round := range rounds(20) {
		o.suspend()
		endSessions()
		if round%2 == 0 {
			o.takeOver()
		} else {
			o.race()
		}
	}
	o.finish()
}

// newDatabaseOwners makes owners whose store is a database, with a way to end the
// sessions of the one that holds it.
func newDatabaseOwners(t *testing.T, tags ...string) (o *owners, endSessions func()) {
	t.Helper()
	server, store := pgtest.New(t), harness.NewS3(t)
	database := server.Database(t)
	l := harness.NewLog(t, tags...).With("--store", database, "--tiles", store.Tiles(), "--register", store.Register())
	l.Init()
	return newOwners(t, l, store.TilesFolder()), func() {
		server.Exec(t, database, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
			WHERE datname = current_database() AND pid <> pg_backend_pid()`)
	}
}

// TestOwnerStoppedAtEachBorder stops the owner once at each border of the
// pipeline's steps, and lets it go on behind the one that took over.
func TestOwnerStoppedAtEachBorder(t *testing.T) {
	o, endSessions := newDatabaseOwners(t, "faults")
	for _, place := range borders() {
		o.now.Kill()
		o.now.Launch(fmt.Sprintf("TRIALOG_FAULT=%s=stop@3", place))
		o.now.AwaitSuspended()
		endSessions()
		o.takeOver()
		if o.refusesOr(o.now, 20) {
			t.Errorf("stopped at %s: when the first owner went on, the second one refused:\n%s", place, o.now.Output())
			o.now.Kill()
			o.now.Start()
		}
	}
	o.finish()
}

// takeOver has the other one begin while the owner does not move, and the owner
// go on afterwards.
func (o *owners) takeOver() {
	o.t.Helper()
	o.other.Start()
	o.swap()
	if refused := o.refusesOr(o.now, 4); refused {
		o.t.Fatalf("the only owner that moves refuses:\n%s", o.now.Output())
	}
	o.other.Resume()
	o.expel()
}

// race has the owner go on while the other one begins. One of them is the owner
// then. Or none, if each was first somewhere: then one is started again.
func (o *owners) race() {
	o.t.Helper()
	o.other.Launch()
	timer := time.NewTimer(time.Duration(o.random.IntN(800)) * time.Millisecond)
	<-timer.C
	o.now.Resume()
	s := o.other.Await(30*time.Second, func(s harness.State) bool { return s.State == "ready" || s.Reason == "owned" })
	if s.State != "ready" {
		o.other.Kill()
		if !o.refusesOr(o.now, 4) {
			o.kept++
			return
		}
		o.both++
		o.now.Kill()
		o.other.Start()
		o.swap()
		o.load.await(4)
		return
	}
	o.swap()
	for o.refusesOr(o.now, 4) {
		o.both++
		o.now.Kill()
		o.now.Start()
	}
	o.expel()
}

// refusesOr waits until n more acknowledgements have come in, or the log has
// ended, or refuses because another one owns the shard. It tells whether it has.
func (o *owners) refusesOr(l *harness.Log, n int) bool {
	o.t.Helper()
	want := o.load.count() + n
	s := l.Await(60*time.Second, func(s harness.State) bool { return s.Reason == "owned" || o.load.count() >= want })
	switch {
	case s.State == "ended" || s.Reason == "owned":
		return true
	case o.load.count() < want:
		o.t.Fatalf("the log neither refuses nor goes on: %+v\n%s", s, l.Output())
	}
	return false
}

// expel sends statements to the one that is no owner any more, until it knows. It
// takes none of them in.
func (o *owners) expel() {
	o.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for k := 0; ; k++ {
		x, err := o.probe.Say(statement.KindTrial, fmt.Sprintf("probe-%d-%d", o.refused, k), harness.OpenTrial)
		if err != nil {
			o.t.Fatal(err)
		}
		if a, err := o.probe.At(o.other.URL).Send(ctx, x, "WAIT_PENDING", ""); err == nil {
			o.t.Errorf("a log that was taken over took a statement in: %+v", a)
		}
		s := o.other.Await(100*time.Millisecond, func(s harness.State) bool { return s.Reason == "owned" })
		if s.State == "not-ready" && s.Reason != "owned" && s.Reason != "starting" {
			o.t.Fatalf("a log that was taken over says that it is %q\n%s", s.Reason, o.other.Output())
		}
		if s.State == "ended" || s.Reason == "owned" {
			break
		}
		if ctx.Err() != nil {
			o.t.Fatalf("a log that was taken over does not notice: %+v", s)
		}
	}
	o.refused++
	o.other.Kill()
}
