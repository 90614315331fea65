package gateway

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	trialogv1 "github.com/trialog/trialog/api/gen/trialog/v1"
	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/services/config"
)

// permission is what a token allows.
type permission string

const (
	nobody  permission = ""        // no permission is needed
	enrol   permission = "enrol"   // submit the first enrolment of an organisation
	receive permission = "receive" // have statements signed by the gateway
	upload  permission = "upload"  // store documents ahead of their statements
)

// Calls that are no RPC.
const (
	putDocument = "PUT /v1/documents/{sha256}"
	getDocument = "GET /v1/documents/{sha256}"
)

// rule is one row of the table of access.
type rule struct {
	// always is needed for the call.
	always permission
	// sometimes is needed in the case that when describes.
	sometimes permission
	when      string
}

// rules is the table of access: who may call what. A call that has no row is
// refused, and a test finds an RPC without one.
func rules() map[string]rule {
	return map[string]rule{
		trialogv1.SubmissionService_GetLog_FullMethodName:  {},
		trialogv1.SubmissionService_Prepare_FullMethodName: {},
		trialogv1.SubmissionService_Submit_FullMethodName: {
			sometimes: enrol, when: "the statement is an organisation's first enrolment, and new",
		},
		trialogv1.SubmissionService_SubmitBatch_FullMethodName: {
			sometimes: enrol, when: "one of the statements is an organisation's first enrolment, and new",
		},
		// First enrolments are not taken in over streams, whoever asks.
		trialogv1.SubmissionService_SubmitStream_FullMethodName: {},

		trialogv1.SubmissionService_Receive_FullMethodName:    {always: receive},
		trialogv1.SubmissionService_GetReceipt_FullMethodName: {},
		trialogv1.SubmissionService_GetChain_FullMethodName:   {},
		putDocument: {sometimes: upload, when: "no logged statement is named that refers to the document"},
		getDocument: {},
	}
}

// access knows the tokens.
type access struct {
	rules  map[string]rule
	tokens []token
}

type token struct {
	digest [sha256.Size]byte
	bearer caller
}

// caller is who calls. The zero value is a stranger.
type caller struct {
	principal    string // pseudonym; empty for a stranger
	organisation string // empty for any
	permissions  []permission
	roles        []string // that a first enrolment may ask for
	rule         rule     // of the call
}

func newAccess(tokens []config.GatewayToken) (*access, error) {
	a := &access{rules: rules()}
	for i, t := range tokens {
		digest, err := statement.ParseDigest(t.SHA256)
		if err != nil {
			return nil, fmt.Errorf("gateway: tokens[%d].sha256: %w", i, err)
		}
		bearer := caller{principal: t.Principal, organisation: t.Organisation, roles: slices.Clone(t.Roles)}
		for _, p := range t.Permissions {
			bearer.permissions = append(bearer.permissions, permission(p))
		}
		a.tokens = append(a.tokens, token{digest: digest, bearer: bearer})
	}
	return a, nil
}

// admit finds out who calls and whether the call is theirs to make. A token
// that is not known is never ignored, also where none is needed: its sender
// believes to be somebody.
func (a *access) admit(ctx context.Context, call string) (*caller, error) {
	r, ok := a.rules[call]
	if !ok {
		return nil, &fault{code: codes.PermissionDenied, detail: "nobody may make this call"}
	}
	md, _ := metadata.FromIncomingContext(ctx)
	who, err := a.identify(md.Get("authorization"))
	if err != nil {
		return nil, err
	}
	who.rule = r
	if err := who.require(r.always); err != nil {
		return nil, err
	}
	return who, nil
}

// identify reads the Authorization header fields.
// SPEC: RFC 6750 section 2.1, Authorization Request Header Field.
func (a *access) identify(headers []string) (*caller, error) {
	if len(headers) == 0 {
		return &caller{}, nil
	}
	scheme, text, ok := strings.Cut(headers[0], " ")
	if len(headers) > 1 || !ok || !strings.EqualFold(scheme, "Bearer") || text == "" {
		return nil, unauthenticated("expected one header field Authorization: Bearer TOKEN")
	}
	// Digests are compared, each with all of them, so that the time taken says
	// nothing about a token or its place.
	digest := sha256.Sum256([]byte(text))
	found := -1
	for i := range a.tokens {
		equal := subtle.ConstantTimeCompare(digest[:], a.tokens[i].digest[:])
		found = subtle.ConstantTimeSelect(equal, i, found)
	}
	if found < 0 {
		return nil, unauthenticated("the token is not known")
	}
	who := a.tokens[found].bearer
	return &who, nil
}

func unauthenticated(detail string) *fault {
	return &fault{code: codes.Unauthenticated, detail: detail}
}

// require checks a permission.
func (c *caller) require(p permission) error {
	switch {
	case p == nobody || slices.Contains(c.permissions, p):
		return nil
	case c.principal == "":
		return unauthenticated(fmt.Sprintf("needs a token with the permission %q", p))
	}
	return &fault{code: codes.PermissionDenied, detail: fmt.Sprintf("the token lacks the permission %q", p)}
}

// party is whom a call is counted for: the principal, or for a stranger the
// address.
func (c *caller) party(ctx context.Context) string {
	if c.principal != "" {
		return "principal " + c.principal
	}
	return "address " + address(ctx)
}

// speaksFor checks that a token may be used for an organisation.
func (c *caller) speaksFor(field, organisation string) error {
	if c.organisation != "" && c.organisation != organisation {
		return forbidden(field, "the token is for another organisation")
	}
	return nil
}
