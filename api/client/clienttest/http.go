package clienttest

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/trialog/trialog/api/entry"
	trialogv1 "github.com/trialog/trialog/api/gen/trialog/v1"
	"github.com/trialog/trialog/api/internal/testlog"
	"github.com/trialog/trialog/api/statement"
)

func leafHash(raw []byte) [32]byte { return entry.LeafHash(raw) }

// problem is an error body (RFC 9457).
type problem struct {
	Type   string       `json:"type"`
	Title  string       `json:"title"`
	Status int          `json:"status"`
	Detail string       `json:"detail"`
	Field  string       `json:"field,omitempty"`
	Head   *problemHead `json:"head,omitempty"`
}

type problemHead struct {
	Number   uint64             `json:"number"`
	Identity statement.Identity `json:"identity"`
}

// Error implements error.
func (p *problem) Error() string { return p.Detail }

func refuse(status int, field, reason string) *problem {
	return &problem{Status: status, Field: field, Detail: field + ": " + reason}
}

func (p *problem) write(w http.ResponseWriter) {
	p.Title = http.StatusText(p.Status)
	p.Type = "https://trialog.dev/problems/" + strings.ToLower(strings.ReplaceAll(p.Title, " ", "-"))
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(p.Status)
	_, _ = w.Write(testlog.Must(json.Marshal(p)))
}

// shardPath is where the tiles of the only shard are, and its checkpoint; they are
// at the top as well, as it is the active one.
const shardPath = "/shards/2026"

// ServeHTTP implements http.Handler.
func (l *Log) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the client is gone
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.calls = append(l.calls, r.Method+" "+r.URL.Path)
	path := strings.TrimPrefix(r.URL.Path, shardPath)
	switch {
	case path == "/v1/log":
		l.serveLog(w)
	case path == "/v1/statements" && r.Method == http.MethodPost:
		l.serveSubmit(w, r, body)
	case path == "/v1/statements:batch" && r.Method == http.MethodPost:
		l.serveBatch(w, r, body)
	case strings.HasPrefix(path, "/v1/statements/"):
		l.serveReceipt(w, strings.TrimSuffix(strings.TrimPrefix(path, "/v1/statements/"), "/receipt"))
	case strings.HasPrefix(path, "/v1/chains/"):
		l.serveChain(w, strings.TrimPrefix(path, "/v1/chains/"), r.URL.Query().Get("trial"))
	case strings.HasPrefix(path, "/v1/documents/"):
		l.serveDocument(w, r, strings.TrimPrefix(path, "/v1/documents/"), body)
	case path == "/checkpoint":
		_, _ = w.Write(l.note())
	case strings.HasPrefix(path, "/tile/"):
		l.serveTile(w, strings.TrimPrefix(path, "/"))
	case strings.HasPrefix(path, "/v1/entries/"):
		l.serveEntry(w, strings.TrimPrefix(path, "/v1/entries/"))
	case path == "/v1/proofs/inclusion":
		l.serveInclusion(w, r.URL.Query().Get("index"))
	default:
		refuse(http.StatusNotFound, "path", "there is nothing at this path").write(w)
	}
}

func message(w http.ResponseWriter, m proto.Message) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(testlog.Must(protojson.MarshalOptions{EmitDefaultValues: true}.Marshal(m)))
}

func (l *Log) serveLog(w http.ResponseWriter) {
	text, sidecar := l.Policy()
	message(w, &trialogv1.GetLogResponse{
		Log: Name, Origin: l.world.First.Origin, Checkpoint: string(l.note()), Policy: string(text), PolicySidecar: string(sidecar),
	})
}

