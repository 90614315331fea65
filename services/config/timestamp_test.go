package config_test

import (
	"strings"
	"testing"
	"time"

	"github.com/trialog/trialog/services/config"
)

const completeTimestamp = `{
  "listen": "127.0.0.1:8060",
  "metrics_listen": "127.0.0.1:9060",
  "key": "tsu.pem",
  "certificate_file": "tsu-chain.pem",
  "policy": "1.3.6.1.4.1.32473.1",
  "accuracy": "500ms",
  "clock_sources": ["ntp://0.example.org", "ntp://1.example.org", "ntp://2.example.org"],
  "clock_interval": "8s",
  "state_file": "timestamp.state",
  "log": {
    "url": "https://log.example.org",
    "policy_file": "trialog.policy",
    "sidecar_file": "trialog.policy.json",
    "organisation": "log-operator",
    "key": "statements.pem",
    "interval": "30m",
    "folder": "logged"
  }
}`

func TestParseTimestamp(t *testing.T) {
	c, err := config.ParseTimestamp([]byte(completeTimestamp))
	if err != nil {
		t.Fatal(err)
	}
	if time.Duration(c.Accuracy) != 500*time.Millisecond || time.Duration(c.ClockInterval) != 8*time.Second || time.Duration(c.Log.Interval) != 30*time.Minute ||
		c.Log.Organisation != "log-operator" || c.MetricsListen != "127.0.0.1:9060" || len(c.ClockSources) != 3 {
		t.Errorf("%+v %+v", c, c.Log)
	}
	short := completeTimestamp
	for _, line := range []string{
		`  "listen": "127.0.0.1:8060",` + "\n", `  "metrics_listen": "127.0.0.1:9060",` + "\n", `  "accuracy": "500ms",` + "\n", `  "clock_interval": "8s",` + "\n",
		`    "interval": "30m",` + "\n",
	} {
		if !strings.Contains(short, line) {
			t.Fatalf("no line %q", line)
		}
		short = strings.Replace(short, line, "", 1)
	}
	if c, err = config.ParseTimestamp([]byte(short)); err != nil {
		t.Fatal(err)
	}
	if c.Listen != config.DefaultTimestampListen || c.MetricsListen != "" || time.Duration(c.Accuracy) != time.Second || time.Duration(c.ClockInterval) != 4*time.Second ||
		time.Duration(c.Log.Interval) != time.Hour {
		t.Errorf("the defaults are %+v %+v", c, c.Log)
	}
}

func TestParseTimestampRejects(t *testing.T) {
	for _, tt := range []struct{ from, to, field string }{
		{`"127.0.0.1:8060"`, `"127.0.0.1"`, "listen"},
		{`"127.0.0.1:9060"`, `"9060"`, "metrics_listen"},
		{`"127.0.0.1:9060"`, `"127.0.0.1:8060"`, "metrics_listen"},
		{`"tsu.pem"`, `""`, "key"},
		{`"tsu-chain.pem"`, `""`, "certificate_file"},
		{`"1.3.6.1.4.1.32473.1"`, `""`, "policy"},
		{`"1.3.6.1.4.1.32473.1"`, `"1"`, "policy"},
		{`"1.3.6.1.4.1.32473.1"`, `"1.3.06"`, "policy"},
		{`"1.3.6.1.4.1.32473.1"`, `"1.3."`, "policy"},
		{`"1.3.6.1.4.1.32473.1"`, `"3.1"`, "policy"},
		{`"1.3.6.1.4.1.32473.1"`, `"1.40"`, "policy"},
		{`"1.3.6.1.4.1.32473.1"`, `"2.4294967296"`, "policy"},
		{`"500ms"`, `"1001ms"`, "accuracy"},
		{`"500ms"`, `"-1s"`, "accuracy"},
		{`"500ms"`, `"1us"`, "accuracy"},
		{`"500ms"`, `500`, "duration"},
		{`, "ntp://2.example.org"]`, `]`, "clock_sources"},
		{`"ntp://2.example.org"`, `"ntp://1.example.org"`, "clock_sources"},
		{`"ntp://2.example.org"`, `""`, "clock_sources"},
		{`"8s"`, `"61s"`, "clock_interval"},
		{`"timestamp.state"`, `""`, "state_file"},
		{`"https://log.example.org"`, `"log.example.org"`, "log.url"},
		{`"https://log.example.org"`, `"https://user@log.example.org"`, "log.url"},
		{`"trialog.policy"`, `""`, "log.policy_file"},
		{`"trialog.policy.json"`, `""`, "log.sidecar_file"},
		{`"log-operator"`, `""`, "log.organisation"},
		{`"statements.pem"`, `""`, "log.key"},
		{`"statements.pem"`, `"tsu.pem"`, "log.key"},
		{`"30m"`, `"25h"`, "log.interval"},
		{`"logged"`, `""`, "log.folder"},
		{`"listen"`, `"lisen"`, "lisen"},
		{`"listen"`, `"Listen"`, "Listen"},
		{`"key": "tsu.pem",`, `"key": "tsu.pem", "key": "tsu.pem",`, "duplicate"},
		{"\n}", "\n}}", "after the object"},
	} {
		if !strings.Contains(completeTimestamp, tt.from) {
			t.Fatalf("nothing to replace: %q", tt.from)
		}
		_, err := config.ParseTimestamp([]byte(strings.Replace(completeTimestamp, tt.from, tt.to, 1)))
		if err == nil || !strings.Contains(err.Error(), tt.field) || !strings.HasPrefix(err.Error(), "timestamp config: ") {
			t.Errorf("%s → %s: %v", tt.from, tt.to, err)
		}
	}
}
