package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
)

// Log is the configuration of a whole log on one machine, `trialogd all`. Paths
// in it are relative to the folder that the file lies in.
//
// A complete file:
//
//	{
//	  "log": "log.example.org/trials",
//	  "operator": "Example University",
//	  "witnesses": ["127.0.0.1:8091", "127.0.0.1:8092", "127.0.0.1:8093"],
//	  "shards": [
//	    {
//	      "origin": "log.example.org/trials/2026",
//	      "store": "postgres://trialog@/trialog_2026?host=/run/postgresql",
//	      "tiles": "s3://trialog-tiles?prefix=2026/&region=eu-central-1",
//	      "register": "file:/mnt/other-volume/2026.register",
//	      "ledger": "shards/2026/ledger",
//	      "keys": "shards/2026/keys"
//	    }
//	  ],
//	  "clock_sources": ["ntp://0.example.org", "ntp://1.example.org", "ntp://2.example.org"]
//	}
//
// and "anchors", if there are any; see Anchors.
type Log struct {
	// Log is the name of the TrialLog, a URL without a scheme.
	Log string `json:"log"`

	// Operator is who runs the log, in words.
	Operator string `json:"operator"`

	// Witnesses are the addresses, host:port, of the witnesses that run beside
	// the log.
	Witnesses []string `json:"witnesses"`

	// Shards are the shards of the log, oldest first. The last one that has
	// opened takes statements in; one behind it is announced and waits for the
	// rollover.
	Shards []Shard `json:"shards"`

	// ClockSources are what the machine's clock is compared with:
	// "ntp://HOST[:PORT]", "witness+https://HOST/PREFIX?origin=ORIGIN#VKEY", the
	// time of a witness's newest cosignature, or "rfc3161+https://HOST/PATH#FILE",
	// a time-stamp authority with its certificate. With fewer than three, receive
	// times are not verified by anybody.
	ClockSources []string `json:"clock_sources,omitempty"`

	// Anchors are who sees the published checkpoints at a slower pace; nil means
	// nobody.
	Anchors *Anchors `json:"anchors,omitempty"`

	// Origin is the only shard of a file that an earlier version wrote, without
	// the member shards. ParseLog turns it into one.
	Origin string `json:"origin,omitempty"`
}

// Shard is where one shard keeps what it has.
type Shard struct {
	// Origin is the first line of its checkpoints: the log's name, a slash, and
	// the shard's name.
	Origin string `json:"origin"`

	// Store is the Trillian tree: "pebble:FOLDER", or the URL of a PostgreSQL
	// database that is this shard's alone, without its password
	// (https://www.postgresql.org/docs/current/libpq-pgpass.html holds it).
	Store string `json:"store"`

	// Tiles is where bundles, hash tiles and checkpoints are kept: "file:FOLDER"
	// or "s3://BUCKET?prefix=…&region=…&endpoint=…".
	Tiles string `json:"tiles"`

	// Register is where the newest registered checkpoint is kept: "file:PATH" or
	// "s3://BUCKET/KEY?region=…&endpoint=…". It belongs on another volume than
	// the store: it is what a restored copy of the store is held against.
	Register string `json:"register"`

	// Ledger is the folder of derived state, which may be deleted while the log
	// is stopped.
	Ledger string `json:"ledger"`

	// Keys is the folder with the log's keys of this shard.
	Keys string `json:"keys"`
}

// Name is the last element of the origin.
func (s *Shard) Name() string { return s.Origin[strings.LastIndexByte(s.Origin, '/')+1:] }

