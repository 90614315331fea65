package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"time"
)

// Timestamp is the configuration of an RFC 3161 time-stamp authority, `trialogd
// timestamp`. Paths in it are relative to the folder that the file lies in.
//
// A complete file:
//
//	{
//	  "listen": "127.0.0.1:8060",
//	  "metrics_listen": "127.0.0.1:9060",
//	  "key": "tsu.pem",
//	  "certificate_file": "tsu-chain.pem",
//	  "policy": "1.3.6.1.4.1.32473.1",
//	  "accuracy": "1s",
//	  "clock_sources": ["ntp://0.example.org", "ntp://1.example.org", "ntp://2.example.org"],
//	  "state_file": "timestamp.state",
//	  "log": {
//	    "url": "https://log.example.org",
//	    "policy_file": "trialog.policy",
//	    "sidecar_file": "trialog.policy.json",
//	    "organisation": "log-operator",
//	    "key": "statements.pem",
//	    "interval": "1h",
//	    "folder": "logged"
//	  }
//	}
type Timestamp struct {
	// Listen is the TCP address of the HTTP interface, host:port. Empty means
	// "127.0.0.1:8060".
	Listen string `json:"listen,omitempty"`

	// MetricsListen is the TCP address of /metrics, for Prometheus, host:port.
	// Absent means that there is none.
	MetricsListen string `json:"metrics_listen,omitempty"`

	// Key is where the key that signs tokens is, and nothing else uses: the path
	// of a PEM file, or a reference such as "pkcs11:…" or "awskms://…".
	Key string `json:"key"`

	// CertificateFile is the PEM file with the certificate of the key first, and
	// the certificates of its issuers behind it, the root last.
	CertificateFile string `json:"certificate_file"`

	// Policy is the object identifier, dotted, of the policy under which tokens
	// are made (RFC 3161, TSAPolicyId).
	Policy string `json:"policy"`

	// Accuracy is the worst accuracy that a token may state, such as "500ms", at
	// most "1s", which is what an absent one means. The authority issues nothing
	// while it cannot show that its clock is within it.
	Accuracy Duration `json:"accuracy,omitempty"`

	// ClockSources are what the clock is compared with, three or more: "ntp://…",
	// "witness+https://…" or "rfc3161+https://…"; see docs/timestamp.md. Without a
	// majority of them nothing is issued.
	ClockSources []string `json:"clock_sources"`

	// ClockInterval is the time between two rounds of questions to the sources,
	// "1s" to "1m". Absent means "4s": what no answer since then can show is
	// noticed within that time. Public NTP servers want to be asked less often.
	ClockInterval Duration `json:"clock_interval,omitempty"`

	// StateFile is the path of the file that holds the records of the tokens that
	// were issued and not yet logged. It is created when it is absent.
	StateFile string `json:"state_file"`

	// Log is where the records of tokens are logged. Absent means nowhere: then
	// nobody can tell a token that this authority issued from one that somebody
	// made with a stolen key, and the records are kept for ever.
	Log *TimestampLog `json:"log,omitempty"`
}

// TimestampLog is the log that holds the records of an authority's tokens.
type TimestampLog struct {
	// URL is the log's base URL.
	URL string `json:"url"`

	// PolicyFile and SidecarFile are the policy that the log's answers are held
	// against.
	PolicyFile  string `json:"policy_file"`
	SidecarFile string `json:"sidecar_file"`

	// Organisation is the one that Key is enrolled for, with the role operator.
	Organisation string `json:"organisation"`

	// Key is where the key that signs statements is, as for Timestamp.Key. It
	// must not be the same key, and serve nothing else: it keeps a chain.
	Key string `json:"key"`

	// Interval is the time between two batches, "1m" to "24h". Absent means "1h".
	Interval Duration `json:"interval,omitempty"`

	// Folder is where the records that were logged and their receipts are kept.
	Folder string `json:"folder"`
}

