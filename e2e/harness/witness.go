package harness

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/trialog/trialog/api/checkpoint"
)

// Witness is one of a log's own witnesses, "trialogd witness", as a process that
// the test starts and kills.
type Witness struct {
	Dir     string // of its keys, configuration and state
	Address string // host:port

	process

	program string
}

// RunWitnesses runs the log's witnesses as processes of their own until the test
// ends. The log must have been made, and be started with --witnesses-elsewhere.
func (l *Log) RunWitnesses() []*Witness {
	l.t.Helper()
	addresses := l.Witnesses()
	all := make([]*Witness, 0, len(addresses))
	for n, address := range addresses {
		w := &Witness{
			Dir: filepath.Join(l.Dir, fmt.Sprintf("witness-%d", n+1)), Address: address,
			process: newProcess(l.t, fmt.Sprintf("witness %d", n+1)), program: l.program,
		}
		w.Start()
		all = append(all, w)
	}
	return all
}

// NewWitness makes a witness, with keys of its own, that knows one log, which need
// not be ours.
func NewWitness(t testing.TB, name, origin string, logKeys ...string) *Witness {
	t.Helper()
	w := &Witness{Dir: t.TempDir(), Address: freeAddress(t), process: newProcess(t, name), program: Trialogd(t)}
	for file, alg := range map[string]checkpoint.Algorithm{
		ed25519Key: checkpoint.AlgEd25519Cosignature, mldsaKey: checkpoint.AlgMLDSA44,
	} {
		k, err := checkpoint.GenerateKey(rand.Reader, name, alg)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(w.Dir, file), []byte(k.Encode()+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	raw, err := json.Marshal(map[string]any{
		"listen": w.Address, "name": name, "key_files": []string{ed25519Key, mldsaKey}, "state_file": "witness.state",
		"logs": []any{map[string]any{"origin": origin, "keys": logKeys}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(w.Dir, "witness.json"), raw, 0o600); err != nil {
		t.Fatal(err)
	}
	return w
}

// Names of the files with a witness's keys.
const (
	ed25519Key = "ed25519.key"
	mldsaKey   = "mldsa44.key"
)

// Launch starts the witness and does not wait for anything.
func (w *Witness) Launch() {
	w.t.Helper()
	w.launch([]string{w.program, "witness", "--config", filepath.Join(w.Dir, "witness.json")}, nil)
}

// Start starts the witness and waits until it listens.
func (w *Witness) Start() {
	w.t.Helper()
	w.Launch()
	w.awaitListening(w.Address)
}

// StateFile is where the witness keeps what it has cosigned.
func (w *Witness) StateFile() string { return filepath.Join(w.Dir, "witness.state") }

// Keys reads the witness's private keys, Ed25519 first: who has them can lie in
// its name.
func (w *Witness) Keys() []*checkpoint.SigningKey {
	w.t.Helper()
	return readKeys(w.t, w.Dir, ed25519Key, mldsaKey)
}

// readKeys reads private keys, one a file.
func readKeys(t testing.TB, dir string, files ...string) []*checkpoint.SigningKey {
	t.Helper()
	keys := make([]*checkpoint.SigningKey, len(files))
	for i, file := range files {
		raw, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil {
			t.Fatal(err)
		}
		if keys[i], err = checkpoint.ParseSigningKey(strings.TrimSpace(string(raw))); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
	}
	return keys
}

// Follow has a witness that does not run follow the log's first shard alone, and
// ask nobody what it has cosigned before, but for what more says.
func (w *Witness) Follow(l *Log, more func(log, config map[string]any)) {
	w.t.Helper()
	editJSON(w.t, filepath.Join(w.Dir, "witness.json"), func(c map[string]any) {
		log := map[string]any{"origin": l.Origin(), "keys": []string{
			l.LogKey(checkpoint.AlgEd25519).String(), l.LogKey(checkpoint.AlgMLDSA44).String(),
		}}
		c["logs"] = []any{log}
		delete(c, "log_lists")
		delete(c, "peers")
		if more != nil {
			more(log, c)
		}
	})
}

// URL is how the policy names the witness.
func (w *Witness) URL() string { return "http://" + w.Address }

// Newest asks the witness's read interface for the newest checkpoint of an origin
// that it has cosigned; nil if there is none.
func (w *Witness) Newest(ctx context.Context, origin string) (*checkpoint.Note, error) {
	hash := sha256.Sum256([]byte(origin))
	status, body, err := get(ctx, w.URL()+"/"+hex.EncodeToString(hash[:])+"/checkpoint")
	switch {
	case err != nil:
		return nil, err
	case status == http.StatusNotFound:
		return nil, nil //nolint:nilnil // nothing was cosigned yet
	case status != http.StatusOK:
		return nil, fmt.Errorf("status %d: %s", status, body)
	}
	return checkpoint.Parse(body)
}

// impatient does not wait for ever for a process that was stopped.
var impatient = &http.Client{ //nolint:gochecknoglobals // it has no state but its connections
	Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true},
}

func get(ctx context.Context, url string) (status int, body []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return 0, nil, err
	}
	resp, err := impatient.Do(req)
	if err != nil {
		return 0, nil, err
	}
	body, err = io.ReadAll(resp.Body)
	return resp.StatusCode, body, errors.Join(err, resp.Body.Close())
}

// Published reads the published checkpoint of the log's first shard.
func (l *Log) Published(ctx context.Context) (*checkpoint.Note, error) {
	status, body, err := get(ctx, l.URL+"/checkpoint")
	if err != nil {
		return nil, err
	}
	if status != http.StatusOK {
		return nil, fmt.Errorf("status %d: %s", status, bytes.TrimSpace(body))
	}
	return checkpoint.Parse(body)
}

// Origin is the origin of the log's first shard.
func (l *Log) Origin() string {
	l.t.Helper()
	return l.Policy().Trust().Log + "/1"
}

// LogKey is the log's verifier key of one algorithm for the first shard.
func (l *Log) LogKey(alg checkpoint.Algorithm) *checkpoint.VerifierKey {
	l.t.Helper()
	for _, k := range l.Policy().Trust().RequiredLogKeys {
		if k.Algorithm() == alg && k.Name() == l.Origin() {
			return k
		}
	}
	l.t.Fatalf("the policy requires no %s key of the log", alg)
	return nil
}

// Configure changes what init decided. The log does not run.
func (l *Log) Configure(change func(c map[string]any)) {
	l.t.Helper()
	editJSON(l.t, filepath.Join(l.Dir, "trialog.json"), change)
}

// EditTrust changes the sidecar of the log's policy. The log does not run.
func (l *Log) EditTrust(change func(c map[string]any)) {
	l.t.Helper()
	editJSON(l.t, l.PolicyFile()+".json", change)
}

// AddWitness adds a witness, with all its keys, to the policy of a log that was
// made and does not run, as an operator of its own. group is its name there; the
// quorum does not count it before SetQuorum.
func (l *Log) AddWitness(group, operator, url string, keys ...*checkpoint.VerifierKey) {
	l.t.Helper()
	l.EditPolicy(func(policy string) string {
		var add strings.Builder
		members := make([]string, len(keys))
		for n, k := range keys {
			members[n] = fmt.Sprintf("%s-%d", group, n+1)
			fmt.Fprintln(&add, strings.TrimSpace(fmt.Sprintf("witness %s %s %s", members[n], k, url)))
		}
		fmt.Fprintf(&add, "group %s any %s\n", group, strings.Join(members, " "))
		head, tail, _ := strings.Cut(policy, "group operators ")
		return head + add.String() + "group operators " + tail
	})
	l.EditTrust(func(c map[string]any) {
		operators, _ := c["operators"].(map[string]any)
		operators[group] = operator
	})
}

// SetQuorum says which witnesses of the policy are enough: a threshold and
// groups, such as "2 witness-1 witness-2 foreign". The log does not run.
func (l *Log) SetQuorum(rule string) {
	l.t.Helper()
	l.EditPolicy(func(policy string) string {
		head, tail, _ := strings.Cut(policy, "group operators ")
		_, tail, _ = strings.Cut(tail, "\n")
		return head + "group operators " + rule + "\n" + tail
	})
}

// EditPolicy changes the text of the log's policy. The log does not run.
func (l *Log) EditPolicy(change func(policy string) string) {
	l.t.Helper()
	raw, err := os.ReadFile(l.PolicyFile())
	if err != nil {
		l.t.Fatal(err)
	}
	if err := os.WriteFile(l.PolicyFile(), []byte(change(string(raw))), 0o600); err != nil {
		l.t.Fatal(err)
	}
}

// editJSON changes a file that holds one object.
func editJSON(t testing.TB, path string, change func(c map[string]any)) {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var c map[string]any
	if err := dec.Decode(&c); err != nil {
		t.Fatal(err)
	}
	change(c)
	if raw, err = json.MarshalIndent(c, "", "  "); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
}
