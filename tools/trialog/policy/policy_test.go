package policy_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/api/verify"
	"github.com/trialog/trialog/tools/trialog/policy"
)

const log = "log.example.org/trials"

// vkey makes a verifier key from a label.
func vkey(t *testing.T, name string, alg checkpoint.Algorithm, label string) string {
	t.Helper()
	seed := bytes.Repeat([]byte(label), 64)
	k, err := checkpoint.GenerateKey(bytes.NewReader(seed), name, alg)
	if err != nil {
		t.Fatal(err)
	}
	return k.Verifier().String()
}

// sample is a policy with a nested group: of three operators two must agree, one of
// them the regulator or the university; each has two keys.
func sample(t *testing.T) (text string, sidecar map[string]any) {
	t.Helper()
	var b strings.Builder
	var required []string
	for _, shard := range []string{"2026", "2027"} {
		for _, alg := range []checkpoint.Algorithm{checkpoint.AlgEd25519, checkpoint.AlgMLDSA44} {
			k := vkey(t, log+"/"+shard, alg, shard)
			fmt.Fprintf(&b, "log %s https://log.example.org/shards/%s\n", k, shard)
			required = append(required, k)
		}
	}
	operators := map[string]string{}
	for _, op := range []string{"ethics", "regulator", "university"} {
		fmt.Fprintf(&b, "witness %s-1 %s https://%s.example/\n", op, vkey(t, op+".example", checkpoint.AlgEd25519Cosignature, op), op)
		fmt.Fprintf(&b, "witness %s-2 %s https://%s.example/\n", op, vkey(t, op+".example", checkpoint.AlgMLDSA44, op), op)
		fmt.Fprintf(&b, "group %s any %s-1 %s-2\n", op, op, op)
		operators[op] = "The " + op
	}
	b.WriteString("group state any regulator university\ngroup all-of-us all ethics state\nquorum all-of-us\n")
	key, err := statement.GenerateKey(bytes.NewReader(bytes.Repeat([]byte("auditor"), 64)))
	if err != nil {
		t.Fatal(err)
	}
	return b.String(), map[string]any{
		"format": verify.TrustFormat2, "log": log, "logOperator": "Log Operator L", "requiredLogKeys": required,
		"operators": operators, "acceptReceived": false,
		"auditors": []string{base64.StdEncoding.EncodeToString(key.Public().DER())},
	}
}