// Defaults of a Timestamp.
const (
	DefaultTimestampListen = "127.0.0.1:8060"

	maxAccuracy          = time.Second
	defaultClockInterval = 4 * time.Second
	defaultLogInterval   = time.Hour
	leastClockSources    = 3
)

// ParseTimestamp reads the configuration of an authority from JSON, strictly,
// fills in what it leaves out, and validates it.
func ParseTimestamp(raw []byte) (*Timestamp, error) {
	if err := witnessMembers(raw); err != nil {
		return nil, fmt.Errorf("timestamp config: %w", err)
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	var c Timestamp
	if err := dec.Decode(&c); err != nil {
		return nil, fmt.Errorf("timestamp config: %w", err)
	}
	if c.Listen == "" {
		c.Listen = DefaultTimestampListen
	}
	absent := func(v *Duration, d time.Duration) {
		if *v == 0 {
			*v = Duration(d)
		}
	}
	absent(&c.Accuracy, maxAccuracy)
	absent(&c.ClockInterval, defaultClockInterval)
	if c.Log != nil {
		absent(&c.Log.Interval, defaultLogInterval)
	}
	if err := c.Validate(); err != nil {
		return nil, err
	}
	return &c, nil
}

// Validate says whether the configuration can be used. The error names the first
// field that cannot, and what was expected there.
func (c *Timestamp) Validate() error {
	for _, check := range []struct {
		field, expected string
		ok              bool
	}{
		{"listen", "expected host:port", hostPort(c.Listen)},
		{"metrics_listen", "expected host:port", c.MetricsListen == "" || hostPort(c.MetricsListen)},
		{"metrics_listen", "expected another address than listen", c.MetricsListen != c.Listen || anyPort(c.Listen)},
		{"key", "expected a path or a reference to a key", c.Key != ""},
		{"certificate_file", "expected a path", c.CertificateFile != ""},
		{"policy", "expected an object identifier such as 1.3.6.1.4.1.32473.1", dottedOID(c.Policy)},
		{"accuracy", "expected 1ms to 1s", within(c.Accuracy, time.Millisecond, maxAccuracy)},
		{"clock_sources", "expected three or more different ones", len(c.ClockSources) >= leastClockSources && different(c.ClockSources)},
		{"clock_interval", "expected 1s to 1m", within(c.ClockInterval, time.Second, time.Minute)},
		{"state_file", "expected a path", c.StateFile != ""},
	} {
		if !check.ok {
			return fmt.Errorf("timestamp config: %s: %s", check.field, check.expected)
		}
	}
	if c.Log == nil {
		return nil
	}
	l := c.Log
	for _, check := range []struct {
		field, expected string
		ok              bool
	}{
		{"url", "expected a URL such as https://log.example.org", httpURL(l.URL) == ""},
		{"policy_file", "expected a path", l.PolicyFile != ""},
		{"sidecar_file", "expected a path", l.SidecarFile != ""},
		{"organisation", "expected the name of an organisation", l.Organisation != ""},
		{"key", "expected a path or a reference to a key", l.Key != ""},
		{"key", "expected another key than the one that signs tokens", l.Key != c.Key},
		{"interval", "expected 1m to 24h", within(l.Interval, time.Minute, 24*time.Hour)},
		{"folder", "expected a path", l.Folder != ""},
	} {
		if !check.ok {
			return fmt.Errorf("timestamp config: log.%s: %s", check.field, check.expected)
		}
	}
	return nil
}

func within(d Duration, least, most time.Duration) bool {
	return time.Duration(d) >= least && time.Duration(d) <= most
}

func hostPort(s string) bool {
	_, _, err := net.SplitHostPort(s)
	return err == nil
}

// anyPort tells whether the system chooses the port.
func anyPort(address string) bool {
	_, port, err := net.SplitHostPort(address)
	return err == nil && port == "0"
}

func different(list []string) bool {
	seen := make(map[string]bool, len(list))
	for _, s := range list {
		if s == "" || seen[s] {
			return false
		}
		seen[s] = true
	}
	return true
}
