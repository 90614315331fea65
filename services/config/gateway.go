package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"slices"
	"strings"
)

// Gateway is the configuration of the public door, `trialogd gateway`.
//
// A complete file:
//
//	{
//	  "listen": "127.0.0.1:8080",
//	  "grpc_listen": "127.0.0.1:8081",
//	  "sequencer": "127.0.0.1:8082",
//	  "policy_file": "policy",
//	  "policy_sidecar_file": "policy.json",
//	  "key_file": "gateway.pem",
//	  "state_file": "gateway.state",
//	  "documents_dir": "documents",
//	  "max_document_bytes": 67108864,
//	  "max_uploads": 4,
//	  "tokens": [
//	    {
//	      "sha256": "…64 hexadecimal digits…",
//	      "principal": "upload-desk-1",
//	      "organisation": "acme",
//	      "permissions": ["enrol", "receive", "upload"],
//	      "roles": ["sponsor", "admin"]
//	    }
//	  ],
//	  "quota": {
//	    "principal": {"per_minute": 600, "burst": 100},
//	    "organisation": {"per_minute": 600, "burst": 100},
//	    "address": {"per_minute": 600, "burst": 100}
//	  }
//	}
type Gateway struct {
	// Listen is the TCP address of the REST interface, host:port. Empty means
	// "127.0.0.1:8080": tokens travel in requests, so a gateway is put behind a
	// TLS front end on purpose, never in the open by default.
	Listen string `json:"listen,omitempty"`

	// GRPCListen is the TCP address of the gRPC interface, host:port. Empty
	// means "127.0.0.1:8081".
	GRPCListen string `json:"grpc_listen,omitempty"`

	// Sequencer is where the owner of the shard listens, host:port.
	Sequencer string `json:"sequencer"`

	// PolicyFile and PolicySidecarFile are the two halves of the policy that
	// the log publishes by. A receipt that does not verify by it is not given
	// out.
	PolicyFile        string `json:"policy_file"`
	PolicySidecarFile string `json:"policy_sidecar_file"`

	// KeyFile is the path of the gateway's own key, PEM PKCS #8, with which it
	// signs that it received a statement. The file is secret. Empty means that
	// statements without a submitter's signature are not taken. The policy must
	// name the key as a gateway's.
	KeyFile string `json:"key_file,omitempty"`

	// StateFile is the path of the file that holds what was signed for which
	// request, so that a repeated request is the same request. Exactly with
	// KeyFile. One process at a time uses it. A gateway that lost it signs a
	// repeated request anew: then the statement is in the log twice.
	StateFile string `json:"state_file,omitempty"`

	// DocumentsDir is the directory of public documents.
	DocumentsDir string `json:"documents_dir"`

	// MaxDocumentBytes is the greatest length of an uploaded document. Zero
	// means 64 MiB.
	MaxDocumentBytes int64 `json:"max_document_bytes,omitempty"`

	// MaxUploads is how many documents may be on their way in at once, and how
	// many out; each is held in memory meanwhile. Of one principal, and without a
	// token of one network address, one at a time may be on its way in: behind a
	// front end all callers without a token share one address. Zero means 4.
	MaxUploads int `json:"max_uploads,omitempty"`

	// Tokens are the bearer tokens (RFC 6750) of machines.
	Tokens []GatewayToken `json:"tokens,omitempty"`

	// Quota bounds what one party may ask for. Absent parts mean no limit.
	Quota GatewayQuota `json:"quota,omitzero"`
}

// GatewayToken is one bearer token and what its bearer may do.
type GatewayToken struct {
	// SHA256 is the SHA-256 of the token, 64 lower-case hexadecimal digits. The
	// token itself stands nowhere; it is to be random, of at least 128 bits, as
	// a digest hides nothing that can be guessed.
	SHA256 string `json:"sha256"`

	// Principal is the pseudonym under which statements name the bearer. It is
	// published in the log: no name, no e-mail address. 1 to 64 of the
	// characters A-Z a-z 0-9 . _ : -
	Principal string `json:"principal"`

	// Organisation is whom the bearer acts for. Needed for "receive"; with
	// "enrol", empty means any organisation.
	Organisation string `json:"organisation,omitempty"`

	// Permissions are "enrol" (submit the first enrolment of an organisation),
	// "receive" (have statements signed by the gateway) and "upload" (store
	// documents ahead of their statements).
	Permissions []string `json:"permissions"`

	// Roles are those that a first enrolment with this token may ask for.
	// Exactly with "enrol".
	Roles []string `json:"roles,omitempty"`
}

