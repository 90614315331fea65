package client

import (
	"context"
	"crypto/sha256"
	"net/http"
	"net/url"
	"time"

	"github.com/trialog/trialog/api/statement"
)

// statementHeader names the logged statement that lets a document in.
const statementHeader = "X-Trialog-Statement"

// slowest is how slow a connection may be for a document, in bytes a second.
const slowest = 64 << 10

// maxDocument bounds a document that is fetched, in bytes.
const maxDocument = 4 << 30

// PutDocument uploads a public document that a logged statement refers to. The
// same document again is no error.
func (c *Client) PutDocument(ctx context.Context, document []byte, mediaType string, id statement.Identity) error {
	digest := statement.Digest(sha256.Sum256(document))
	if document == nil {
		document = []byte{}
	}
	_, err := c.call(ctx, request{
		method: http.MethodPut, path: "/v1/documents/" + digest.String(), body: document, limit: maxRefusal,
		header: http.Header{"Content-Type": {mediaType}, statementHeader: {id.String()}},
		extra:  transfer(int64(len(document))),
	})
	return err
}

// Document fetches a public document of a statement and checks its digest. The
// media type is the one that the server says.
func (c *Client) Document(
	ctx context.Context, digest statement.Digest, id statement.Identity, limit int64,
) (document []byte, mediaType string, err error) {
	if limit <= 0 || limit > maxDocument {
		limit = maxDocument
	}
	got, err := c.call(ctx, request{
		method: http.MethodGet, path: "/v1/documents/" + digest.String(),
		query: url.Values{"statement": {id.String()}}, limit: limit, extra: transfer(limit),
	})
	if err != nil {
		return nil, "", err
	}
	if statement.Digest(sha256.Sum256(got.body)) != digest {
		return nil, "", untrue("document", nil, "it is not the one that was asked for")
	}
	return got.body, clean(got.header.Get("Content-Type")), nil
}

// transfer is how long n bytes may be on their way.
func transfer(n int64) time.Duration { return time.Duration(n/slowest) * time.Second }
