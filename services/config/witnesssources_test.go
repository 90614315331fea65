package config

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
)

const listingWitness = `{
  "name": "witness.example/w1",
  "key_files": ["pkcs11:token=witness;object=ed25519"],
  "state_file": "witness.state",
  "logs": [{"origin": "log.example/1", "keys": ["log.example/1+00000000+AQ=="],
    "url": "https://log.example/shards/1", "mirrors": ["http://mirror.example:8070/shards/1"]}],
  "log_lists": [
    {"url": "https://log.example/v1/loglist", "keys": ["AQID"], "rate": {"per_minute": 60}},
    {"file": "other.json", "log": "log.example", "keys": ["AQID", "BAUG"]}
  ],
  "peers": ["https://witness.example.com/ethics"],
  "quarantine": {"answers": 2, "fresh_answers": 3}
}`

func TestParseWitnessSources(t *testing.T) {
	c, err := ParseWitness([]byte(listingWitness))
	if err != nil {
		t.Fatal(err)
	}
	want := &Witness{
		Listen: DefaultWitnessListen, Name: "witness.example/w1", StateFile: "witness.state",
		KeyFiles: []string{"pkcs11:token=witness;object=ed25519"},
		Logs: []WitnessLog{{
			Origin: "log.example/1", Keys: []string{"log.example/1+00000000+AQ=="},
			URL: "https://log.example/shards/1", Mirrors: []string{"http://mirror.example:8070/shards/1"},
		}},
		LogLists: []WitnessLogList{
			{URL: "https://log.example/v1/loglist", Keys: []string{"AQID"}, Rate: &WitnessRate{PerMinute: 60}},
			{File: "other.json", Log: "log.example", Keys: []string{"AQID", "BAUG"}},
		},
		Peers:      []string{"https://witness.example.com/ethics"},
		Quarantine: &WitnessQuarantine{Answers: 2, FreshAnswers: 3},
	}
	if !reflect.DeepEqual(c, want) {
		t.Errorf("got %+v", c)
	}
	raw, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := ParseWitness(raw); err != nil || !reflect.DeepEqual(again, want) {
		t.Errorf("written and read again: %+v, %v", again, err)
	}
	alone := *want
	alone.Logs = nil
	if err := alone.Validate(); err != nil {
		t.Errorf("lists alone: %v", err)
	}
}

func TestParseWitnessSourcesRejects(t *testing.T) {
	many := func(n int, format string) string {
		var out []string
		for i := range n {
			out = append(out, fmt.Sprintf(format, i))
		}
		return strings.Join(out, ",")
	}
	for name, tc := range map[string]struct{ old, with, field string }{
		"url without scheme":   {`"https://log.example/shards/1"`, `"log.example/shards/1"`, "logs[0].url"},
		"url of a file":        {`"https://log.example/shards/1"`, `"file:///etc/passwd"`, "logs[0].url"},
		"url with password":    {`"https://log.example/shards/1"`, `"https://a:b@log.example"`, "logs[0].url: expected a URL without user information"},
		"url with query":       {`"https://log.example/shards/1"`, `"https://log.example?a"`, "logs[0].url"},
		"url with fragment":    {`"https://log.example/shards/1"`, `"https://log.example#a"`, "logs[0].url"},
		"mirror empty":         {`"http://mirror.example:8070/shards/1"`, `""`, "logs[0].mirrors[0]"},
		"list of neither":      {`"file": "other.json", `, ``, "log_lists[1].url"},
		"list of both":         {`"file": "other.json"`, `"file": "other.json", "url": "https://a.example"`, "log_lists[1].file"},
		"list of another kind": {`"https://log.example/v1/loglist"`, `"ftp://log.example"`, "log_lists[0].url"},
		"list without keys":    {`"keys": ["AQID"], "rate"`, `"keys": [], "rate"`, "log_lists[0].keys"},
		"list key empty":       {`["AQID", "BAUG"]`, `["AQID", ""]`, "log_lists[1].keys[1]"},
		"list key not base64":  {`["AQID", "BAUG"]`, `["AQI", "BAUG"]`, "log_lists[1].keys[0]"},
		"list rate":            {`"per_minute": 60`, `"per_minute": 0`, "log_lists[0].rate.per_minute"},
		"list twice":           {`{"file": "other.json",`, `{"url": "https://log.example/v1/loglist",`, "log_lists[1]"},
		"too many lists":       {`{"file": "other.json", "log": "log.example", "keys": ["AQID", "BAUG"]}`, many(64, `{"file": "%d", "keys": ["AQID"]}`), "log_lists: expected at most 64"},
		"peer":                 {`"https://witness.example.com/ethics"`, `"witness.example.com"`, "peers[0]"},
		"peer twice":           {`["https://witness.example.com/ethics"]`, `["https://a.example", "https://a.example/"]`, "peers[1]: is there twice"},
		"mirror twice":         {`["http://mirror.example:8070/shards/1"]`, `["https://a.example/", "https://a.example"]`, "logs[0].mirrors[1]: is there twice"},
		"mirror is the log":    {`"http://mirror.example:8070/shards/1"`, `"https://log.example/shards/1/"`, "logs[0].mirrors[0]: is there twice"},
		"too many peers":       {`"https://witness.example.com/ethics"`, many(33, `"https://w%d.example"`), "peers: expected at most 32"},
		"answers":              {`"answers": 2`, `"answers": -1`, "quarantine.answers"},
		"fresh answers":        {`"fresh_answers": 3`, `"fresh_answers": -1`, "quarantine.fresh_answers"},
		"unknown member":       {`"answers": 2`, `"anwsers": 2`, "anwsers"},
	} {
		t.Run(name, func(t *testing.T) {
			if !strings.Contains(listingWitness, tc.old) {
				t.Fatalf("the good configuration has no %q", tc.old)
			}
			_, err := ParseWitness([]byte(strings.Replace(listingWitness, tc.old, tc.with, 1)))
			if err == nil || !strings.Contains(err.Error(), tc.field) {
				t.Errorf("got %v, want one that names %q", err, tc.field)
			}
			if err != nil && strings.Contains(err.Error(), "a:b") {
				t.Errorf("the error repeats the password: %v", err)
			}
		})
	}
}
