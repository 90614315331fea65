package sequencer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/services/internal/register"
	"github.com/trialog/trialog/services/sequencer/ledger"
)

// grown is a shard that has been stopped, with copies of its folder at three
// moments: early, halfway and at the end. Between them it was stopped too.
type grown struct {
	*world
	copies [3]string
	sizes  [3]uint64
}

// newGrown grows a shard whose documents begin with word, which makes another
// history of another word.
func newGrown(t *testing.T, word string) *grown {
	t.Helper()
	g := &grown{world: newWorld(t)}
	for i := range g.copies {
		if err := g.start(); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			g.enrol()
		}
		for n := range 3 {
			g.add(g.protocol("T1", fmt.Sprintf("%s%d%d", word, i, n)), g.admin)
		}
		g.sizes[i] = g.seq.Checkpoint().Checkpoint().Size
		if err := g.halt(); err != nil {
			t.Fatal(err)
		}
		g.copies[i] = filepath.Join(t.TempDir(), "copy")
		copyAll(t, g.dir, g.copies[i])
	}
	return g
}

func copyAll(t *testing.T, from, to string) {
	t.Helper()
	if err := os.RemoveAll(to); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(from)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err == nil && info.IsDir() {
		err = os.CopyFS(to, os.DirFS(from))
	} else if err == nil {
		var raw []byte
		if raw, err = os.ReadFile(from); err == nil {
			err = os.WriteFile(to, raw, 0o600)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
}

// restore puts parts of the folder back to how they were in a copy.
func (g *grown) restore(t *testing.T, copied string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		copyAll(t, filepath.Join(copied, part), filepath.Join(g.dir, part))
	}
}

func (g *grown) remove(t *testing.T, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if err := os.RemoveAll(filepath.Join(g.dir, part)); err != nil {
			t.Fatal(err)
		}
	}
}

func (g *grown) read(t *testing.T, part string) []byte {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(g.dir, part))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return raw
}

