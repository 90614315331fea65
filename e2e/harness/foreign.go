package harness

import (
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/trialog/trialog/api/checkpoint"
)

// Omniwitness is a witness of another project (transparency-dev/witness).
type Omniwitness struct {
	URL  string
	Keys []*checkpoint.VerifierKey

	process

	address string
	command []string
}

// NewOmniwitness prepares a foreign witness of that name, with a key of each
// algorithm, that knows the log's first shard; Start starts it. What it has
// cosigned is in a file, so it can be killed and started again.
func NewOmniwitness(t testing.TB, l *Log, name string, algorithms ...checkpoint.Algorithm) *Omniwitness {
	t.Helper()
	program := Peer(t, "omniwitness", "github.com/transparency-dev/witness/cmd/omniwitness")
	dir := t.TempDir()
	o := &Omniwitness{process: newProcess(t, "omniwitness"), address: freeAddress(t)}
	o.URL = "http://" + o.address
	logs := filepath.Join(dir, "logs.yaml")
	// It knows one key a log, and an Ed25519 one.
	config := fmt.Sprintf("Logs:\n  - Origin: %s\n    URL: %s\n    PublicKey: %s\n", l.Origin(), l.URL, l.LogKey(checkpoint.AlgEd25519))
	if err := os.WriteFile(logs, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	o.command = []string{
		program, "--listen", o.address, "--metrics_listen", "", "--additional_logs", logs, "--db_file", filepath.Join(dir, "witness.db"),
	}
	for _, alg := range algorithms {
		k, err := checkpoint.GenerateKey(rand.Reader, name, alg)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, fmt.Sprintf("%d.key", len(o.Keys)+1))
		if err := os.WriteFile(path, []byte(k.Encode()), 0o600); err != nil {
			t.Fatal(err)
		}
		o.Keys = append(o.Keys, k.Verifier())
		o.command = append(o.command, "--private_key_path", path)
	}
	return o
}

// Start starts the witness and waits until it listens.
func (o *Omniwitness) Start() {
	o.t.Helper()
	o.launch(o.command, nil)
	o.awaitListening(o.address)
}
