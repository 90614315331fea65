package config

import (
	"encoding/json"
	"strings"
	"testing"
)

const goodWitness = `{
  "listen": "127.0.0.1:9000",
  "name": "witness.example/w1",
  "key_files": ["ed25519.key", "mldsa44.key"],
  "state_file": "witness.state",
  "logs": [
    {"origin": "log.example/1", "keys": ["log.example/1+00000000+AQ=="], "rate": {"per_minute": 60, "burst": 5}},
    {"origin": "log.example/2", "keys": ["log.example/2+00000000+AQ==", "log.example/2+00000001+AQ=="]}
  ]
}`

func TestParseWitness(t *testing.T) {
	c, err := ParseWitness([]byte(goodWitness))
	if err != nil {
		t.Fatal(err)
	}
	if c.Listen != "127.0.0.1:9000" || c.Name != "witness.example/w1" || len(c.KeyFiles) != 2 ||
		c.StateFile != "witness.state" || len(c.Logs) != 2 || c.Logs[0].Rate.PerMinute != 60 || c.Logs[1].Rate != nil {
		t.Errorf("got %+v", c)
	}
	raw, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ParseWitness(raw); err != nil {
		t.Errorf("what the operator would render does not parse: %v", err)
	}
}

func TestParseWitnessDefaultsListen(t *testing.T) {
	c, err := ParseWitness([]byte(strings.Replace(goodWitness, `"listen": "127.0.0.1:9000",`, "", 1)))
	if err != nil {
		t.Fatal(err)
	}
	if c.Listen != DefaultWitnessListen {
		t.Errorf("listen is %q, want %q", c.Listen, DefaultWitnessListen)
	}
}

func TestParseWitnessRejects(t *testing.T) {
	replace := func(old, with string) string {
		if !strings.Contains(goodWitness, old) {
			t.Fatalf("the good configuration has no %q", old)
		}
		return strings.Replace(goodWitness, old, with, 1)
	}
	for name, tc := range map[string]struct{ raw, field string }{
		"empty":             {"", "reading JSON"},
		"not an object":     {`[]`, "cannot unmarshal"},
		"null":              {`null`, "name"},
		"cut off":           {goodWitness[:len(goodWitness)-2], "reading JSON"},
		"trailing bytes":    {goodWitness + "{}", "after the object"},
		"unknown member":    {replace(`"listen"`, `"listne"`), "listne"},
		"other case":        {replace(`"listen"`, `"Listen"`), "Listen"},
		"duplicate member":  {replace(`"name"`, `"listen": "127.0.0.1:1", "name"`), "listen: duplicate"},
		"nested duplicate":  {replace(`"burst"`, `"per_minute": 1, "burst"`), "logs[0].rate.per_minute: duplicate"},
		"nested unknown":    {replace(`"burst"`, `"brust"`), "brust"},
		"listen":            {replace("127.0.0.1:9000", "127.0.0.1"), "listen"},
		"no name":           {replace("witness.example/w1", ""), "name"},
		"name with plus":    {replace("witness.example/w1", "a+b"), "name"},
		"name with space":   {replace("witness.example/w1", "a b"), "name"},
		"no key files":      {replace(`["ed25519.key", "mldsa44.key"]`, `[]`), "key_files"},
		"three key files":   {replace(`["ed25519.key", "mldsa44.key"]`, `["a","b","c"]`), "key_files"},
		"empty key file":    {replace(`"mldsa44.key"`, `""`), "key_files[1]"},
		"no state file":     {replace("witness.state", ""), "state_file"},
		"empty origin":      {replace(`"origin": "log.example/2"`, `"origin": ""`), "logs[1].origin"},
		"origin two lines":  {replace(`"origin": "log.example/2"`, `"origin": "a\nb"`), "logs[1].origin"},
		"origin twice":      {replace(`"origin": "log.example/2"`, `"origin": "log.example/1"`), "logs[1].origin"},
		"no keys":           {replace(`["log.example/1+00000000+AQ=="]`, `[]`), "logs[0].keys"},
		"not a key":         {replace("log.example/1+00000000+AQ==", "key"), "logs[0].keys[0]"},
		"private key":       {replace("log.example/1+00000000+AQ==", "PRIVATE+KEY+log+0+AQ=="), "logs[0].keys[0]"},
		"rate zero":         {replace(`"per_minute": 60`, `"per_minute": 0`), "logs[0].rate.per_minute"},
		"rate too high":     {replace(`"per_minute": 60`, `"per_minute": 60001`), "logs[0].rate.per_minute"},
		"burst negative":    {replace(`"burst": 5`, `"burst": -1`), "logs[0].rate.burst"},
		"rate not a number": {replace(`"per_minute": 60`, `"per_minute": "60"`), "per_minute"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ParseWitness([]byte(tc.raw))
			if err == nil {
				t.Fatal("accepted")
			}
			if !strings.Contains(err.Error(), tc.field) {
				t.Errorf("error %q does not name %q", err, tc.field)
			}
		})
	}
	if err := (&Witness{}).Validate(); err == nil {
		t.Error("the zero value is valid, but it names no witness")
	}
	noLogs := Witness{Name: "w", KeyFiles: []string{"k"}, StateFile: "s"}
	if err := noLogs.Validate(); err == nil || !strings.Contains(err.Error(), "logs") {
		t.Errorf("no logs: got %v", err)
	}
}