func (g *grown) write(t *testing.T, part string, data []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(g.dir, part), data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// honest makes the witnesses honest again when the test has ended.
func (g *grown) honest(t *testing.T) {
	t.Helper()
	truth := g.witness.last
	g.witness.last = slices.Clone(truth)
	t.Cleanup(func() {
		g.witness.last = truth
		clear(g.witness.down)
		clear(g.witness.lies)
	})
}

// registerAs writes a register of its own.
func (g *grown) registerAs(t *testing.T, change func(*register.Record)) {
	t.Helper()
	r, err := register.OpenFile(filepath.Join(g.dir, "register"))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	rec, err := r.Read(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	change(&rec)
	g.remove(t, "register")
	if err := r.Create(context.Background(), rec); err != nil {
		t.Fatal(err)
	}
}

// The parts of a shard's folder. What the log has signed lies with the tiles.
var (
	signedParts = []string{"tiles/candidate", "tiles/checkpoint"}
	tileParts   = []string{"tiles/tile", "tiles/tail"}
)

func TestRefusesToStart(t *testing.T) {
	g, other := newGrown(t, "a"), newGrown(t, "b")
	early, halfway := g.copies[0], g.copies[1]
	final := g.sizes[2]
	for _, tt := range []struct {
		name   string
		reason Reason
		damage func(t *testing.T)
	}{
		{"register missing", RegisterMissing, func(t *testing.T) { g.remove(t, "register") }},
		{"register damaged", Corrupt, func(t *testing.T) { g.write(t, "register", []byte("trialog-register@v1\n")) }},
		{"register empty", Corrupt, func(t *testing.T) { g.write(t, "register", nil) }},
		{"register of another origin", Fork, func(t *testing.T) {
			g.registerAs(t, func(r *register.Record) { r.Origin = testLog + "/2" })
		}},
		{"register sealed below the store's size", Fork, func(t *testing.T) {
			g.restore(t, halfway, "register")
			g.registerAs(t, func(r *register.Record) { r.Sealed = true })
		}},
		{"register sealed, checkpoint put back", Rollback, func(t *testing.T) {
			g.restore(t, halfway, signedParts...)
			g.registerAs(t, func(r *register.Record) { r.Sealed = true })
		}},
		{"register of another tree", Fork, func(t *testing.T) {
			g.registerAs(t, func(r *register.Record) { r.Root[0] ^= 1 })
		}},
		{"register put back, checkpoint ahead", Rollback, func(t *testing.T) { g.restore(t, halfway, "register") }},
		{"register put back, signed note ahead", Rollback, func(t *testing.T) {
			g.restore(t, halfway, "register", "tiles/checkpoint")
		}},
		{"register put back, witnesses ahead", Rollback, func(t *testing.T) {
			g.restore(t, halfway, append(signedParts, "register")...)
		}},
		{"everything put back, witnesses ahead", Rollback, func(t *testing.T) {
			g.restore(t, halfway, "register", "store", "tiles", "ledger")
		}},
		{"register put back to its beginning", Rollback, func(t *testing.T) {
			g.registerAs(t, func(r *register.Record) { *r = register.Record{Origin: testOrigin, Root: emptyRoot()} })
		}},
		{"register ahead of the store", Rollback, func(t *testing.T) {
			g.registerAs(t, func(r *register.Record) { r.Size++ })
		}},
		{"store put back", Rollback, func(t *testing.T) { g.restore(t, early, "store") }},
		{"store and ledger put back", Rollback, func(t *testing.T) { g.restore(t, early, "store", "ledger") }},
		{"store new", Rollback, func(t *testing.T) { g.remove(t, "store") }},
		{"store of another history", Fork, func(t *testing.T) { g.restore(t, other.copies[2], "store") }},
		{"store and tiles of another history", Fork, func(t *testing.T) {
			g.restore(t, other.copies[2], append(tileParts, "store")...)
		}},
		{"store and register put back, tiles ahead", Rollback, func(t *testing.T) {
			g.restore(t, halfway, append(signedParts, "store", "register", "ledger")...)
		}},
		{"all put back but the ledger", Rollback, func(t *testing.T) {
			g.restore(t, halfway, "store", "register", "tiles")
		}},
		{"tiles of another history", Fork, func(t *testing.T) { g.restore(t, other.copies[2], tileParts...) }},
		{"tiles put back, of another history", Fork, func(t *testing.T) { g.restore(t, other.copies[1], tileParts...) }},
		{"tiles without a head", Corrupt, func(t *testing.T) { g.remove(t, "tiles/tail/head") }},
		{"tiles with a wrong head", Corrupt, func(t *testing.T) { g.write(t, "tiles/tail/head", []byte("trialog-tiles/v1\n")) }},
		{"tiles lost behind their head", Corrupt, func(t *testing.T) {
			head := g.read(t, "tiles/tail/head")
			g.remove(t, tileParts...)
			if err := os.Mkdir(filepath.Join(g.dir, "tiles", "tail"), 0o700); err != nil {
				t.Fatal(err)
			}
			g.write(t, "tiles/tail/head", head)
		}},
		{"checkpoint damaged", Corrupt, func(t *testing.T) { g.write(t, "tiles/checkpoint", []byte("x")) }},
		{"checkpoint without cosignatures", Corrupt, func(t *testing.T) {
			g.write(t, "tiles/checkpoint", g.read(t, "tiles/candidate"))
		}},
		{"checkpoint of another origin", Corrupt, func(t *testing.T) {
			g.write(t, "tiles/checkpoint", g.foreign("other.test/trials/1", checkpoint.Checkpoint{Size: final}))
		}},
		{"checkpoint of another tree", Fork, func(t *testing.T) {
			g.write(t, "tiles/checkpoint", g.cosigned(checkpoint.Checkpoint{Origin: testOrigin, Size: final, Root: checkpoint.Hash{1}}, 1).Bytes())
		}},
		{"signed note of another tree", Fork, func(t *testing.T) {
			g.write(t, "tiles/candidate", g.cosigned(checkpoint.Checkpoint{Origin: testOrigin, Size: final, Root: checkpoint.Hash{1}}, 1).Bytes())
		}},
		{"a quorum of witnesses has another tree", Fork, func(*testing.T) {
			for i := range 2 {
				g.witness.last[i].Root[0] ^= 1
			}
		}},
		{"one witness is ahead, one does not answer", Rollback, func(*testing.T) {
			g.witness.lies[0], g.witness.down[1] = true, true
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g.restore(t, g.copies[2], "register", "store", "tiles", "ledger")
			g.honest(t)
			offered := maps.Clone(g.witness.offered)
			tt.damage(t)
			signed := g.read(t, "tiles/candidate")
			begin := time.Now()
			err := g.start()
			took := time.Since(begin)
			var refused *RefusedError
			if !errors.As(err, &refused) || refused.Reason != tt.reason {
				t.Fatalf("start: %v, expected reason %q", err, tt.reason)
			}
			if took > 5*time.Second {
				t.Errorf("it took %s to refuse", took)
			}
			g.answersRefused(t, tt.reason)
			_ = g.halt()
			if now := g.read(t, "tiles/candidate"); !bytes.Equal(now, signed) {
				t.Error("it has signed a note")
			}
			if !maps.Equal(g.witness.offered, offered) {
				t.Error("it has shown the witnesses a new body")
			}
		})
	}
}

// answersRefused: a sequencer that refuses takes nothing in, says why, and
// neither hangs nor falls over when it is read.
func (g *grown) answersRefused(t *testing.T, reason Reason) {
	t.Helper()
	ctx := context.Background()
	a, err := g.seq.Add(ctx, Request{Envelope: []byte("{}")})
	var refused *RefusedError
	if a != nil || !errors.Is(err, ErrNotReady) || !errors.As(err, &refused) || refused.Reason != reason {
		t.Errorf("Add: %+v, %v; expected ErrNotReady with reason %q", a, err, reason)
	}
	if err := g.seq.Ready(); !errors.As(err, &refused) {
		t.Errorf("Ready: %v", err)
	}
	id := g.chain["T1/"+g.admin.ID().String()].Previous
	if raw, _, err := g.seq.Find(ctx, id); err == nil {
		g.check(raw, "a22")
	}
	g.seq.Checkpoint()
}

func emptyRoot() [32]byte {
	return checkpoint.Hash(sum(""))
}

func TestHealsAtStart(t *testing.T) {
	g, other := newGrown(t, "a"), newGrown(t, "b")
	allTiles := append(slices.Clone(signedParts), tileParts...)
	for _, tt := range []struct {
		name   string
		damage func(t *testing.T)
	}{
		{"nothing", func(*testing.T) {}},
		{"tiles put back", func(t *testing.T) { g.restore(t, g.copies[0], tileParts...) }},
		{"tiles and signed notes put back", func(t *testing.T) { g.restore(t, g.copies[1], allTiles...) }},
		{"tiles and signed notes lost", func(t *testing.T) { g.remove(t, allTiles...) }},
		{"ledger lost", func(t *testing.T) { g.remove(t, "ledger") }},
		{"ledger put back", func(t *testing.T) { g.restore(t, g.copies[0], "ledger") }},
		// Nothing but its content tells it from this log's: names and sizes are the same.
		{"ledger of another log", func(t *testing.T) { g.restore(t, other.copies[2], "ledger") }},
		{"checkpoint lost", func(t *testing.T) { g.remove(t, "tiles/checkpoint") }},
		{"checkpoint put back", func(t *testing.T) { g.restore(t, g.copies[1], "tiles/checkpoint") }},
		{"checkpoint by witnesses that are no longer a quorum", func(t *testing.T) {
			n, err := checkpoint.Parse(g.read(t, "tiles/checkpoint"))
			if err != nil {
				t.Fatal(err)
			}
			few, err := checkpoint.NewNote(n.Text(), n.Signatures()[:len(g.logKeys)+1]...)
			if err != nil {
				t.Fatal(err)
			}
			g.write(t, "tiles/checkpoint", few.Bytes())
		}},
		{"signed note lost", func(t *testing.T) { g.remove(t, "tiles/candidate") }},
		{"signed note damaged", func(t *testing.T) { g.write(t, "tiles/candidate", []byte("x")) }},
		{"register halfway through", func(t *testing.T) { g.write(t, "register.new", []byte("trialog-reg")) }},
		{"one witness lies", func(*testing.T) { g.witness.lies[0] = true }},
		{"one witness has another tree", func(*testing.T) { g.witness.last[2].Root[0] ^= 1 }},
		{"one witness is down", func(*testing.T) { g.witness.down[1] = true }},
		{"one witness has forgotten", func(*testing.T) { g.witness.last[1] = checkpoint.Checkpoint{Origin: testOrigin, Root: emptyRoot()} }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g.restore(t, g.copies[2], "register", "store", "tiles", "ledger")
			g.honest(t)
			tt.damage(t)
			if err := g.start(); err != nil {
				t.Fatal(err)
			}
			id := g.chain["T1/"+g.admin.ID().String()].Previous
			p, err := g.seq.waitPublished(t.Context(), g.sizes[2]-1)
			if err != nil || p.size() != g.sizes[2] {
				t.Fatalf("published size %d, %v; expected %d", p.size(), err, g.sizes[2])
			}
			raw, index, err := g.seq.Find(t.Context(), id)
			if err != nil || index != g.sizes[2]-1 {
				t.Fatalf("find the last statement: index %d, %v", index, err)
			}
			g.check(raw, "a22")
			if err := g.halt(); err != nil {
				t.Fatal(err)
			}
			sameTiles(t, filepath.Join(g.copies[2], "tiles"), filepath.Join(g.dir, "tiles"))
			sameLedger(t, filepath.Join(g.copies[2], "ledger"), filepath.Join(g.dir, "ledger"), g.world)
		})
	}
}

// files reads the files of a folder that belong to the tiles themselves.
func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	list := map[string]string{}
	err := fs.WalkDir(os.DirFS(dir), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasPrefix(path, "tile/") && !strings.HasPrefix(path, "tail/") {
			return err
		}
		raw, err := os.ReadFile(filepath.Join(dir, path))
		list[path] = string(raw)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func sameTiles(t *testing.T, want, got string) {
	t.Helper()
	a, b := files(t, want), files(t, got)
	if len(a) < 3 || !maps.Equal(a, b) {
		t.Errorf("the tiles are not what they were: %d files, expected the same %d", len(b), len(a))
	}
}

func sameLedger(t *testing.T, want, got string, w *world) {
	t.Helper()
	read := func(dir string) (size uint64, head ledger.Head, key *ledger.Key) {
		l, err := ledger.Open(dir, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		size, err1 := l.Size()
		head, err2 := l.Chain("T1", w.admin.ID())
		key, err3 := l.Key(w.admin.ID())
		if err := errors.Join(err1, err2, err3); err != nil || key == nil {
			t.Fatal(key, err)
		}
		return size, head, key
	}
	s1, h1, k1 := read(want)
	s2, h2, k2 := read(got)
	if s1 != s2 || h1 != h2 || fmt.Sprint(*k1) != fmt.Sprint(*k2) || s1 == 0 {
		t.Errorf("ledger %d %+v %+v, expected %d %+v %+v", s2, h2, k2, s1, h1, k1)
	}
}

// TestWaitsForWitnesses: while a quorum is unasked nothing new is signed, and
// promises go on.
func TestWaitsForWitnesses(t *testing.T) {
	g := newGrown(t, "a")
	g.witness.setDown(true, true, false)
	bodies := g.witness.bodies()
	if err := g.start(); err != nil {
		t.Fatal(err)
	}
	env := g.sign(g.protocol("T1", "meanwhile"), g.admin)
	a, err := g.seq.Add(t.Context(), Request{Envelope: env.Bytes(), Beacon: g.beacon(), Pending: true})
	if err != nil || a.Promise == nil || a.Receipt != nil || a.Index != g.sizes[2] {
		t.Fatalf("answer %+v, %v; expected a promise", a, err)
	}
	if n := g.witness.bodies(); n != bodies {
		t.Error("a new body was signed before the witnesses were asked")
	}
	g.witness.setDown(false, false, false)
	b, err := g.seq.Add(t.Context(), Request{Envelope: env.Bytes()})
	if err != nil || b.Receipt == nil || b.Index != a.Index {
		t.Fatalf("answer %+v, %v; expected a receipt", b, err)
	}
	g.check(b.Receipt, "meanwhile")
}

// TestRollbackSeenLate: the witnesses answer only after the start; then too a
// register that was put back ends the sequencer.
func TestRollbackSeenLate(t *testing.T) {
	g := newGrown(t, "a")
	g.restore(t, g.copies[1], append(signedParts, "register")...)
	g.witness.setDown(true, true, true)
	bodies := g.witness.bodies()
	if err := g.start(); err != nil {
		t.Fatal(err)
	}
	g.witness.setDown(false, false, false)
	<-g.done
	var refused *RefusedError
	if !errors.As(g.err, &refused) || refused.Reason != Rollback {
		t.Errorf("ended with %v, expected %q", g.err, Rollback)
	}
	if n := g.witness.bodies(); n != bodies {
		t.Error("a new body was signed")
	}
}

func TestNewRefuses(t *testing.T) {
	w := newWorld(t)
	w.open()
	defer w.close()
	good := w.seq.c
	for name, change := range map[string]func(*Config){
		"no name of a log":     func(c *Config) { c.Log = "" },
		"another log's policy": func(c *Config) { c.Log = "other.test/trials" },
		"key of another origin": func(c *Config) {
			c.LogKeys = []*checkpoint.SigningKey{noteKey(t, 1, "x.test/1", checkpoint.AlgEd25519), c.LogKeys[1]}
		},
		"key that the policy does not name": func(c *Config) {
			c.LogKeys = []*checkpoint.SigningKey{noteKey(t, 99, testOrigin, checkpoint.AlgEd25519), c.LogKeys[1]}
		},
		"Ed25519 alone":              func(c *Config) { c.LogKeys = c.LogKeys[:1] },
		"ML-DSA-44 alone":            func(c *Config) { c.LogKeys = c.LogKeys[1:] },
		"promises by an unknown key": func(c *Config) { c.PendingKey = testKey(t, 99) },
	} {
		c := good
		change(&c)
		if s, err := New(c); err == nil || s != nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := New(good); err != nil {
		t.Errorf("as it was: %v", err)
	}
}
