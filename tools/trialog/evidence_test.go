package main

import (
	"crypto/rand"
	"encoding/json"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/client/clienttest"
)

// TestEvidenceScripts runs the program against a log that contradicts itself when
// it is told to. The policy is the pair pinned.policy; others.policy is of another
// log.
func TestEvidenceScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 filepath.Join("testdata", "evidence"),
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			log := clienttest.New()
			server := httptest.NewServer(log)
			env.Defer(server.Close)
			env.Values[logKey{}] = log
			env.Setenv("SERVER", server.URL)
			env.Setenv("TERM", "dumb")
			text, sidecar := log.Policy()
			others, err := othersPolicy(sidecar)
			if err != nil {
				return err
			}
			for name, data := range map[string][]byte{
				"pinned.policy": text, "pinned.policy.json": sidecar, "token.txt": []byte(clienttest.Token + "\n"),
				"others.policy": others[0], "others.policy.json": others[1],
			} {
				if err := os.WriteFile(filepath.Join(env.WorkDir, name), data, 0o600); err != nil {
					return err
				}
			}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"code":  exitCode,
			"plain": plainWords,
			// rewrite N, move N, lose N: how the log lies from now on.
			"rewrite": lie((*clienttest.Log).Rewrite),
			"move":    lie((*clienttest.Log).Move),
			"lose":    lie((*clienttest.Log).Lose),
		},
	})
}

func lie(how func(*clienttest.Log, int)) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, _ bool, args []string) {
		index, err := strconv.Atoi(args[0])
		ts.Check(err)
		how(logOf(ts), index)
	}
}

// othersPolicy is the two halves of a policy about another log.
func othersPolicy(sidecar []byte) ([2][]byte, error) {
	key, err := checkpoint.GenerateKey(rand.Reader, "log.example.org/others/2026", checkpoint.AlgEd25519)
	if err != nil {
		return [2][]byte{}, err
	}
	var trust map[string]any
	if err := json.Unmarshal(sidecar, &trust); err != nil {
		return [2][]byte{}, err
	}
	trust["log"], trust["operators"] = "log.example.org/others", map[string]string{}
	trust["requiredLogKeys"] = []string{key.Verifier().String()}
	raw, err := json.Marshal(trust)
	return [2][]byte{[]byte("log " + key.Verifier().String() + "\nquorum none\n"), raw}, err
}
