package main

import (
	"crypto/rand"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/trialog/trialog/api/checkpoint"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"trialog-witness": main})
}

// TestScripts runs the program as people do. $LOGKEY is a log's key.
func TestScripts(t *testing.T) {
	key, err := checkpoint.GenerateKey(rand.Reader, "log.test/2026", checkpoint.AlgEd25519)
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{Dir: "testdata", Setup: func(e *testscript.Env) error {
		e.Setenv("LOGKEY", key.Verifier().String())
		return nil
	}})
}
