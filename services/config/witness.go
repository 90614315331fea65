// Package config holds the configuration of the services, one struct a service,
// read from strict JSON. It imports nothing of this repository, so that the
// operator can render what the services read.
package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
)

// Witness is the configuration of one C2SP tlog-witness, `trialogd witness`.
//
// A complete file:
//
//	{
//	  "listen": "127.0.0.1:8090",
//	  "name": "witness.example.org/ethics",
//	  "key_files": ["ed25519.key", "mldsa44.key"],
//	  "state_file": "witness.state",
//	  "logs": [
//	    {
//	      "origin": "log.example.org/2026",
//	      "keys": ["log.example.org/2026+…", "log.example.org/2026+…"],
//	      "rate": {"per_minute": 120, "burst": 20}
//	    }
//	  ]
//	}
type Witness struct {
	// Listen is the TCP address of the add-checkpoint and read interface,
	// host:port. Empty means "127.0.0.1:8090": a witness is put behind a TLS
	// front end on purpose, never by default.
	Listen string `json:"listen,omitempty"`

	// Name is the cosigner name, the key name of each of the witness's keys
	// (C2SP tlog-cosignature). It SHOULD be a URL without a scheme.
	Name string `json:"name"`

	// KeyFiles are paths of files with one signing key each
	// ("PRIVATE+KEY+name+id+key"): one Ed25519 cosignature key (0x04), one
	// ML-DSA-44 key (0x06), or both, which is what new deployments should have.
	// The files are secret; the witness refuses one that others can read.
	KeyFiles []string `json:"key_files"`

	// StateFile is the path of the one file that holds what was cosigned. It is
	// created when it is absent. A witness that lost it or got back an old copy
	// can be made to cosign a fork: never restore it from a backup.
	StateFile string `json:"state_file"`

	// Logs are the logs that the witness follows; no other log is answered.
	Logs []WitnessLog `json:"logs"`
}

// WitnessLog is one log that a witness follows.
type WitnessLog struct {
	// Origin is the first line of the log's checkpoints.
	Origin string `json:"origin"`

	// Keys are the log's verifier keys ("name+id+key"), at least one. A
	// checkpoint needs a valid signature by one of them, and no failing
	// signature by any of them.
	Keys []string `json:"keys"`

	// Rate limits how often the log may have a grown tree cosigned. Absent
	// means no limit.
	Rate *WitnessRate `json:"rate,omitempty"`
}

// WitnessRate is a token bucket.
type WitnessRate struct {
	// PerMinute is how many new checkpoints a minute are cosigned in the long
	// run, 1 to 60,000.
	PerMinute int `json:"per_minute"`

	// Burst is how many may come at once. Zero means 1.
	Burst int `json:"burst,omitempty"`
}

// DefaultWitnessListen is where a witness listens when its configuration does
// not say.
const DefaultWitnessListen = "127.0.0.1:8090"

// maxWitnessRate keeps the interval between two checkpoints at a millisecond or
// more; a rate above it is a mistake in the file, not a limit.
const maxWitnessRate = 60_000

