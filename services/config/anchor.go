package config

import (
	"encoding/json"
	"fmt"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// LeastAnchorInterval is the least time between two anchors of a shard, and the
// one that is used when the configuration names none. Public witnesses take a
// checkpoint at their own pace, and every time-stamp token costs its authority a
// signature and a serial number.
const LeastAnchorInterval = time.Minute

// maxAnchorParties bounds witnesses and authorities each: a receipt carries one
// token of each authority, and 16 of them at most.
const maxAnchorParties = 16

// Anchors are who sees the log's published checkpoints at a slower pace than the
// interactive witnesses of the policy: public witnesses, and time-stamp
// authorities (RFC 3161).
//
//	"anchors": {
//	  "interval": "5m",
//	  "witnesses": [
//	    {
//	      "name": "public-1",
//	      "keys": ["witness.example.net/w1+0f1a…+BA…"],
//	      "url": "https://witness.example.net/"
//	    }
//	  ],
//	  "authorities": [
//	    {
//	      "name": "tsa.example.com",
//	      "url": "https://tsa.example.com/tsr",
//	      "certificate": "anchors/tsa.pem",
//	      "policy": "1.3.6.1.4.1.99999.1"
//	    }
//	  ]
//	}
type Anchors struct {
	// Interval is the least time between two anchors of a shard, such as "5m", at
	// least one minute; empty means one minute.
	Interval Duration `json:"interval,omitempty"`

	// Witnesses are asked for cosignatures (C2SP tlog-witness). One that is in the
	// log's policy too is asked here only, never for each checkpoint; the quorum
	// must be met without it.
	Witnesses []AnchorWitness `json:"witnesses,omitempty"`

	// Authorities are asked for a token over SHA-256 of the checkpoint's text.
	Authorities []AnchorAuthority `json:"authorities,omitempty"`
}

// AnchorWitness is a witness that is asked at anchor pace.
type AnchorWitness struct {
	// Name is what the witness is called in metrics and logs: letters, digits,
	// dots, dashes and underscores.
	Name string `json:"name"`
	// Keys are its verifier keys, one or two ("name+id+key").
	Keys []string `json:"keys"`
	// URL is its submission prefix, http or https.
	URL string `json:"url"`
}

// AnchorAuthority is a time-stamp authority.
type AnchorAuthority struct {
	// Name is what the authority is called in metrics and logs, like a witness's.
	Name string `json:"name"`
	// URL takes application/timestamp-query by POST (RFC 3161, section 3.4).
	URL string `json:"url"`
	// Certificate is the path of a PEM file with the one certificate that the
	// authority's tokens must lead to: its own, its issuer's or the root.
	Certificate string `json:"certificate"`
	// Policy is the dotted OID that its tokens must name; empty takes any.
	Policy string `json:"policy,omitempty"`
}

// Duration is a time.Duration that JSON has as text, such as "90s".
type Duration time.Duration

// MarshalJSON writes the duration as text.
func (d Duration) MarshalJSON() ([]byte, error) {
	return json.Marshal(time.Duration(d).String())
}

// UnmarshalJSON reads what time.ParseDuration does.
func (d *Duration) UnmarshalJSON(raw []byte) error {
	var text string
	if err := json.Unmarshal(raw, &text); err != nil {
		return fmt.Errorf("expected a duration such as \"5m\", got %s", raw)
	}
	v, err := time.ParseDuration(text)
	if err != nil {
		return fmt.Errorf("expected a duration such as \"5m\", got %q", text)
	}
	*d = Duration(v)
	return nil
}

// Pace is the least time between two anchors of a shard.
func (a *Anchors) Pace() time.Duration {
	if a.Interval == 0 {
		return LeastAnchorInterval
	}
	return time.Duration(a.Interval)
}

// Under returns the anchors with relative paths made relative to dir; nil of nil.
func (a *Anchors) Under(dir string) *Anchors {
	if a == nil {
		return nil
	}
	out := *a
	out.Authorities = slices.Clone(a.Authorities)
	for i := range out.Authorities {
		if path := out.Authorities[i].Certificate; !filepath.IsAbs(path) {
			out.Authorities[i].Certificate = filepath.Join(dir, path)
		}
	}
	return &out
}

// check returns the field and what is wrong with it, or an empty problem.
func (a *Anchors) check() (field, problem string) {
	switch {
	case a == nil:
		return "", ""
	case a.Pace() < LeastAnchorInterval:
		return "interval", fmt.Sprintf("expected at least %s, got %s", LeastAnchorInterval, time.Duration(a.Interval))
	case len(a.Witnesses) == 0 && len(a.Authorities) == 0:
		return "witnesses", "expected a witness or an authority"
	case len(a.Witnesses) > maxAnchorParties:
		return "witnesses", fmt.Sprintf("expected at most %d", maxAnchorParties)
	case len(a.Authorities) > maxAnchorParties:
		return "authorities", fmt.Sprintf("expected at most %d", maxAnchorParties)
	}
	seen := map[string]string{}
	once := func(at, name string) string {
		if !partyName(name) {
			return fmt.Sprintf("expected letters, digits, dots, dashes and underscores, got %q", name)
		}
		if other, taken := seen[name]; taken {
			return fmt.Sprintf("%q is %s already", name, other)
		}
		seen[name] = at
		return ""
	}
	for i := range a.Witnesses {
		at := fmt.Sprintf("witnesses[%d].", i)
		if problem := once(at+"name", a.Witnesses[i].Name); problem != "" {
			return at + "name", problem
		}
		if field, problem := a.Witnesses[i].check(); problem != "" {
			return at + field, problem
		}
	}
	for i := range a.Authorities {
		at := fmt.Sprintf("authorities[%d].", i)
		if problem := once(at+"name", a.Authorities[i].Name); problem != "" {
			return at + "name", problem
		}
		if field, problem := a.Authorities[i].check(); problem != "" {
			return at + field, problem
		}
	}
	return "", ""
}

func (w *AnchorWitness) check() (field, problem string) {
	if n := len(w.Keys); n < 1 || n > 2 {
		return "keys", fmt.Sprintf("expected one or two verifier keys, got %d", n)
	}
	for i, k := range w.Keys {
		if strings.Count(k, "+") < 2 || strings.HasPrefix(k, "PRIVATE+KEY+") || strings.ContainsAny(k, " \t\r\n") {
			return fmt.Sprintf("keys[%d]", i), "expected a verifier key, name+id+key" // it may be a private one
		}
	}
	if problem := httpURL(w.URL); problem != "" {
		return "url", problem
	}
	return "", ""
}

func (a *AnchorAuthority) check() (field, problem string) {
	if problem := httpURL(a.URL); problem != "" {
		return "url", problem
	}
	if a.Certificate == "" {
		return "certificate", "expected the path of a PEM file"
	}
	if a.Policy != "" && !dottedOID(a.Policy) {
		return "policy", fmt.Sprintf("expected a dotted OID such as 1.3.6.1.4.1.99999.1, got %q", a.Policy)
	}
	return "", ""
}

// partyName: the name becomes a label of a metric and a word of a policy file.
func partyName(name string) bool {
	const most = 100
	if name == "" || len(name) > most {
		return false
	}
	for _, c := range []byte(name) {
		letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
		if !letter && c != '.' && c != '-' && c != '_' {
			return false
		}
	}
	return true
}

func httpURL(text string) (problem string) {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		return "expected an http or https URL"
	case u.User != nil || u.Fragment != "" || strings.ContainsAny(text, " \t\r\n"):
		return "expected a URL without user, fragment and spaces"
	}
	return ""
}

// dottedOID tells whether text is an OID as encoding/asn1 has it.
func dottedOID(text string) bool {
	arcs := strings.Split(text, ".")
	for i, arc := range arcs {
		n, err := strconv.ParseUint(arc, 10, 31)
		if err != nil || strconv.FormatUint(n, 10) != arc {
			return false
		}
		if i == 0 && n > 2 || i == 1 && n > 39 && arcs[0] != "2" {
			return false
		}
	}
	return len(arcs) > 1
}
