package gateway

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/services/config"
	"github.com/trialog/trialog/services/internal/blob"
)

// statementHeader names, in an upload without a token, the logged statement
// that refers to the document.
const statementHeader = "X-Trialog-Statement"

// documents is the store of public documents: opaque bytes by their digest,
// which nobody here parses, unpacks or fetches. A document is taken from whoever
// may upload, or for a logged statement; it is given out only for a logged
// statement that refers to it.
type documents struct {
	store Documents
	limit int64
	// in and out bound how many documents are in memory at once.
	in, out chan struct{}
	// turns holds whose upload is on its way: one of a caller, so that nobody
	// takes all places.
	turns turns
}

func newDocuments(store Documents, c config.Gateway) *documents {
	return &documents{
		store: store, limit: c.MaxDocumentBytes,
		in: make(chan struct{}, c.MaxUploads), out: make(chan struct{}, c.MaxUploads),
		turns: turns{open: make(map[string]struct{})},
	}
}

// documentKey spreads documents over directories.
func documentKey(d statement.Digest) string {
	name := d.String()
	return "documents/" + name[:2] + "/" + name
}

// enterSlot takes one of the places in slots, if there is one.
func enterSlot(slots chan struct{}) (leave func(), err error) {
	select {
	case slots <- struct{}{}:
		return func() { <-slots }, nil
	default:
		return nil, unavailable("too many documents are on their way; ask again later")
	}
}

// putDocument serves PUT /v1/documents/{sha256}. The same document again is no
// error.
func (g *Gateway) putDocument(w http.ResponseWriter, r *http.Request) {
	size, err := g.takeDocument(w, r)
	if err != nil {
		w.Header().Set("Connection", "close") // the rest of the body is not read
		g.refuse(w, r, putDocument, err)
		return
	}
	_ = g.end(r.Context(), putDocument, nil, nil)
	w.Header().Set("Content-Type", "application/json")
	_, _ = fmt.Fprintf(w, "{\"sha256\":%q,\"size\":%q}\n", documentName(r), strconv.Itoa(size))
}

// refuse answers with an error of a call that is no RPC.
func (g *Gateway) refuse(w http.ResponseWriter, r *http.Request, call string, err error) {
	var p *restProblem
	if errors.As(err, &p) {
		g.cfg.Log.LogAttrs(r.Context(), slog.LevelInfo, "call refused", slog.String("call", call), slog.Int("status", p.Status))
	} else {
		p = restProblemOf(g.end(r.Context(), call, err, nil))
	}
	p.write(w)
}

// documentName is the last segment of the path.
func documentName(r *http.Request) string {
	return r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]
}

func (g *Gateway) takeDocument(w http.ResponseWriter, r *http.Request) (size int, err error) {
	ctx := r.Context()
	who, err := g.enter(ctx, putDocument)
	if err != nil {
		return 0, err
	}
	digest, err := digestField("sha256", documentName(r))
	if err != nil {
		return 0, err
	}
	media := r.Header.Get("Content-Type")
	if statement.CheckMediaType("", media) != nil || len(r.Header.Values("Content-Type")) != 1 {
		return 0, newProblem(http.StatusUnsupportedMediaType, "").
			withField("Content-Type", "expected a media type in lower case without parameters, such as application/pdf")
	}
	if err := g.mayUpload(ctx, who, r.Header, digest, media); err != nil {
		return 0, err
	}
	length, err := g.announced(r)
	if err != nil {
		return 0, err
	}
	over, err := g.documents.turns.enter(who.party(ctx))
	if err != nil {
		return 0, err
	}
	defer over()
	leave, err := enterSlot(g.documents.in)
	if err != nil {
		return 0, err
	}
	defer leave()
	content, err := g.readDocument(w, r, length, digest)
	if err != nil {
		return 0, err
	}
	if err := g.documents.store.Put(ctx, blob.Object{Key: documentKey(digest), Data: content}); err != nil {
		g.cfg.Log.LogAttrs(ctx, slog.LevelError, "document store failed", slog.String("step", "put"))
		return 0, unavailable("the document store takes nothing in at the moment; send the same request again")
	}
	return len(content), nil
}

// mayUpload lets a document in for a logged statement that refers to it, or
// from whoever may upload ahead of one.
func (g *Gateway) mayUpload(ctx context.Context, who *caller, h http.Header, digest statement.Digest, media string) error {
	named := h.Values(statementHeader)
	if len(named) == 0 {
		return who.require(who.rule.sometimes)
	}
	id, err := digestField(statementHeader, named[0])
	if err != nil || len(named) > 1 {
		return invalid(statementHeader, "expected one identity, 64 lower-case hexadecimal digits")
	}
	ctx, cancel := context.WithTimeout(ctx, g.limits.CallTimeout)
	defer cancel()
	_, s, err := g.find(ctx, id, statementHeader)
	if err != nil {
		return err
	}
	if !refersTo(s, digest) {
		return forbidden(statementHeader, "the statement does not refer to this document")
	}
	if s.MediaType != media {
		return newProblem(http.StatusUnsupportedMediaType, "").
			withField("Content-Type", fmt.Sprintf("expected %s, as the statement says", s.MediaType))
	}
	return nil
}

