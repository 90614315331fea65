package main

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/trialog/trialog/api/fsck/fscktest"
)

// sample is a log of 302 statements as files.
var sample = sync.OnceValues(func() (map[string][]byte, error) {
	log, err := fscktest.New(300)
	if err != nil {
		return nil, err
	}
	files, err := log.Files()
	if err != nil {
		return nil, err
	}
	all := map[string][]byte{"log.policy": log.Policy, "log.policy.json": log.Sidecar}
	for name, data := range files {
		all["log/"+name] = data
	}
	return all, nil
})

// TestFsckScripts runs "trialog fsck" over a real log in the folder log, which
// is served at $SERVER too, and is changed by the commands below.
func TestFsckScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 filepath.Join("testdata", "fsck"),
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			files, err := sample()
			if err != nil {
				return err
			}
			for name, data := range files {
				path := filepath.Join(env.WorkDir, filepath.FromSlash(name))
				if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
					return err
				}
				if err := os.WriteFile(path, data, 0o600); err != nil {
					return err
				}
			}
			server := httptest.NewServer(http.FileServer(http.Dir(filepath.Join(env.WorkDir, "log"))))
			env.Defer(server.Close)
			env.Setenv("SERVER", server.URL)
			env.Setenv("TERM", "dumb")
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"code": exitCode, "plain": plainWords, "flip": flipBit, "cut": cutFile,
		},
	})
}

// flip FILE BYTE BIT changes one bit of a file.
func flipBit(ts *testscript.TestScript, _ bool, args []string) {
	path := ts.MkAbs(args[0])
	data, err := os.ReadFile(path)
	ts.Check(err)
	at, err := strconv.Atoi(args[1])
	ts.Check(err)
	bit, err := strconv.Atoi(args[2])
	ts.Check(err)
	data[at] ^= 1 << bit
	ts.Check(os.WriteFile(path, data, 0o600))
}

// cut FILE SIZE cuts a file.
func cutFile(ts *testscript.TestScript, _ bool, args []string) {
	size, err := strconv.ParseInt(args[1], 10, 64)
	ts.Check(err)
	ts.Check(os.Truncate(ts.MkAbs(args[0]), size))
}
