package main

import (
	"strings"
	"testing"
)

func TestParseHammer(t *testing.T) {
	const good = `{"ok": true, "via": "stream", "seconds": 14, "outcomes": {"final": 7000, "busy": 3, "refused": 0}, "goodput_per_second": 500,
"latency_accepted_ms": {"count": 7000, "p50": 110.5, "p99": 240, "max": 300}, "journal": {}}`
	m, err := parseHammer([]byte(good))
	if err != nil {
		t.Fatal(err)
	}
	if m.Figures["p50_ms"] != 110.5 || m.Figures["p99_ms"] != 240 || m.Figures["per_second"] != 500 || m.Figures["busy"] != 3 {
		t.Errorf("figures %v", m.Figures)
	}
	if _, there := m.Figures["refused"]; there {
		t.Error("what did not happen is a figure")
	}
	for _, c := range []struct{ bad, want string }{
		{"", "output"},
		{strings.Replace(good, `"ok": true`, `"ok": false, "reason": "an answer did not verify"`, 1), "did not verify"},
		{strings.Replace(good, `"final": 7000`, `"final": 6999, "pending": 1`, 1), "6999 became final"},
		{strings.NewReplacer(`"final": 7000`, `"final": 0`, `"count": 7000`, `"count": 0`).Replace(good), "0 became final"},
	} {
		if m, err := parseHammer([]byte(c.bad)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, %v, want an error on %q, for\n%s", m, err, c.want, c.bad)
		}
	}
}
