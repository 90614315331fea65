package config

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
)

const goodGateway = `{
  "listen": "127.0.0.1:9080",
  "grpc_listen": "127.0.0.1:9081",
  "sequencer": "127.0.0.1:9082",
  "policy_file": "policy",
  "policy_sidecar_file": "policy.json",
  "key_file": "gateway.pem",
  "state_file": "gateway.state",
  "documents_dir": "documents",
  "max_document_bytes": 1000,
  "max_uploads": 2,
  "tokens": [
    {"sha256": "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef", "principal": "desk-1",
     "organisation": "acme", "permissions": ["enrol", "receive", "upload"], "roles": ["sponsor"]},
    {"sha256": "1123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef", "principal": "desk-2", "permissions": ["upload"]}
  ],
  "quota": {"principal": {"per_minute": 60, "burst": 10}, "address": {"per_minute": 6}}
}`

func TestParseGateway(t *testing.T) {
	c, err := ParseGateway([]byte(goodGateway))
	if err != nil {
		t.Fatal(err)
	}
	if c.Listen != "127.0.0.1:9080" || c.MaxDocumentBytes != 1000 || len(c.Tokens) != 2 || c.Quota.Principal.Burst != 10 ||
		c.Quota.Organisation != nil {
		t.Errorf("got %+v", c)
	}
	raw, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	again, err := ParseGateway(raw)
	if err != nil || !reflect.DeepEqual(c, again) {
		t.Errorf("what the operator would render gives %+v, %v", again, err)
	}
}

func TestParseGatewayDefaults(t *testing.T) {
	c, err := ParseGateway([]byte(`{"sequencer": "h:1", "policy_file": "p", "policy_sidecar_file": "s", "documents_dir": "d"}`))
	if err != nil {
		t.Fatal(err)
	}
	if c.Listen != DefaultGatewayListen || c.GRPCListen != DefaultGatewayGRPCListen ||
		c.MaxDocumentBytes != DefaultGatewayDocument || c.MaxUploads != DefaultGatewayUploads {
		t.Errorf("got %+v", c)
	}
}

func TestParseGatewayRejects(t *testing.T) {
	replace := func(old, with string) string {
		if !strings.Contains(goodGateway, old) {
			t.Fatalf("the good configuration has no %q", old)
		}
		return strings.Replace(goodGateway, old, with, 1)
	}
	for name, tc := range map[string]struct{ raw, field string }{
		"empty":                {"", "reading JSON"},
		"not an object":        {`[]`, "cannot unmarshal"},
		"null":                 {`null`, "sequencer"},
		"trailing bytes":       {goodGateway + "{}", "after the object"},
		"unknown member":       {replace(`"listen"`, `"listne"`), "listne"},
		"other case":           {replace(`"listen"`, `"Listen"`), "Listen"},
		"duplicate member":     {replace(`"listen"`, `"sequencer": "h:2", "listen"`), "sequencer: duplicate"},
		"unknown in a token":   {replace(`"principal": "desk-1"`, `"principal": "desk-1", "name": "x"`), "name"},
		"listen":               {replace("127.0.0.1:9080", "127.0.0.1"), "listen"},
		"grpc_listen":          {replace("127.0.0.1:9081", "x"), "grpc_listen"},
		"no sequencer":         {replace("127.0.0.1:9082", ""), "sequencer"},
		"no policy":            {replace(`"policy_file": "policy"`, `"policy_file": ""`), "policy_file"},
		"no sidecar":           {replace(`"policy.json"`, `""`), "policy_sidecar_file"},
		"no documents":         {replace(`"documents"`, `""`), "documents_dir"},
		"key without state":    {replace(`"gateway.state"`, `""`), "state_file"},
		"state without key":    {replace(`"gateway.pem"`, `""`), "state_file"},
		"document limit":       {replace("1000", "-1"), "max_document_bytes"},
		"document limit great": {replace("1000", "99999999999"), "max_document_bytes"},
		"uploads":              {replace(`"max_uploads": 2`, `"max_uploads": 5000`), "max_uploads"},
		"token in clear":       {replace("0123456789abcdef0123", "my secret token 0123"), "tokens[0].sha256"},
		"digest in upper case": {replace("0123456789abcdef", "0123456789ABCDEF"), "tokens[0].sha256"},
		"digest too short":     {replace("0123456789abcdef", ""), "tokens[0].sha256"},
		"token twice":          {replace("1123456789", "0123456789"), "tokens[1].sha256"},
		"principal an address": {replace("desk-1", "jane@example.org"), "tokens[0].principal"},
		"principal empty":      {replace("desk-1", ""), "tokens[0].principal"},
		"principal with a dot": {replace("desk-1", ".desk"), "tokens[0].principal"},
		"organisation":         {replace(`"acme"`, `"a cme"`), "tokens[0].organisation"},
		"receive for nobody":   {replace(`"acme"`, `""`), "tokens[0].organisation"},
		"no permissions":       {replace(`"permissions": ["upload"]`, `"permissions": []`), "tokens[1].permissions"},
		"unknown permission":   {replace(`"receive", "upload"`, `"receive", "rule"`), "tokens[0].permissions[2]"},
		"permission twice":     {replace(`"receive", "upload"`, `"receive", "enrol"`), "tokens[0].permissions[2]"},
		"enrol without roles":  {replace(`["sponsor"]`, `[]`), "tokens[0].roles"},
		"roles without enrol":  {replace(`"enrol", `, ``), "tokens[0].roles"},
		"role":                 {replace(`["sponsor"]`, `["a b"]`), "tokens[0].roles[0]"},
		"rate zero":            {replace(`"per_minute": 60`, `"per_minute": 0`), "quota.principal.per_minute"},
		"burst negative":       {replace(`"burst": 10`, `"burst": -1`), "quota.principal.burst"},
		"rate of addresses":    {replace(`"per_minute": 6}`, `"per_minute": 99999999}`), "quota.address.per_minute"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ParseGateway([]byte(tc.raw))
			if err == nil || !strings.Contains(err.Error(), tc.field) {
				t.Errorf("got %v, want %q", err, tc.field)
			}
			if err != nil && strings.Contains(err.Error(), "secret") {
				t.Errorf("the error repeats a token: %v", err)
			}
		})
	}
}