func (l *Log) serveSubmit(w http.ResponseWriter, r *http.Request, body []byte) {
	f := l.next()
	if l.before(w, f) {
		return
	}
	req := &trialogv1.SubmitRequest{}
	if err := protojson.Unmarshal(body, req); err != nil {
		refuse(http.StatusBadRequest, "body", "expected the JSON of SubmitRequest").write(w)
		return
	}
	env, s, err := statement.Parse(req.GetEnvelope())
	if err != nil {
		field := "envelope"
		if fe, ok := errors.AsType[*statement.FieldError](err); ok {
			field = "envelope.payload." + fe.Field
		}
		refuse(http.StatusBadRequest, field, err.Error()).write(w)
		return
	}
	e, duplicate, p := l.add(env, s, []byte(req.GetBeacon()), strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "))
	if p != nil {
		p.write(w)
		return
	}
	id := s.Identity(env.Payload)
	resp := &trialogv1.SubmitResponse{
		State: trialogv1.State_STATE_FINAL, Identity: id.String(), Index: e.Index, Duplicate: duplicate,
	}
	if req.GetWait() == trialogv1.Wait_WAIT_PENDING && !duplicate || l.lost(e) {
		resp.State, resp.Pending = trialogv1.State_STATE_PENDING, l.promise(id, e)
	} else {
		resp.Receipt = l.receipt(e)
	}
	if l.after(w, f, resp) {
		return
	}
	message(w, resp)
}

func (l *Log) serveReceipt(w http.ResponseWriter, name string) {
	id, err := statement.ParseDigest(name)
	e := l.entries[id]
	if err != nil || e == nil || l.lost(e) {
		refuse(http.StatusNotFound, "identity", "no such statement is in the log").write(w)
		return
	}
	message(w, &trialogv1.GetReceiptResponse{Receipt: l.receipt(e), Index: e.Index})
}

func (l *Log) serveChain(w http.ResponseWriter, name, trial string) {
	id, err := statement.ParseDigest(name)
	if err != nil {
		refuse(http.StatusBadRequest, "key", "expected 64 lower-case hexadecimal digits").write(w)
		return
	}
	head := l.chains[trial+" "+id.String()]
	resp := &trialogv1.GetChainResponse{Number: head.Number}
	if head.Number > 0 {
		resp.Identity = head.Previous.String()
	}
	if m := l.keys[id]; m != nil {
		resp.Organisation = m.Org
	}
	if first := l.trials[trial]; !first.IsZero() {
		resp.TrialIdentity = first.String()
	}
	message(w, resp)
}

func (l *Log) serveDocument(w http.ResponseWriter, r *http.Request, name string, body []byte) {
	if r.Method == http.MethodPut && l.documents != 0 {
		refuse(l.documents, "body", "the document store takes nothing in").write(w)
		return
	}
	named := r.Header.Get("X-Trialog-Statement")
	if r.Method == http.MethodGet {
		named = r.URL.Query().Get("statement")
	}
	id, err := statement.ParseDigest(named)
	e := l.entries[id]
	digest, digestErr := statement.ParseDigest(name)
	switch {
	case err != nil || e == nil || digestErr != nil || e.Statement.Digest != digest:
		refuse(http.StatusForbidden, "statement", "the statement does not refer to this document").write(w)
	case r.Method == http.MethodPut && statement.Digest(sha256.Sum256(body)) != digest,
		r.Method == http.MethodPut && r.Header.Get("Content-Type") != e.Statement.MediaType:
		refuse(http.StatusBadRequest, "sha256", "is not the SHA-256 of the body").write(w)
	case r.Method == http.MethodPut:
		l.store[digest] = body
		_, _ = w.Write([]byte("{}\n"))
	case l.store[digest] == nil:
		refuse(http.StatusNotFound, "sha256", "no such document").write(w)
	default:
		w.Header().Set("Content-Type", e.Statement.MediaType)
		_, _ = w.Write(l.store[digest])
	}
}

func (l *Log) serveEntry(w http.ResponseWriter, text string) {
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 || n >= len(l.world.First.Entries) {
		refuse(http.StatusNotFound, "index", "not published").write(w)
		return
	}
	_, _ = w.Write(testlog.Must(json.Marshal(map[string][]byte{"entry": l.world.First.Entries[n]})))
}

func (l *Log) serveInclusion(w http.ResponseWriter, text string) {
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 || n >= len(l.world.First.Entries) {
		refuse(http.StatusNotFound, "index", "not published").write(w)
		return
	}
	path := testlog.Must(statement.BatchPath(l.world.First.Entries, n))
	_, _ = w.Write(testlog.Must(json.Marshal(map[string][][]byte{"hashes": path})))
}
