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
	"slices"
	"strings"
)

// Witness is the configuration of one C2SP tlog-witness, `trialog-witness`.
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
//	      "rate": {"per_minute": 120, "burst": 20},
//	      "url": "https://log.example.org/shards/2026",
//	      "mirrors": ["https://mirror.example.net/shards/2026"]
//	    }
//	  ],
//	  "log_lists": [
//	    {"url": "https://log.example.org/v1/loglist", "keys": ["MFkwEwYH…"], "rate": {"per_minute": 120, "burst": 20}}
//	  ],
//	  "peers": ["https://witness.example.com"],
//	  "quarantine": {"answers": 2, "fresh_answers": 3}
//	}
//
// Only name, key_files, state_file, and one of logs and log_lists are needed.
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
	// The files are secret; the witness refuses one that others can read. A key
	// in a PKCS#11 token or a KMS is named by its reference instead, such as
	// "pkcs11:…" or "awskms://…".
	KeyFiles []string `json:"key_files"`

	// StateFile is the path of the one file that holds what was cosigned. It is
	// created when it is absent. A witness that lost it or got back an old copy
	// can be made to cosign a fork: never restore it from a backup.
	StateFile string `json:"state_file"`

	// Logs are logs that the witness follows by name. They win over what a list
	// says. Those that neither this nor a list names are not answered.
	Logs []WitnessLog `json:"logs,omitempty"`

	// LogLists are signed lists of logs (package loglist): every shard in them is
	// followed, also those that are announced later.
	LogLists []WitnessLogList `json:"log_lists,omitempty"`

	// Peers are base URLs of other witnesses' read interface (C2SP tlog-witness).
	// At the start each is asked for what it has cosigned; see Quarantine.
	Peers []string `json:"peers,omitempty"`

	// Quarantine says how much must have been heard at the start before a log's
	// checkpoints are cosigned. Absent means the defaults.
	Quarantine *WitnessQuarantine `json:"quarantine,omitempty"`
}

// WitnessQuarantine says how many of a log's sources must have answered before
// anything of the log is cosigned. Its sources are its url, its mirrors and all
// peers. "There is nothing" is an answer.
type WitnessQuarantine struct {
	// Answers is for a witness whose state file held a checkpoint of any log when
	// it started. Zero means a majority; more than there are means all.
	Answers int `json:"answers,omitempty"`

	// FreshAnswers is for one whose state file held nothing: it is new, or the file
	// was lost. It counts for each log until there is a checkpoint of that. Zero
	// means all.
	FreshAnswers int `json:"fresh_answers,omitempty"`
}

// WitnessLogList is a signed list of the shards of one log.
type WitnessLogList struct {
	// URL is where the list is fetched, over http or https.
	URL string `json:"url,omitempty"`

	// File is a path that the list is read from instead.
	File string `json:"file,omitempty"`

	// Log is the name of the log whose list it is, such as "log.example.org".
	// Empty means that of the first list that comes.
	Log string `json:"log,omitempty"`

	// Keys are the public keys that may sign the list, each the base64 of its
	// DER (SubjectPublicKeyInfo).
	Keys []string `json:"keys"`

	// Rate is each listed shard's, as in WitnessLog.
	Rate *WitnessRate `json:"rate,omitempty"`
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

	// URL is the prefix under which the log serves its checkpoint and tiles (C2SP
	// tlog-tiles). Without it, mirrors and peers nothing can be found out after a
	// loss of the state file.
	URL string `json:"url,omitempty"`

	// Mirrors are prefixes under which others serve the same.
	Mirrors []string `json:"mirrors,omitempty"`
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
	if len(c.Logs)+len(c.LogLists) == 0 {
		return fail("logs", "expected at least one log, or one in log_lists")
	}
	if field, problem := c.checkSources(); problem != "" {
		return fail(field, "%s", problem)
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
	if field, problem := l.Rate.check(); problem != "" {
		return "rate." + field, problem
	}
	if problem := checkPrefix(l.URL); l.URL != "" && problem != "" {
		return "url", problem
	}
	for i, u := range l.Mirrors {
		if problem := checkPrefix(u); problem != "" {
			return fmt.Sprintf("mirrors[%d]", i), problem
		}
		if sameServer(u, l.URL) || slices.ContainsFunc(l.Mirrors[:i], func(other string) bool { return sameServer(u, other) }) {
			return fmt.Sprintf("mirrors[%d]", i), "is there twice: one source answers once"
		}
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
