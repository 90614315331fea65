package statement_test

import (
	"crypto/sha256"
	"crypto/sha3"
	"encoding/base64"
	"testing"

	"github.com/trialog/trialog/api/statement"
)

// reveal is a reveal that names the digests of one content and publishes another;
// nil publishes nothing.
func reveal(tb testing.TB, part string, named, published []byte) *statement.Statement {
	tb.Helper()
	s := minimal(tb, statement.KindReveal)
	s.Attributes = []statement.Member{
		statement.TextMember("opens", digest("opened").String()), statement.TextMember("part", part),
		statement.TextMember("nonce", digest("nonce").String()),
		statement.TextMember("sha256", statement.Digest(sha256.Sum256(named)).String()),
		statement.TextMember("sha3256", statement.Digest(sha3.Sum256(named)).String()),
	}
	if published != nil {
		s.Attributes = append(s.Attributes, statement.TextMember("content", base64.StdEncoding.EncodeToString(published)))
	}
	return s
}

// TestReveal: what a reveal publishes has the digests that it names, and a
// document is not published in the log.
func TestReveal(t *testing.T) {
	content := []byte(`{"subject":"S-1"}`)
	build(t, reveal(t, "document", content, nil))
	build(t, reveal(t, "attributes", content, content))
	const field = "predicate.attributes.content"
	for words, s := range map[string]*statement.Statement{
		"a document is not published":                  reveal(t, "document", content, content),
		"missing, expected the bytes":                  reveal(t, "attributes", content, nil),
		"does not have the digests sha256 and sha3256": reveal(t, "attributes", content, []byte("{}")),
	} {
		_, err := statement.Build(s)
		checkField(t, err, field, words)
	}
	for i, name := range map[int]string{3: "sha256", 4: "sha3256"} {
		s := reveal(t, "attributes", content, content)
		s.Attributes[i] = statement.TextMember(name, digest("other").String())
		_, err := statement.Build(s)
		checkField(t, err, field, "does not have the digests")
	}
}