// ParseWitness reads a witness configuration from JSON and validates it.
// Unknown and duplicate members, members in another case, and anything behind
// the object are refused: a misspelt limit must not silently be no limit.
func ParseWitness(raw []byte) (*Witness, error) {
	if err := witnessMembers(raw); err != nil {
		return nil, fmt.Errorf("witness config: %w", err)
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	var c Witness
	if err := dec.Decode(&c); err != nil {
		return nil, fmt.Errorf("witness config: %w", err)
	}
	if c.Listen == "" {
		c.Listen = DefaultWitnessListen
	}
	if err := c.Validate(); err != nil {
		return nil, err
	}
	return &c, nil
}

// Validate says whether the configuration can be used. The error names the
// first field that cannot, and what was expected there. Keys are only looked at
// as text here; the witness parses them when it starts.
func (c *Witness) Validate() error {
	fail := func(field, format string, args ...any) error {
		return fmt.Errorf("witness config: %s: %s", field, fmt.Sprintf(format, args...))
	}
	if c.Listen != "" {
		if _, _, err := net.SplitHostPort(c.Listen); err != nil {
			return fail("listen", "expected host:port, got %q", c.Listen)
		}
	}
	if c.Name == "" || strings.ContainsAny(c.Name, "+ \t\r\n") {
		return fail("name", "expected a cosigner name without spaces and '+', got %q", c.Name)
	}
	if n := len(c.KeyFiles); n < 1 || n > 2 {
		return fail("key_files", "expected one or two key files, got %d", n)
	}
	for i, f := range c.KeyFiles {
		if f == "" {
			return fail(fmt.Sprintf("key_files[%d]", i), "expected a path, got nothing")
		}
	}
	if c.StateFile == "" {
		return fail("state_file", "expected a path, got nothing")
	}
	if len(c.Logs) == 0 {
		return fail("logs", "expected at least one log")
	}
	seen := make(map[string]int, len(c.Logs))
	for i := range c.Logs {
		at := fmt.Sprintf("logs[%d]", i)
		if field, problem := c.Logs[i].check(); problem != "" {
			return fail(at+"."+field, "%s", problem)
		}
		if first, twice := seen[c.Logs[i].Origin]; twice {
			return fail(at+".origin", "%q is the origin of logs[%d] already", c.Logs[i].Origin, first)
		}
		seen[c.Logs[i].Origin] = i
	}
	return nil
}

// check returns the field and what is wrong with it, or an empty problem.
func (l *WitnessLog) check() (field, problem string) {
	if l.Origin == "" || strings.ContainsAny(l.Origin, "\r\n") {
		return "origin", fmt.Sprintf("expected one non-empty line, got %q", l.Origin)
	}
	if len(l.Keys) == 0 {
		return "keys", "expected at least one verifier key"
	}
	for i, k := range l.Keys {
		if strings.Count(k, "+") < 2 || strings.HasPrefix(k, "PRIVATE+KEY+") {
			return fmt.Sprintf("keys[%d]", i), "expected a verifier key, name+id+key"
		}
	}
	if l.Rate == nil {
		return "", ""
	}
	if l.Rate.PerMinute < 1 || l.Rate.PerMinute > maxWitnessRate {
		return "rate.per_minute", fmt.Sprintf("expected 1 to %d, got %d", maxWitnessRate, l.Rate.PerMinute)
	}
	if l.Rate.Burst < 0 || l.Rate.Burst > maxWitnessRate {
		return "rate.burst", fmt.Sprintf("expected 0 to %d, got %d", maxWitnessRate, l.Rate.Burst)
	}
	return "", ""
}

// witnessMembers refuses what encoding/json lets through: duplicate members,
// member names in another case, and bytes behind the object.
func witnessMembers(raw []byte) error {
	dec := json.NewDecoder(bytes.NewReader(raw))
	if err := walkMembers(dec, ""); err != nil {
		return err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("unexpected bytes after the object")
	}
	return nil
}

// walkMembers reads one JSON value from dec; at is its path for messages.
func walkMembers(dec *json.Decoder, at string) error {
	tok, err := dec.Token()
	if err != nil {
		return fmt.Errorf("reading JSON: %w", err)
	}
	open, ok := tok.(json.Delim)
	if !ok {
		return nil
	}
	seen := make(map[string]bool)
	for i := 0; dec.More(); i++ {
		inner := fmt.Sprintf("%s[%d]", at, i)
		if open == '{' {
			name, err := dec.Token()
			if err != nil {
				return fmt.Errorf("reading JSON: %w", err)
			}
			// Members of a JSON object are strings; the decoder has checked it.
			key, _ := name.(string)
			inner = strings.TrimPrefix(at+"."+key, ".")
			if key != strings.ToLower(key) {
				return fmt.Errorf("%s: unknown member; members are in lower case", inner)
			}
			if seen[key] {
				return fmt.Errorf("%s: duplicate member", inner)
			}
			seen[key] = true
		}
		if err := walkMembers(dec, inner); err != nil {
			return err
		}
	}
	if _, err := dec.Token(); err != nil {
		return fmt.Errorf("reading JSON: %w", err)
	}
	return nil
}
