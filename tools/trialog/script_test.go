package main

import (
	"encoding/hex"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/trialog/trialog/api/client/clienttest"
	"github.com/trialog/trialog/tools/trialog/folder"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"trialog": main,
	})
}

// logKey is where a script keeps its log.
type logKey struct{}

// TestScripts runs the program as people do. Each script has a log of its own,
// an empty folder with files to submit, and the commands below.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			log := clienttest.New()
			server := httptest.NewServer(anchoring(log))
			env.Defer(server.Close)
			env.Values[logKey{}] = log
			env.Setenv("SERVER", server.URL)
			env.Setenv("TERM", "dumb")
			text, sidecar := log.Policy()
			for name, data := range map[string][]byte{
				"pinned.policy": text, "pinned.policy.json": sidecar, "token.txt": []byte(clienttest.Token + "\n"),
			} {
				if err := os.WriteFile(filepath.Join(env.WorkDir, name), data, 0o600); err != nil {
					return err
				}
			}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"fault":     fault,
			"documents": documents,
			"size":      size,
			"stored":    stored,
			"asked":     asked,
			"held":      held,
			"release":   func(ts *testscript.TestScript, _ bool, _ []string) { logOf(ts).Release() },
			"rival":     rival,
			"code":      exitCode,
			"mode":      mode,
			"corrupt":   corrupt,
			"plain":     plainWords,

			"fingerprint": fingerprint,
		},
	})
}

func logOf(ts *testscript.TestScript) *clienttest.Log { return ts.Value(logKey{}).(*clienttest.Log) }

// fault NAME… says what goes wrong with the next submissions.
func fault(ts *testscript.TestScript, _ bool, args []string) {
	list := make([]clienttest.Fault, len(args))
	for i, a := range args {
		list[i] = clienttest.Fault(a)
	}
	logOf(ts).Script(list...)
}

// documents STATUS makes uploads fail.
func documents(ts *testscript.TestScript, _ bool, args []string) {
	status, err := strconv.Atoi(args[0])
	ts.Check(err)
	logOf(ts).RefuseDocuments(status)
}

// size N requires N entries in the log.
func size(ts *testscript.TestScript, _ bool, args []string) {
	if got := strconv.Itoa(logOf(ts).Size()); got != args[0] {
		ts.Fatalf("the log has %s entries, expected %s", got, args[0])
	}
}

// stored N requires N documents in the log's store.
func stored(ts *testscript.TestScript, _ bool, args []string) {
	if got := strconv.Itoa(logOf(ts).Documents()); got != args[0] {
		ts.Fatalf("the log has %s documents, expected %s", got, args[0])
	}
}

// asked requires that the log was asked since the last time, ! that it was not.
func asked(ts *testscript.TestScript, neg bool, _ []string) {
	now := len(logOf(ts).Calls())
	before, _ := strconv.Atoi(ts.Getenv("ASKED"))
	ts.Setenv("ASKED", strconv.Itoa(now))
	if (now > before) == neg {
		ts.Fatalf("the log was asked %d times", now-before)
	}
}

// held waits until a submission is held by the log.
func held(ts *testscript.TestScript, _ bool, _ []string) {
	select {
	case <-logOf(ts).Held():
	case <-time.After(time.Minute):
		ts.Fatalf("nothing is held")
	}
}

// rival ORGANISATION TRIAL KEYFILE lets another program with the same key be
// quicker.
func rival(ts *testscript.TestScript, _ bool, args []string) {
	key, err := folder.ReadKey(ts.MkAbs(args[2]))
	ts.Check(err)
	ts.Check(logOf(ts).Say(args[0], args[1], key))
}

// code N COMMAND… requires an exit code.
func exitCode(ts *testscript.TestScript, _ bool, args []string) {
	err := ts.Exec(args[1], args[2:]...)
	got := "0"
	if err != nil {
		got = strings.TrimPrefix(err.Error(), "exit status ")
	}
	if got != args[0] {
		ts.Fatalf("exit code %s, expected %s", got, args[0])
	}
}

// mode OCTAL FILE requires permissions.
func mode(ts *testscript.TestScript, _ bool, args []string) {
	info, err := os.Stat(ts.MkAbs(args[1]))
	ts.Check(err)
	if got := strconv.FormatUint(uint64(info.Mode().Perm()), 8); got != args[0] {
		ts.Fatalf("%s has mode %s, expected %s", args[1], got, args[0])
	}
}

// corrupt FILE changes one character of a long base64 text in a file.
func corrupt(ts *testscript.TestScript, _ bool, args []string) {
	path := ts.MkAbs(args[0])
	raw, err := os.ReadFile(path)
	ts.Check(err)
	at := regexp.MustCompile(`"entry": "[A-Za-z0-9+/]{200}`).FindIndex(raw)
	if at == nil {
		ts.Fatalf("%s has no entry", args[0])
	}
	raw[at[1]-1] = map[bool]byte{true: 'B', false: 'A'}[raw[at[1]-1] == 'A']
	ts.Check(os.WriteFile(path, raw, 0o644))
}

var vocabulary = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`(?i)\b(sha-?256|ed25519|ml-dsa|ecdsa|merkle|digest|hash|nonce|leaf|cosign\w*|dsse|beacon|envelope|base64|hexadecimal)\b`)
})

// plain requires that stdout has no words of cryptographers, and no hashes but
// the policy's fingerprint.
func plainWords(ts *testscript.TestScript, _ bool, _ []string) {
	out := ts.ReadFile("stdout")
	if word := vocabulary().FindString(out); word != "" {
		ts.Fatalf("the output says %q", word)
	}
	for line := range strings.SplitSeq(out, "\n") {
		for word := range strings.FieldsSeq(line) {
			if b, err := hex.DecodeString(word); err == nil && len(b) == 32 && !strings.Contains(line, "fingerprint") {
				ts.Fatalf("the output has the hash %s", word)
			}
		}
	}
	if strings.Contains(out, "\x1b") {
		ts.Fatalf("the output has colours")
	}
}