// ParseLog reads the configuration from JSON, strictly, and validates it.
func ParseLog(raw []byte) (*Log, error) {
	if err := witnessMembers(raw); err != nil {
		return nil, fmt.Errorf("log config: %w", err)
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	var c Log
	if err := dec.Decode(&c); err != nil {
		return nil, fmt.Errorf("log config: %w", err)
	}
	if c.Origin != "" && c.Shards == nil {
		c.Shards = []Shard{firstLayout(c.Origin)}
		c.Origin = ""
	}
	if err := c.Validate(); err != nil {
		return nil, err
	}
	return &c, nil
}

// firstLayout is where the only shard lay before there could be several.
func firstLayout(origin string) Shard {
	return Shard{
		Origin: origin, Store: "pebble:store", Tiles: "file:tiles", Register: "file:register/register",
		Ledger: "ledger", Keys: "keys",
	}
}

// NewShard is a shard in folders of its own below the log's. The register does
// not lie with the rest, so that who copies a shard does not copy it.
func NewShard(log, name string) Shard {
	in := func(part string) string { return "shards/" + name + "/" + part }
	return Shard{
		Origin: log + "/" + name, Store: "pebble:" + in("store"), Tiles: "file:" + in("tiles"),
		Register: "file:registers/" + name, Ledger: in("ledger"), Keys: in("keys"),
	}
}

// Validate says whether the configuration can be used. The error names the first
// field that cannot, and what was expected there.
func (c *Log) Validate() error {
	fail := func(field, format string, args ...any) error {
		return fmt.Errorf("log config: %s: %s", field, fmt.Sprintf(format, args...))
	}
	switch {
	case c.Log == "":
		return fail("log", "expected the log's name, a URL without a scheme")
	case c.Operator == "":
		return fail("operator", "expected who runs the log")
	case len(c.Shards) == 0:
		return fail("shards", "expected at least one")
	case c.Origin != "":
		return fail("origin", "is of files without the member shards")
	}
	for i, w := range c.Witnesses {
		if _, _, err := net.SplitHostPort(w); err != nil {
			return fail(fmt.Sprintf("witnesses[%d]", i), "expected host:port, got %q", w)
		}
	}
	for i, source := range c.ClockSources {
		// Their own parser knows the rest.
		schemes := []string{"ntp", "witness+http", "witness+https", "rfc3161+http", "rfc3161+https"}
		if u, err := url.Parse(source); err != nil || !slices.Contains(schemes, u.Scheme) || u.Host == "" {
			return fail(fmt.Sprintf("clock_sources[%d]", i), "expected a URL that begins with %s://, got %q", strings.Join(schemes, "://, "), source)
		}
	}
	if field, problem := c.Anchors.check(); problem != "" {
		return fail("anchors."+field, "%s", problem)
	}
	// Two shards that share a store or a register would end each other.
	used := map[string]string{}
	for i := range c.Shards {
		at := fmt.Sprintf("shards[%d].", i)
		if field, problem := c.Shards[i].check(c.Log); problem != "" {
			return fail(at+field, "%s", problem)
		}
		for field, value := range c.Shards[i].places() {
			if other, taken := used[value]; taken {
				return fail(at+field, "%q is %s already", value, other)
			}
			used[value] = at + field
		}
	}
	return nil
}

// places are what no other shard may have, in one spelling each.
func (s *Shard) places() map[string]string {
	clean := func(place string) string {
		for _, scheme := range []string{"pebble:", "file:"} {
			if path, ok := strings.CutPrefix(place, scheme); ok {
				return scheme + filepath.Clean(path)
			}
		}
		return place
	}
	return map[string]string{
		"origin": s.Origin, "store": clean(s.Store), "tiles": clean(s.Tiles), "register": clean(s.Register),
		"ledger": filepath.Clean(s.Ledger), "keys": filepath.Clean(s.Keys),
	}
}

// check returns the field and what is wrong with it, or an empty problem.
func (s *Shard) check(log string) (field, problem string) {
	for _, place := range []struct {
		field, value string
		schemes      []string
	}{
		{"store", s.Store, []string{"pebble", "postgres", "postgresql"}},
		{"tiles", s.Tiles, []string{"file", "s3"}},
		{"register", s.Register, []string{"file", "s3"}},
	} {
		if !hasScheme(place.value, place.schemes) {
			return place.field, fmt.Sprintf("expected a URL that begins with %s:, got %q", strings.Join(place.schemes, ": or "), redact(place.value))
		}
		if problem := checkSecrets(place.value); problem != "" {
			return place.field, problem
		}
	}
	name, ok := strings.CutPrefix(s.Origin, log+"/")
	switch {
	case !ok || name == "" || strings.ContainsAny(name, "/\r\n "):
		return "origin", fmt.Sprintf("expected %q, a slash and the shard's name, got %q", log, s.Origin)
	case name == "." || name == "..":
		return "origin", "expected a shard's name, not a folder's"
	case s.Ledger == "":
		return "ledger", "expected a folder"
	case s.Keys == "":
		return "keys", "expected a folder"
	}
	return "", ""
}

func hasScheme(text string, schemes []string) bool {
	scheme, rest, ok := strings.Cut(text, ":")
	return ok && rest != "" && slices.Contains(schemes, scheme)
}

// checkSecrets returns what is wrong with a URL that may hold a secret, without
// the secret. Paths on this machine hold none.
func checkSecrets(text string) string {
	if hasScheme(text, []string{"pebble", "file"}) {
		return ""
	}
	const problem = "holds a password; passwords belong into a password file or the environment"
	u, err := url.Parse(text)
	if err != nil {
		return "expected a URL" // the error repeats it
	}
	if _, secret := u.User.Password(); secret {
		return problem
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return "expected parameters of the form name=value"
	}
	for name := range query {
		// libpq takes passwords there too.
		if strings.Contains(strings.ToLower(name), "password") || strings.Contains(strings.ToLower(name), "secret") {
			return problem
		}
	}
	return ""
}

// redact keeps what may be a secret out of messages.
func redact(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return "…"
	}
	u.User, u.RawQuery, u.Fragment = nil, "", ""
	return u.String()
}

// Under returns the shard with its relative paths made relative to dir.
func (s *Shard) Under(dir string) Shard {
	place := func(text string) string {
		for _, scheme := range []string{"pebble:", "file:"} {
			if path, ok := strings.CutPrefix(text, scheme); ok {
				return scheme + under(dir, path)
			}
		}
		return text
	}
	return Shard{
		Origin: s.Origin, Store: place(s.Store), Tiles: place(s.Tiles), Register: place(s.Register),
		Ledger: under(dir, s.Ledger), Keys: under(dir, s.Keys),
	}
}

func under(dir, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}