// refersTo tells whether a statement publishes a document. One that seals it
// never does: its subject is a commitment.
func refersTo(s *statement.Statement, digest statement.Digest) bool {
	return s.Subject == statement.SubjectSHA256 && s.Digest == digest
}

// announced is the length of the body, which must be announced.
func (g *Gateway) announced(r *http.Request) (int64, error) {
	switch n := r.ContentLength; {
	case n < 0:
		return 0, newProblem(http.StatusLengthRequired, "").withField("Content-Length", "missing, expected the length of the document")
	case n > g.documents.limit:
		return 0, newProblem(http.StatusRequestEntityTooLarge, "").
			withField("body", fmt.Sprintf("expected at most %d bytes", g.documents.limit))
	default:
		return n, nil
	}
}

// readDocument reads a body of n bytes as long as it keeps coming, hashing as it
// comes. Nothing is kept of one that fails.
func (g *Gateway) readDocument(w http.ResponseWriter, r *http.Request, n int64, digest statement.Digest) ([]byte, error) {
	control := http.NewResponseController(w)
	// Recorders of tests cannot; servers can.
	_ = control.SetWriteDeadline(g.cfg.Now().Add(g.documentTime(n) + g.limits.BodyTimeout))
	body := &pacedReader{
		body: r.Body, now: g.cfg.Now, begun: g.cfg.Now(), until: control.SetReadDeadline,
		pause: g.limits.BodyTimeout, rate: g.limits.UploadRate,
	}
	content := make([]byte, n)
	hash := sha256.New()
	if _, err := io.ReadFull(io.TeeReader(body, hash), content); err != nil {
		return nil, bodyCut(err)
	}
	_ = control.SetReadDeadline(noDeadline())
	if statement.Digest(hash.Sum(nil)) != digest {
		return nil, invalid("sha256", "is not the SHA-256 of the body")
	}
	return content, nil
}

// documentTime is how long n bytes may be on their way.
func (g *Gateway) documentTime(n int64) time.Duration {
	return g.limits.BodyTimeout + time.Duration(n/g.limits.UploadRate)*time.Second
}

// getDocument serves GET /v1/documents/{sha256}?statement=IDENTITY. The media
// type is the one that the statement says.
func (g *Gateway) getDocument(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), g.limits.CallTimeout)
	defer cancel()
	s, err := g.mayDownload(ctx, r)
	if err != nil {
		g.refuse(w, r, getDocument, err)
		return
	}
	// A place is for whoever will get a document, and until it is sent.
	leave, err := enterSlot(g.documents.out)
	if err != nil {
		g.refuse(w, r, getDocument, err)
		return
	}
	defer leave()
	content, err := g.loadDocument(ctx, s.Digest)
	if err != nil {
		g.refuse(w, r, getDocument, err)
		return
	}
	_ = g.end(r.Context(), getDocument, nil, nil)
	h := w.Header()
	// A document is a stranger's: it is saved, never shown as a page of ours.
	h.Set("Content-Disposition", "attachment")
	h.Set("Content-Type", s.MediaType)
	etag := `"` + s.Digest.String() + `"`
	h.Set("ETag", etag)
	if r.Header.Get("If-None-Match") == etag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	h.Set("Content-Length", strconv.Itoa(len(content)))
	_ = http.NewResponseController(w).SetWriteDeadline(g.cfg.Now().Add(g.documentTime(int64(len(content)))))
	_, _ = w.Write(content) // the caller may be gone
}

// mayDownload counts the call and returns the statement that publishes the
// document.
func (g *Gateway) mayDownload(ctx context.Context, r *http.Request) (*statement.Statement, error) {
	if _, err := g.enter(ctx, getDocument); err != nil {
		return nil, err
	}
	digest, err := digestField("sha256", documentName(r))
	if err != nil {
		return nil, err
	}
	id, err := digestField("statement", r.URL.Query().Get("statement"))
	if err != nil {
		return nil, err
	}
	_, s, err := g.find(ctx, id, "statement")
	if err != nil {
		return nil, err
	}
	if !refersTo(s, digest) {
		return nil, noDocument()
	}
	return s, nil
}

// noDocument is the same answer whether the document is not there or not to be
// had.
func noDocument() *fault {
	return &fault{code: codes.NotFound, violations: []violation{{"sha256", "no such document of this statement is here"}}}
}

func (g *Gateway) loadDocument(ctx context.Context, digest statement.Digest) ([]byte, error) {
	content, err := g.documents.store.Get(ctx, documentKey(digest))
	switch {
	case errors.Is(err, blob.ErrNotFound):
		return nil, noDocument()
	case err != nil:
		g.cfg.Log.LogAttrs(ctx, slog.LevelError, "document store failed", slog.String("step", "get"))
		return nil, unavailable("the document store gives nothing out at the moment; ask again later")
	case statement.Digest(sha256.Sum256(content)) != digest:
		g.cfg.Log.LogAttrs(ctx, slog.LevelError, "stored document is damaged", slog.String("sha256", digest.String()))
		return nil, unavailable("the stored document is damaged; its operator has been told")
	}
	return content, nil
}
