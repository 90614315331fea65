package statement

import (
	"crypto/sha256"
	"crypto/sha3"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/trialog/trialog/api/internal/strictjson"
)

// checkSubject holds the subject against the kind: a document where the kind
// has one, public or sealed as the kind demands, else what the statement is
// about.
func (s *Statement) checkSubject(rule Rule) error {
	path := "subject[0].digest"
	if s.Digest.IsZero() {
		return fieldErrorf(path, "expected a digest that is not zero")
	}
	switch rule.Content {
	case PublicDocument:
		if s.Subject != SubjectSHA256 {
			return fieldErrorf(path, "a %q has a public document, expected sha256", s.Kind)
		}
	case SealedDocument:
		if s.Subject != SubjectCommit {
			return fieldErrorf(path, "the document of a %q must be sealed, expected %s", s.Kind, SubjectCommit)
		}
	case AnyDocument:
		if !s.HasDocument() {
			return fieldErrorf(path, "a %q has a document, expected sha256 or %s", s.Kind, SubjectCommit)
		}
	case NoDocument:
		if s.HasDocument() {
			return fieldErrorf(path, "a %q has no document", s.Kind)
		}
	case OptionalDocument:
	}
	if s.HasDocument() {
		return CheckMediaType("predicate.mediaType", s.MediaType)
	}
	if s.MediaType != "" {
		return fieldErrorf("predicate.mediaType", "is for statements with a document")
	}
	return s.checkBareSubject(rule, path)
}

// checkBareSubject checks the subject of a statement without a document.
func (s *Statement) checkBareSubject(rule Rule, path string) error {
	want, digest := SubjectStatement, s.Digest
	switch {
	case rule.Scope == InLog, rule.Scope == InTrialOrLog && s.Trial == "":
		want, digest = SubjectLog, LogDigest(s.Log)
	case rule.Scope == InOrganisation:
		want = SubjectKey
	case s.Kind == KindTrial && s.Chain.Number == 1 && s.Amends.IsZero():
		want, digest = SubjectTrial, TrialDigest(s.Log, s.Organisation, s.Trial)
	}
	if s.Subject != want {
		return fieldErrorf(path, "expected %s for a %q without a document", want, s.Kind)
	}
	if s.Digest != digest {
		return fieldErrorf(path+"."+string(want), "is not the digest of what the statement names")
	}
	return nil
}

// checkContent holds the attributes against the kind's schema.
func (s *Statement) checkContent(rule Rule) error {
	return checkContent("predicate.", rule, s.Attributes, s.Sealed)
}

// checkContent holds the public attributes, and whether there are sealed ones,
// against the rule, for a statement or an item of a batch.
func checkContent(prefix string, rule Rule, members []Member, sealed Digest) error {
	if err := checkAttributes(prefix+"attributes", rule, members, false); err != nil {
		return err
	}
	some, required := rule.HasSealed()
	if sealed.IsZero() && required {
		return fieldErrorf(prefix+"sealedAttributes", "missing, a %q has sealed attributes", rule.Kind)
	}
	if !sealed.IsZero() && !some {
		return fieldErrorf(prefix+"sealedAttributes", "a %q has no sealed attributes", rule.Kind)
	}
	return nil
}

// checkAttributes holds the public, or the sealed, attributes against the rule.
func checkAttributes(path string, rule Rule, members []Member, wantSealed bool) error {
	for n, m := range members {
		i := slices.IndexFunc(rule.Attributes, func(a Attribute) bool { return a.Name == m.Name })
		if i < 0 {
			return fieldErrorf(path+"."+m.Name, "a %q has no such attribute that this version knows", rule.Kind)
		}
		a := rule.Attributes[i]
		if a.Sealed && !wantSealed {
			return fieldErrorf(path+"."+m.Name, "this attribute of a %q must be sealed", rule.Kind)
		}
		if !a.Sealed && wantSealed {
			return fieldErrorf(path+"."+m.Name, "this attribute of a %q is public", rule.Kind)
		}
		// The decoder has seen to it, but not a caller that builds or seals.
		if slices.ContainsFunc(members[:n], func(o Member) bool { return o.Name == m.Name }) {
			return fieldErrorf(path+"."+m.Name, "duplicate member")
		}
		if err := checkValue("", a, m.Value); err != nil {
			return checkValue(path+"."+m.Name, a, m.Value) // no path is made for a good one
		}
	}
	for _, a := range rule.Attributes {
		if a.Required && a.Sealed == wantSealed &&
			!slices.ContainsFunc(members, func(m Member) bool { return m.Name == a.Name }) {
			return fieldErrorf(path+"."+a.Name, "missing, a %q needs it", rule.Kind)
		}
	}
	return nil
}

// maxContent bounds an attribute of type Base64, in bytes.
const maxContent = 16 << 10

// checkValue checks one attribute's value against its type.
func checkValue(path string, a Attribute, v strictjson.Value) error {
	switch a.Type {
	case Count:
		if v.Kind != strictjson.Integer || v.Number < 0 || v.Number > strictjson.MaxInteger {
			return fieldErrorf(path, "expected an integer from 0 to 2^53-1")
		}
		return nil
	case TokenList:
		return checkList(path, v, 32, CheckToken)
	case DigestSet:
		return checkList(path, v, 64, checkDigestText)
	case Text, Token, Choice, DateValue, DigestHex, KeyDER, NonceHex, LogName, Base64:
	}
	if v.Kind != strictjson.String {
		return fieldErrorf(path, "expected a string, found %s", v.Kind)
	}
	return checkText(path, a, v.Text)
}

