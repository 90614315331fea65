package config

import (
	"encoding/base64"
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// Limits of a witness's sources: each is asked about each log.
const (
	maxWitnessPeers = 32
	maxWitnessLists = 64
)

// checkSources returns the field and what is wrong with it, or an empty problem.
func (c *Witness) checkSources() (field, problem string) {
	if n := len(c.LogLists); n > maxWitnessLists {
		return "log_lists", fmt.Sprintf("expected at most %d, got %d", maxWitnessLists, n)
	}
	for i := range c.LogLists {
		if field, problem := c.LogLists[i].check(); problem != "" {
			return fmt.Sprintf("log_lists[%d].%s", i, field), problem
		}
		if slices.ContainsFunc(c.LogLists[:i], func(l WitnessLogList) bool {
			return l.URL == c.LogLists[i].URL && l.File == c.LogLists[i].File
		}) {
			return fmt.Sprintf("log_lists[%d]", i), "is there twice"
		}
	}
	if n := len(c.Peers); n > maxWitnessPeers {
		return "peers", fmt.Sprintf("expected at most %d, got %d", maxWitnessPeers, n)
	}
	for i, u := range c.Peers {
		if problem := checkPrefix(u); problem != "" {
			return fmt.Sprintf("peers[%d]", i), problem
		}
		if slices.ContainsFunc(c.Peers[:i], func(other string) bool { return sameServer(u, other) }) {
			return fmt.Sprintf("peers[%d]", i), "is there twice: one source answers once"
		}
	}
	if q := c.Quarantine; q != nil && q.Answers < 0 {
		return "quarantine.answers", fmt.Sprintf("expected 0 or more, got %d", q.Answers)
	} else if q != nil && q.FreshAnswers < 0 {
		return "quarantine.fresh_answers", fmt.Sprintf("expected 0 or more, got %d", q.FreshAnswers)
	}
	return "", ""
}

// sameServer tells whether two prefixes are one.
func sameServer(a, b string) bool { return strings.TrimSuffix(a, "/") == strings.TrimSuffix(b, "/") }

func (l *WitnessLogList) check() (field, problem string) {
	switch {
	case l.URL != "" && l.File != "":
		return "file", "expected a url or a file, got both"
	case l.File == "":
		if problem := checkPrefix(l.URL); problem != "" {
			return "url", problem
		}
	}
	if len(l.Keys) == 0 {
		return "keys", "expected at least one key"
	}
	for i, k := range l.Keys {
		if _, err := base64.StdEncoding.Strict().DecodeString(k); err != nil || k == "" {
			return fmt.Sprintf("keys[%d]", i), "expected the base64 of a public key's DER"
		}
	}
	if field, problem := l.Rate.check(); problem != "" {
		return "rate." + field, problem
	}
	return "", ""
}

// check returns the field and what is wrong with it; nothing is wrong with nil.
func (r *WitnessRate) check() (field, problem string) {
	switch {
	case r == nil:
	case r.PerMinute < 1 || r.PerMinute > maxWitnessRate:
		return "per_minute", fmt.Sprintf("expected 1 to %d, got %d", maxWitnessRate, r.PerMinute)
	case r.Burst < 0 || r.Burst > maxWitnessRate:
		return "burst", fmt.Sprintf("expected 0 to %d, got %d", maxWitnessRate, r.Burst)
	}
	return "", ""
}

// checkPrefix says what is wrong with a URL that is asked over HTTP. It does not
// repeat one that may hold a password.
func checkPrefix(s string) string {
	u, err := url.Parse(s)
	switch {
	case err != nil, u.Scheme != "http" && u.Scheme != "https", u.Host == "", u.Opaque != "":
		return "expected an http or https URL with a host"
	case u.User != nil:
		return "expected a URL without user information"
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return "expected a URL without query and fragment"
	}
	return ""
}
