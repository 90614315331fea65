package sequencer

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/entry"
	"github.com/trialog/trialog/api/receipt"
	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/services/internal/fault"
)

// killEnv names the folder that a child works in, killRound what is new in its
// statements.
const (
	killEnv   = "TRIALOG_TEST_SEQUENCER_CHILD"
	killRound = "TRIALOG_TEST_SEQUENCER_ROUND"
)

// journal is a client's memory: what it has submitted and what was acknowledged,
// one line each, on disk before anything else happens.
type journal struct {
	mu   sync.Mutex
	file *os.File
}

func openJournal(t testing.TB, dir string) *journal {
	t.Helper()
	cutLine(t, filepath.Join(dir, "journal"))
	f, err := os.OpenFile(filepath.Join(dir, "journal"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	return &journal{file: f}
}

// cutLine removes a last line that a kill has cut off. Nobody relied on it.
func cutLine(t testing.TB, path string) {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err == nil {
		err = os.Truncate(path, int64(bytes.LastIndexByte(raw, '\n')+1))
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
}

// add writes a line and syncs it.
func (j *journal) add(fields ...string) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if _, err := j.file.WriteString(strings.Join(fields, " ") + "\n"); err != nil {
		return err
	}
	return j.file.Sync()
}

// memory is what a journal says.
type memory struct {
	submitted []Request // without an acknowledgement, too
	open      []Request // without one
	answers   []Answer
}

func readJournal(t testing.TB, dir string) memory {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(dir, "journal"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	decode := func(s string) []byte {
		b, err := base64.StdEncoding.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	var m memory
	requests := map[statement.Identity]Request{}
	acked := map[statement.Identity]bool{}
	lines := strings.Split(string(raw), "\n")
	for _, line := range lines[:len(lines)-1] {
		f := strings.Split(line, " ")
		id, err := statement.ParseDigest(f[1])
		if err != nil {
			t.Fatal(err)
		}
		if f[0] == "submit" {
			r := Request{Envelope: decode(f[2]), Beacon: decode(f[3]), Granted: statement.Roles()}
			requests[id] = r
			m.submitted = append(m.submitted, r)
			continue
		}
		index, err := strconv.ParseUint(f[2], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		a := Answer{Identity: id, Index: index}
		if f[0] == "final" {
			a.Receipt = decode(f[3])
		} else {
			a.Promise = decode(f[3])
		}
		acked[id] = true
		m.answers = append(m.answers, a)
	}
	for id, r := range requests {
		if !acked[id] {
			m.open = append(m.open, r)
		}
	}
	return m
}

// persistWitnesses lets the witnesses of w write down what they cosign, before
// they answer, and go on from there.
func persistWitnesses(w *world) {
	w.t.Helper()
	for i := range w.witness.keys {
		path := filepath.Join(w.dir, fmt.Sprint("witness", i))
		cutLine(w.t, path)
		for _, c := range readWitness(w.t, path) {
			w.witness.see(c)
			if c.Size < w.witness.last[i].Size {
				w.t.Errorf("witness %d went back from size %d to %d", i, w.witness.last[i].Size, c.Size)
			}
			w.witness.last[i] = c
		}
	}
	w.witness.cosigned = func(i int, c checkpoint.Checkpoint) {
		f, err := os.OpenFile(filepath.Join(w.dir, fmt.Sprint("witness", i)), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err == nil {
			_, err = fmt.Fprintf(f, "%d %x\n", c.Size, c.Root)
			err = errors.Join(err, f.Close())
		}
		if err != nil {
			w.t.Error(err)
		}
	}
}

func readWitness(t testing.TB, path string) []checkpoint.Checkpoint {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	var list []checkpoint.Checkpoint
	lines := strings.Split(string(raw), "\n")
	for _, line := range lines[:len(lines)-1] {
		size, root, _ := strings.Cut(line, " ")
		n, err := strconv.ParseUint(size, 10, 64)
		h, err2 := hex.DecodeString(root)
		if err != nil || err2 != nil || len(h) != 32 {
			t.Fatalf("line %q", line)
		}
		list = append(list, checkpoint.Checkpoint{Origin: testOrigin, Size: n, Root: checkpoint.Hash(h)})
	}
	return list
}

// client submits and writes its journal.
type client struct {
	w *world
	j *journal
}

func (c client) submit(r Request) error {
	env, stmt, err := statement.Parse(r.Envelope)
	if err != nil {
		return err
	}
	id := stmt.Identity(env.Payload).String()
	b64 := base64.StdEncoding.EncodeToString
	if err := c.j.add("submit", id, b64(r.Envelope), b64(r.Beacon)); err != nil {
		return err
	}
	add := c.w.seq.Add
	if id[0] < '8' { // half of them through streams
		add = func(ctx context.Context, r Request) (*Answer, error) { return addByStream(ctx, c.w.seq, r) }
	}
	a, err := add(context.Background(), r)
	if err != nil {
		return err
	}
	if a.Receipt != nil {
		return c.j.add("final", id, strconv.FormatUint(a.Index, 10), b64(a.Receipt))
	}
	return c.j.add("pending", id, strconv.FormatUint(a.Index, 10), b64(a.Promise))
}

// TestKillChild is a shard with clients that submit without end.
func TestKillChild(t *testing.T) {
	dir := os.Getenv(killEnv)
	if dir == "" {
		return // run by the tests below, in a process of its own
	}
	w := newWorldIn(t, dir)
	persistWitnesses(w)
	if err := w.start(); err != nil {
		t.Fatal(err)
	}
	c := client{w, openJournal(t, dir)}
	for _, r := range readJournal(t, dir).open {
		if err := c.submit(r); err != nil {
			t.Fatalf("submit again: %v", err)
		}
	}
	if known, err := w.seq.Ledger().Key(w.admin.ID()); err != nil {
		t.Fatal(err)
	} else if known == nil {
		s, keys := enrolment{org: "acme", key: w.admin, roles: []string{"sponsor", "admin"}, recovery: w.recovery}.draft(w)
		if err := c.submit(Request{Envelope: w.sign(s, keys...).Bytes(), Granted: statement.Roles()}); err != nil {
			t.Fatal(err)
		}
	}
	round := os.Getenv(killRound)
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			for n := 0; ; n++ {
				r := w.newTrial(fmt.Sprintf("K%s.%d.%d", round, i, n))
				r.Pending = n%3 == 0
				if err := c.submit(r); err != nil {
					t.Error(err)
					return
				}
				fmt.Println("ack") // the parent counts
			}
		})
	}
	wg.Wait()
}

// child runs a child until it dies. If acks is not 0, it is killed after so many
// acknowledgements.
func child(t *testing.T, binary, dir, round, failpoint string, acks int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, "-test.run=^TestKillChild$")
	cmd.Env = append(os.Environ(), killEnv+"="+dir, killRound+"="+round, fault.Variable+"="+failpoint)
	out, err := cmd.StdoutPipe()
	if err == nil {
		cmd.Stderr = cmd.Stdout
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	var said []string
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if lines.Text() != "ack" {
			said = append(said, lines.Text())
			continue
		}
		acks--
		if acks == 0 {
			if err := cmd.Process.Kill(); err != nil {
				t.Error(err)
			}
		}
	}
	err = cmd.Wait()
	if ctx.Err() != nil {
		t.Fatalf("nothing has killed the child: %s", said)
	}
	if err == nil || err.Error() != "signal: killed" || len(said) > 0 {
		t.Fatalf("the child ended with %v: %s", err, said)
	}
}

// audit starts the shard in this process, resolves what the clients do not
// know, and holds the log against everything that was ever acknowledged.
func audit(t *testing.T, dir string) {
	t.Helper()
	w := newWorldIn(t, dir)
	persistWitnesses(w)
	if err := w.start(); err != nil {
		t.Fatalf("it does not start again: %v", err)
	}
	j := openJournal(t, dir)
	for _, r := range readJournal(t, dir).open {
		if err := (client{w, j}).submit(r); err != nil {
			t.Fatalf("submit again: %v", err)
		}
	}
	m := readJournal(t, dir)
	var entries uint64
	indexes, holders := map[statement.Identity]uint64{}, map[uint64]statement.Identity{}
	for _, a := range m.answers {
		if at, ok := indexes[a.Identity]; ok && at != a.Index {
			t.Errorf("one statement was acknowledged at %d and %d", at, a.Index)
		}
		if id, ok := holders[a.Index]; ok && id != a.Identity {
			t.Errorf("two statements were acknowledged at %d", a.Index)
		}
		indexes[a.Identity], holders[a.Index] = a.Index, a.Identity
		entries = max(entries, a.Index+1)
	}
	p, err := w.seq.waitPublished(t.Context(), entries-1)
	if err != nil {
		t.Fatal(err)
	}
	// Nothing is in the log that nobody has submitted, and nothing twice.
	if p.size() != uint64(len(indexes)) || p.size() != entries {
		t.Errorf("the log has %d entries; %d statements were acknowledged, up to index %d", p.size(), len(indexes), entries)
	}
	for _, a := range m.answers {
		var leaf statement.Digest
		if a.Receipt != nil {
			w.check(a.Receipt, "")
			r, err := receipt.Parse(a.Receipt)
			if err != nil {
				t.Fatal(err)
			}
			leaf = entry.LeafHash(r.Entry)
		} else {
			promise, err := receipt.ParsePending(a.Promise, w.pending.Public())
			if err != nil {
				t.Fatal(err)
			}
			leaf = promise.LeafHash
		}
		if got, err := p.tree.LeafHash(t.Context(), a.Index); err != nil || got != leaf {
			t.Errorf("index %d holds another leaf than was acknowledged: %v", a.Index, err)
		}
	}
	t.Logf("%d acknowledgements, %d entries", len(m.answers), p.size())
	if err := w.halt(); err != nil {
		t.Errorf("it ended with %v", err)
	}
}

// places finds the names of all failpoints in the code.
func places(t *testing.T) []string {
	t.Helper()
	var names []string
	for _, pattern := range []string{"*.go", "ledger/*.go", "../internal/commit/*.go", "../internal/register/file.go"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			raw, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range regexp.MustCompile(`fault\.Hit\("([a-z.]+)"\)`).FindAllStringSubmatch(string(raw), -1) {
				names = append(names, m[1])
			}
		}
	}
	slices.Sort(names)
	if len(names) < 13 || len(slices.Compact(slices.Clone(names))) != len(names) {
		t.Fatalf("places %v", names)
	}
	return names
}

// TestKilledAtEachPlace kills the process at each step border of the pipeline.
func TestKilledAtEachPlace(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "faults.test")
	if out, err := exec.CommandContext(t.Context(), "go", "test", "-c", "-tags", "faults", "-o", binary, ".").CombinedOutput(); err != nil {
		t.Fatalf("build the tests with failpoints: %v: %s", err, out)
	}
	dir := t.TempDir()
	for i, place := range places(t) {
		if strings.HasPrefix(place, "seal.") {
			continue // this shard does not end
		}
		for _, at := range []string{"1", "4"} {
			child(t, binary, dir, fmt.Sprint(i, "-", at), place+"=kill@"+at, 0)
		}
	}
	audit(t, dir)
}

// TestKilledAtRandom kills the process under load, at moments that nobody
// chooses.
func TestKilledAtRandom(t *testing.T) {
	rounds := 20
	if testing.Short() {
		rounds = 3
	}
	dir := t.TempDir()
	rng := rand.New(rand.NewPCG(2, 7))
	for i := range rounds {
		child(t, os.Args[0], dir, strconv.Itoa(i), "", 1+rng.IntN(80))
	}
	audit(t, dir)
}