// GatewayQuota holds one limit for each kind of party.
type GatewayQuota struct {
	// Principal limits the calls with one token's principal.
	Principal *GatewayRate `json:"principal,omitempty"`

	// Organisation limits the statements that are logged for one organisation.
	Organisation *GatewayRate `json:"organisation,omitempty"`

	// Address limits the calls without a token from one network address (IPv6:
	// one /64). Behind a front end all calls come from one address: leave it
	// out there.
	Address *GatewayRate `json:"address,omitempty"`
}

// GatewayRate is a token bucket.
type GatewayRate struct {
	// PerMinute is how many are let through in the long run, 1 to 60,000,000.
	PerMinute int `json:"per_minute"`

	// Burst is how many may come at once. Zero means 1.
	Burst int `json:"burst,omitempty"`
}

// Defaults of a gateway's configuration.
const (
	DefaultGatewayListen      = "127.0.0.1:8080"
	DefaultGatewayGRPCListen  = "127.0.0.1:8081"
	DefaultGatewayDocument    = 64 << 20
	DefaultGatewayUploads     = 4
	maxGatewayDocument        = 1 << 30
	maxGatewayUploads         = 1024
	maxGatewayRate            = 60_000_000
	maxGatewayTokens          = 10_000
	gatewayEnrol              = "enrol"
	gatewayReceive            = "receive"
	gatewayUpload             = "upload"
	gatewayIdentifierExpected = "expected 1 to 64 of the characters A-Z a-z 0-9 . _ : -, beginning with a letter or digit"
)