// checkText checks the value of an attribute that is a string.
func checkText(path string, a Attribute, text string) error {
	switch a.Type {
	case Token:
		return CheckToken(path, text)
	case Choice:
		if !slices.Contains(a.Options, text) {
			return fieldErrorf(path, "expected one of %v", a.Options)
		}
	case DateValue:
		return CheckDate(path, Date(text))
	case DigestHex, NonceHex:
		return checkDigestText(path, text)
	case KeyDER:
		if _, err := parseKeyText(text); err != nil {
			return fieldErrorf(path, "%s", err)
		}
	case LogName:
		return CheckLog(path, text)
	case Base64:
		if b, ok := strictjson.Base64(text); !ok || len(b) < 1 || len(b) > maxContent {
			return fieldErrorf(path, "expected the standard base64 of 1 to %d bytes", maxContent)
		}
	default:
		n := utf8.RuneCountInString(text)
		if n < 1 || n > 500 || !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl) {
			return fieldErrorf(path, "expected 1 to 500 characters of UTF-8 without control characters")
		}
	}
	return nil
}

func checkDigestText(path, text string) error {
	if _, err := ParseDigest(text); err != nil {
		return fieldErrorf(path, "expected 64 lower-case hexadecimal digits")
	}
	return nil
}

func checkList(path string, v strictjson.Value, most int, check func(path, text string) error) error {
	if v.Kind != strictjson.Array || len(v.Items) < 1 || len(v.Items) > most {
		return fieldErrorf(path, "expected an array of 1 to %d strings", most)
	}
	for i, item := range v.Items {
		inner := fmt.Sprintf("%s[%d]", path, i)
		if item.Kind != strictjson.String {
			return fieldErrorf(inner, "expected a string, found %s", item.Kind)
		}
		if err := check(inner, item.Text); err != nil {
			return err
		}
		if slices.ContainsFunc(v.Items[:i], func(o strictjson.Value) bool { return o.Text == item.Text }) {
			return fieldErrorf(inner, "is there twice")
		}
	}
	return nil
}

// parseKeyText reads the base64 of a SubjectPublicKeyInfo.
func parseKeyText(text string) (*PublicKey, error) {
	der, ok := strictjson.Base64(text)
	if !ok {
		return nil, errors.New("expected the standard base64 of a DER SubjectPublicKeyInfo")
	}
	return ParsePublicKey(der)
}

// RecoveryKey returns the recovery key that the first enrolment of an
// organisation names: the key that alone may revoke the organisation's keys.
func (s *Statement) RecoveryKey() (*PublicKey, bool) {
	if s.Kind != KindKey {
		return nil, false
	}
	key, err := parseKeyText(s.TextAttribute("recovery"))
	return key, err == nil
}

// EnrolledKey returns the key that a statement of kind "key" enrols.
func (s *Statement) EnrolledKey() (*PublicKey, bool) {
	if s.Kind != KindKey || s.TextAttribute("action") != "enrol" {
		return nil, false
	}
	key, err := parseKeyText(s.TextAttribute("publicKey"))
	return key, err == nil
}

// checkReveal: a document is handed over by other ways, so a reveal of one has no
// content; the revealed attributes are the content, and have its digests.
func (s *Statement) checkReveal() error {
	path := "predicate.attributes.content"
	text := s.TextAttribute("content")
	if s.TextAttribute("part") == "document" {
		if text != "" {
			return fieldErrorf(path, "is for revealed attributes, a document is not published")
		}
		return nil
	}
	content, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(content) == 0 {
		return fieldErrorf(path, "missing, expected the bytes of the revealed attributes")
	}
	if s.DigestAttribute("sha256") != sha256.Sum256(content) || s.DigestAttribute("sha3256") != sha3.Sum256(content) {
		return fieldErrorf(path, "does not have the digests sha256 and sha3256")
	}
	return nil
}

// checkKey holds together the attributes of a key statement: an enrolment
// carries the key, its roles and proof of possession; a revocation names the
// key, and the shard and index from which its statements are suspect.
func (s *Statement) checkKey(hasKey bool) error {
	path := "predicate.attributes."
	_, hasRoles := s.Attribute("roles")
	_, hasRevokes := s.Attribute("revokes")
	_, hasFrom := s.Attribute("suspectFrom")
	_, hasOrigin := s.Attribute("suspectOrigin")
	_, hasRecovery := s.Attribute("recovery")
	if s.TextAttribute("action") == "revoke" {
		if !hasRevokes || !hasOrigin || !hasFrom || hasKey || hasRoles || hasRecovery {
			return fieldErrorf(path+"revokes",
				"a revocation has revokes, suspectOrigin and suspectFrom, and no publicKey, roles or recovery")
		}
		if !IsShardOf(s.TextAttribute("suspectOrigin"), s.Log) {
			return fieldErrorf(path+"suspectOrigin", "expected the origin of a shard of %s", s.Log)
		}
		if s.Digest != s.DigestAttribute("revokes") {
			return fieldErrorf("subject[0].digest", "is not the id of the revoked key")
		}
		return nil
	}
	if !hasKey || !hasRoles || hasRevokes || hasOrigin || hasFrom {
		return fieldErrorf(path+"publicKey", "an enrolment has publicKey and roles, and no revokes, suspectOrigin or suspectFrom")
	}
	for _, r := range s.RolesAttribute() {
		if !slices.Contains(Roles(), r) {
			return fieldErrorf(path+"roles", "expected roles out of %v", Roles())
		}
	}
	key, _ := s.EnrolledKey()
	if s.Digest != key.ID() {
		return fieldErrorf("subject[0].digest", "is not the id of the enrolled key")
	}
	if !slices.Contains(s.SignerIDs(), key.ID()) {
		return fieldErrorf("predicate.signers", "the enrolled key must sign its own enrolment, to prove its possession")
	}
	return nil
}
