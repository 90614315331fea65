package main

import (
	"os"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/trialog/trialog/api/trustbundle"
)

// fingerprint FILE sets FINGERPRINT to that of a trust bundle.
func fingerprint(ts *testscript.TestScript, _ bool, args []string) {
	raw, err := os.ReadFile(ts.MkAbs(args[0]))
	ts.Check(err)
	d, _, err := trustbundle.Open(raw)
	ts.Check(err)
	ts.Setenv("FINGERPRINT", d.Fingerprint())
}