func encoded(t *testing.T, sidecar map[string]any) []byte {
	t.Helper()
	raw, err := json.MarshalIndent(sidecar, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestWarnings(t *testing.T) {
	for _, tt := range []struct {
		name   string
		words  []string // one for each warning
		change func(text *string, sidecar map[string]any)
	}{
		{"nothing unwise", nil, func(*string, map[string]any) {}},
		{"no quorum", []string{"no witness has to"}, func(text *string, _ map[string]any) {
			*text = strings.Replace(*text, "quorum all-of-us", "quorum none", 1)
		}},
		{"one organisation behind all", []string{"all witnesses are run by Trust Inc."}, func(_ *string, s map[string]any) {
			s["operators"] = map[string]string{"ethics": "Trust Inc.", "regulator": "Trust Inc.", "university": "Trust Inc."}
		}},
		{"the log behind all", []string{"demonstration", "which runs the log, is a quorum by itself"}, func(_ *string, s map[string]any) {
			s["operators"] = map[string]string{"ethics": "Log Operator L", "regulator": "Log Operator L", "university": "Log Operator L"}
		}},
		{"the log behind a quorum", []string{"Log Operator L, which runs the log, is a quorum by itself"}, func(_ *string, s map[string]any) {
			s["operators"] = map[string]string{"ethics": "Log Operator L", "regulator": "Log Operator L", "university": "The university"}
		}},
		{"one of several is enough", []string{
			"The regulator is a quorum", "The university is a quorum", "ethics-1 is not part", "ethics-2 is not part",
		}, func(text *string, _ map[string]any) {
			*text = strings.Replace(*text, "quorum all-of-us", "quorum state", 1)
		}},
		{"a retired key", []string{"the witness key ethics-1 is retired: its cosignatures count up to 7 entries of " + log + "/2026"}, func(text *string, s map[string]any) {
			s["retired"] = []any{retire(*text, "ethics-1")}
		}},
		{"a quorum of retired keys", []string{"without retired keys", "ethics-1 is retired", "ethics-2 is retired"}, func(text *string, s map[string]any) {
			s["retired"] = []any{retire(*text, "ethics-1"), retire(*text, "ethics-2")}
		}},
		{"no ML-DSA-44 key of a shard", []string{"no ML-DSA-44 key is required of " + log + "/2027"}, func(_ *string, s map[string]any) {
			s["requiredLogKeys"] = s["requiredLogKeys"].([]string)[:3]
		}},
		{"no ML-DSA-44 key of a witness", []string{"cannot be reached by ML-DSA-44 keys alone"}, func(text *string, _ map[string]any) {
			*text = regexp.MustCompile(`(?m)^witness ethics-2 .*\n`).ReplaceAllString(*text, "")
			*text = strings.Replace(*text, "group ethics any ethics-1 ethics-2", "group ethics any ethics-1", 1)
		}},
		{"a witness that counts nowhere", []string{"the witness ethics-1 is not part", "the witness ethics-2 is not part"}, func(text *string, _ map[string]any) {
			*text = strings.Replace(*text, "quorum all-of-us", "group both all state\nquorum both", 1)
			*text = strings.Replace(*text, "group state any", "group state all", 1)
			*text = strings.Replace(*text, "group all-of-us all ethics state\n", "", 1)
		}},
		{"several in one group", []string{"the group ethics holds witness keys only"}, func(text *string, _ map[string]any) {
			*text = strings.Replace(*text, "group ethics any", "group ethics 2", 1)
		}},
		{"no auditor", []string{"no auditor is named"}, func(_ *string, s map[string]any) { delete(s, "auditors") }},
	} {
		text, sidecar := sample(t)
		tt.change(&text, sidecar)
		p, problems := policy.Check([]byte(text), encoded(t, sidecar))
		if p == nil {
			t.Fatalf("%s: %+v", tt.name, problems)
		}
		got := policy.Warnings(p)
		if tt.name == "several in one group" { // an Ed25519 key is then in every quorum
			got = slices.DeleteFunc(got, func(w string) bool { return strings.Contains(w, "ML-DSA-44 keys alone") })
		}
		if len(got) != len(tt.words) {
			t.Errorf("%s: %d warnings, expected %d: %q", tt.name, len(got), len(tt.words), got)
			continue
		}
		for i, words := range tt.words {
			if !strings.Contains(got[i], words) {
				t.Errorf("%s: %q, expected %q", tt.name, got[i], words)
			}
		}
	}
}

// retire retires a witness's key at size 7 of the first shard.
func retire(text, name string) map[string]any {
	key := regexp.MustCompile(`(?m)^witness ` + name + ` (\S+)`).FindStringSubmatch(text)[1]
	return map[string]any{"key": key, "until": []any{map[string]any{"origin": log + "/2026", "size": 7}}}
}

func TestCheck(t *testing.T) {
	good, sidecar := sample(t)
	lines := strings.Count(good, "\n")
	for _, tt := range []struct {
		name, text string
		want       []int // lines
	}{
		{"nothing", "", []int{0}},
		{"no quorum line", strings.Replace(good, "quorum all-of-us\n", "", 1), []int{0}},
		{"the last line is cut off", good[:len(good)-1], []int{lines}},
		{"an unknown word", "hello\n" + good, []int{1}},
		{"two faults", "hello\n" + good + "group x any y\n", []int{1, lines + 2}},
		{"a key that is none, in a group, in a group, in the quorum", strings.Replace(good, "witness ethics-1 ", "witness ethics-1 x", 1), []int{5}},
		{"a group that asks too much", strings.Replace(good, "group ethics any", "group ethics 3", 1), []int{7}},
		{"two quorums", good + "quorum ethics\n", []int{lines + 1}},
		{"a quorum of nobody known", strings.Replace(good, "quorum all-of-us", "quorum us", 1), []int{lines}},
		{"a key twice", good + strings.SplitAfter(good, "\n")[0], []int{lines + 1}},
		{"a control character", strings.Replace(good, "quorum", "quorum\r", 1), []int{lines}},
		{"words that are too few", "log\nwitness\ngroup\nquorum\n", []int{1, 2, 3, 4}},
	} {
		p, problems := policy.Check([]byte(tt.text), encoded(t, sidecar))
		var got []int
		for _, q := range problems {
			got = append(got, q.Line)
			if q.Half != policy.Text || q.Reason == "" {
				t.Errorf("%s: %+v", tt.name, q)
			}
		}
		if p != nil || !slices.Equal(got, tt.want) {
			t.Errorf("%s: %+v, expected lines %v", tt.name, problems, tt.want)
		}
	}
}

// TestCheckEnds: a file of faults is read a bounded number of times.
func TestCheckEnds(t *testing.T) {
	_, problems := policy.Check(bytes.Repeat([]byte("nonsense\n"), 100_000), nil)
	if len(problems) != 100 || problems[99].Line != 100 {
		t.Errorf("%d problems", len(problems))
	}
}

func TestCheckSidecar(t *testing.T) {
	text, _ := sample(t)
	for _, tt := range []struct {
		member string
		change func(map[string]any)
	}{
		{"log", func(s map[string]any) { s["log"] = "UPPER" }},
		{"operators.ethics", func(s map[string]any) { s["operators"].(map[string]string)["ethics"] = "" }},
		{"requiredLogKeys[1]", func(s map[string]any) { s["requiredLogKeys"].([]string)[1] = "x" }},
		{"surplus", func(s map[string]any) { s["surplus"] = 1 }},
		{"acceptReceived", func(s map[string]any) { delete(s, "acceptReceived") }},
	} {
		_, sidecar := sample(t)
		tt.change(sidecar)
		raw := encoded(t, sidecar)
		p, problems := policy.Check([]byte(text), raw)
		if p != nil || len(problems) != 1 || problems[0].Half != policy.Sidecar || problems[0].Member != tt.member {
			t.Errorf("%s: %+v", tt.member, problems)
			continue
		}
		name := strings.FieldsFunc(tt.member, func(r rune) bool { return r == '.' || r == '[' })
		if problems[0].Line == 0 {
			if bytes.Contains(raw, []byte(name[0])) {
				t.Errorf("%s: no line", tt.member)
			}
		} else if line := strings.Split(string(raw), "\n")[problems[0].Line-1]; !strings.Contains(line, `"`+name[0]+`"`) && !strings.Contains(line, `"ethics"`) {
			t.Errorf("%s: line %d is %q", tt.member, problems[0].Line, line)
		}
	}
	if p, problems := policy.Check([]byte(text), []byte("{")); p != nil || len(problems) != 1 {
		t.Errorf("half a sidecar: %+v", problems)
	}
}

// TestShow holds the whole text against what a person should read.
func TestShow(t *testing.T) {
	text, sidecar := sample(t)
	sidecar["retired"] = []any{retire(text, "ethics-1")}
	sidecar["finals"] = []any{map[string]any{"origin": log + "/2026", "size": 12, "root": base64.StdEncoding.EncodeToString(make([]byte, 32))}}
	p, problems := policy.Check([]byte(text), encoded(t, sidecar))
	if p == nil {
		t.Fatal(problems)
	}
	want := `Policy for the log log.example.org/trials, which Log Operator L runs
  fingerprint ` + p.Fingerprint() + `

A checkpoint counts if
  the log has signed it, with every one of these keys of the part (shard) that it is of:
    log.example.org/trials/2026: Ed25519 and ML-DSA-44, at https://log.example.org/shards/2026
    log.example.org/trials/2027: Ed25519 and ML-DSA-44, at https://log.example.org/shards/2027
  and it was seen and signed by
    all-of-us: all of these 2
      ethics, run by The ethics: any of its 2 keys
        ethics-1: Ed25519 key of ethics.example, at https://ethics.example/ (retired)
        ethics-2: ML-DSA-44 key of ethics.example, at https://ethics.example/
      state: any of these 2
        regulator, run by The regulator: any of its 2 keys
          regulator-1: Ed25519 key of regulator.example, at https://regulator.example/
          regulator-2: ML-DSA-44 key of regulator.example, at https://regulator.example/
        university, run by The university: any of its 2 keys
          university-1: Ed25519 key of university.example, at https://university.example/
          university-2: ML-DSA-44 key of university.example, at https://university.example/
  so at least 2 organisations of 3 must agree: The ethics, The regulator, The university

Statements that only a gateway signed are not accepted.
Times are those of the witnesses: no time authority is named.
Lists of lost and stolen keys are believed from 1 key.
No key is named for promises of the log.
No key is named for the list of the log's parts (shards).
These parts (shards) of the log have ended:
  log.example.org/trials/2026 with 12 entries
These witness keys are retired:
  ethics-1: its cosignatures count up to 7 entries of log.example.org/trials/2026, and nowhere else
`
	if got := policy.Show(p); got != want {
		t.Errorf("it says\n%s\nexpected\n%s", got, want)
	}
	none, problems := policy.Check([]byte(strings.Replace(text, "quorum all-of-us", "quorum none", 1)), encoded(t, sidecar))
	if none == nil || !strings.Contains(policy.Show(none), "and nobody else: no witness has to have seen it") {
		t.Errorf("a quorum of nobody: %v", problems)
	}
}