// ParseGateway reads a gateway configuration from JSON, as strictly as
// ParseWitness, fills in the defaults and validates it.
func ParseGateway(raw []byte) (*Gateway, error) {
	if err := witnessMembers(raw); err != nil {
		return nil, fmt.Errorf("gateway config: %w", err)
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	var c Gateway
	if err := dec.Decode(&c); err != nil {
		return nil, fmt.Errorf("gateway config: %w", err)
	}
	c = c.WithDefaults()
	if err := c.Validate(); err != nil {
		return nil, err
	}
	return &c, nil
}

// WithDefaults returns the configuration with its defaults filled in.
func (c *Gateway) WithDefaults() Gateway {
	d := *c
	if d.Listen == "" {
		d.Listen = DefaultGatewayListen
	}
	if d.GRPCListen == "" {
		d.GRPCListen = DefaultGatewayGRPCListen
	}
	if d.MaxDocumentBytes == 0 {
		d.MaxDocumentBytes = DefaultGatewayDocument
	}
	if d.MaxUploads == 0 {
		d.MaxUploads = DefaultGatewayUploads
	}
	return d
}

// Validate says whether the configuration can be used. The error names the
// first field that cannot, and what was expected there.
func (c *Gateway) Validate() error {
	for _, a := range []struct{ field, address string }{
		{"listen", c.Listen}, {"grpc_listen", c.GRPCListen}, {"sequencer", c.Sequencer},
	} {
		if _, _, err := net.SplitHostPort(a.address); err != nil && (a.address != "" || a.field == "sequencer") {
			return gatewayError(a.field, "expected host:port, got %q", a.address)
		}
	}
	for _, p := range []struct{ field, path string }{
		{"policy_file", c.PolicyFile}, {"policy_sidecar_file", c.PolicySidecarFile}, {"documents_dir", c.DocumentsDir},
	} {
		if p.path == "" {
			return gatewayError(p.field, "expected a path, got nothing")
		}
	}
	if (c.KeyFile == "") != (c.StateFile == "") {
		return gatewayError("state_file", "expected exactly with key_file")
	}
	return c.ValidateRules()
}

// ValidateRules is Validate without the addresses and paths of what the process
// reaches, for a gateway inside a process that has them open already.
func (c *Gateway) ValidateRules() error {
	if c.MaxDocumentBytes < 0 || c.MaxDocumentBytes > maxGatewayDocument {
		return gatewayError("max_document_bytes", "expected 1 to %d, got %d", maxGatewayDocument, c.MaxDocumentBytes)
	}
	if c.MaxUploads < 0 || c.MaxUploads > maxGatewayUploads {
		return gatewayError("max_uploads", "expected 1 to %d, got %d", maxGatewayUploads, c.MaxUploads)
	}
	if len(c.Tokens) > maxGatewayTokens {
		return gatewayError("tokens", "expected at most %d", maxGatewayTokens)
	}
	seen := make(map[string]int, len(c.Tokens))
	for i := range c.Tokens {
		at := fmt.Sprintf("tokens[%d]", i)
		if field, problem := c.Tokens[i].check(); problem != "" {
			return gatewayError(at+"."+field, "%s", problem)
		}
		if first, twice := seen[c.Tokens[i].SHA256]; twice {
			return gatewayError(at+".sha256", "is that of tokens[%d] already", first)
		}
		seen[c.Tokens[i].SHA256] = i
	}
	for _, q := range []struct {
		field string
		rate  *GatewayRate
	}{
		{"quota.principal", c.Quota.Principal},
		{"quota.organisation", c.Quota.Organisation},
		{"quota.address", c.Quota.Address},
	} {
		if q.rate == nil {
			continue
		}
		if q.rate.PerMinute < 1 || q.rate.PerMinute > maxGatewayRate {
			return gatewayError(q.field+".per_minute", "expected 1 to %d, got %d", maxGatewayRate, q.rate.PerMinute)
		}
		if q.rate.Burst < 0 || q.rate.Burst > maxGatewayRate {
			return gatewayError(q.field+".burst", "expected 0 to %d, got %d", maxGatewayRate, q.rate.Burst)
		}
	}
	return nil
}

func gatewayError(field, format string, args ...any) error {
	return fmt.Errorf("gateway config: %s: %s", field, fmt.Sprintf(format, args...))
}

// check returns the field and what is wrong with it, or an empty problem. It
// never repeats the digest of a token.
func (t *GatewayToken) check() (field, problem string) {
	if len(t.SHA256) != 64 || strings.Trim(t.SHA256, "0123456789abcdef") != "" {
		return "sha256", "expected 64 lower-case hexadecimal digits"
	}
	if !gatewayIdentifier(t.Principal) {
		return "principal", gatewayIdentifierExpected
	}
	if t.Organisation != "" && !gatewayIdentifier(t.Organisation) {
		return "organisation", gatewayIdentifierExpected
	}
	if len(t.Permissions) == 0 {
		return "permissions", "expected at least one of enrol, receive, upload"
	}
	for i, p := range t.Permissions {
		if !slices.Contains([]string{gatewayEnrol, gatewayReceive, gatewayUpload}, p) {
			return fmt.Sprintf("permissions[%d]", i), fmt.Sprintf("expected enrol, receive or upload, got %q", p)
		}
		if slices.Contains(t.Permissions[:i], p) {
			return fmt.Sprintf("permissions[%d]", i), "is there twice"
		}
	}
	if t.Organisation == "" && slices.Contains(t.Permissions, gatewayReceive) {
		return "organisation", `expected an organisation, "receive" speaks for one`
	}
	if (len(t.Roles) > 0) != slices.Contains(t.Permissions, gatewayEnrol) {
		return "roles", `expected at least one exactly with the permission "enrol"`
	}
	for i, r := range t.Roles {
		if !gatewayIdentifier(r) {
			return fmt.Sprintf("roles[%d]", i), "expected the name of a role"
		}
	}
	return "", ""
}

// gatewayIdentifier is the rule that statements have for identifiers.
func gatewayIdentifier(s string) bool {
	if len(s) < 1 || len(s) > 64 || strings.IndexByte("._:-", s[0]) >= 0 {
		return false
	}
	return !strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("._:-", r)
	})
}
