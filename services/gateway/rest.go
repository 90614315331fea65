package gateway

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	trialogv1 "github.com/trialog/trialog/api/gen/trialog/v1"
	"github.com/trialog/trialog/api/statement"
)

const (
	maxBody      = 1 << 20 // of a JSON body, in bytes
	maxBatchBody = 8 << 20 // of that of a batch
	// maxHeaders is the length of a request's header fields above which the
	// answer is a problem; at hardHeaders net/http gives up by itself.
	maxHeaders  = 16 << 10
	hardHeaders = 32 << 10
)

// front is what stands before grpc-gateway: it refuses whatever the generated
// code would let pass or answer in its own words.
type front struct {
	g      *Gateway
	routes []route
	rpc    http.Handler
}

// route is one method on one path.
type route struct {
	method   string
	template []string // segments; "{x}" stands for any one
	query    []string // parameters that are known
	// request makes the message that the body holds; nil if there is none.
	request func() proto.Message
	limit   int64 // of the body, in bytes
	serve   http.HandlerFunc
}

func (g *Gateway) newHandler() (http.Handler, error) {
	mux := runtime.NewServeMux(
		runtime.WithMarshalerOption(runtime.MIMEWildcard, &runtime.JSONPb{
			// All members are there, also zeros: an index of 0 is an index.
			MarshalOptions: protojson.MarshalOptions{EmitDefaultValues: true},
		}),
		runtime.WithIncomingHeaderMatcher(func(string) (string, bool) { return "", false }),
		runtime.WithOutgoingHeaderMatcher(func(string) (string, bool) { return "", false }),
		runtime.WithErrorHandler(func(
			_ context.Context, _ *runtime.ServeMux, _ runtime.Marshaler, w http.ResponseWriter, _ *http.Request, err error,
		) {
			restProblemOf(err).write(w)
		}),
		runtime.WithRoutingErrorHandler(func(
			_ context.Context, _ *runtime.ServeMux, _ runtime.Marshaler, w http.ResponseWriter, _ *http.Request, code int,
		) {
			newProblem(code, "there is nothing here").write(w)
		}),
		runtime.WithDisablePathLengthFallback(),
	)
	if err := trialogv1.RegisterSubmissionServiceHandlerServer(context.Background(), mux, door{g: g}); err != nil {
		return nil, fmt.Errorf("gateway: register the REST interface: %w", err)
	}
	f := &front{g: g, rpc: mux}
	if err := f.addRPCs(); err != nil {
		return nil, err
	}
	document := []string{"", "v1", "documents", "{sha256}"}
	f.routes = append(f.routes,
		route{method: http.MethodPut, template: document, serve: g.putDocument},
		route{method: http.MethodGet, template: document, query: []string{"statement"}, serve: g.getDocument})
	return f, nil
}

// addRPCs makes a route of each RPC's google.api.http option.
func (f *front) addRPCs() error {
	service := trialogv1.File_trialog_v1_submission_proto.Services().ByName("SubmissionService")
	for i := range service.Methods().Len() {
		m := service.Methods().Get(i)
		rule, ok := proto.GetExtension(m.Options(), annotations.E_Http).(*annotations.HttpRule)
		if !ok || rule == nil {
			continue // over gRPC only
		}
		var r route
		var path string
		switch p := rule.GetPattern().(type) {
		case *annotations.HttpRule_Get:
			r.method, path = http.MethodGet, p.Get
		case *annotations.HttpRule_Post:
			r.method, path = http.MethodPost, p.Post
		default:
			return fmt.Errorf("gateway: %s is neither GET nor POST", m.FullName())
		}
		r.template = strings.Split(path, "/")
		r.serve = func(w http.ResponseWriter, r *http.Request) { f.rpc.ServeHTTP(quiet{w}, r) }
		if rule.GetBody() != "" {
			message, err := requestType(m.Input())
			if err != nil {
				return err
			}
			r.request, r.limit = message, maxBody
			if m.Name() == "SubmitBatch" {
				r.limit = maxBatchBody
			}
		} else {
			for j := range m.Input().Fields().Len() {
				if name := m.Input().Fields().Get(j).JSONName(); !strings.Contains(path, "{"+name+"}") {
					r.query = append(r.query, name)
				}
			}
		}
		f.routes = append(f.routes, r)
	}
	return nil
}

// requestType returns a maker of messages.
func requestType(d protoreflect.MessageDescriptor) (func() proto.Message, error) {
	for _, m := range []proto.Message{
		&trialogv1.PrepareRequest{}, &trialogv1.SubmitRequest{}, &trialogv1.SubmitBatchRequest{},
		&trialogv1.ReceiveRequest{},
	} {
		if t := m.ProtoReflect(); t.Descriptor().FullName() == d.FullName() {
			return func() proto.Message { return t.New().Interface() }, nil
		}
	}
	return nil, fmt.Errorf("gateway: no message for %s", d.FullName())
}

// ServeHTTP implements http.Handler.
func (f *front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	defer func() {
		if recover() != nil {
			f.panicked(w, r)
		}
	}()
	h := w.Header()
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Security-Policy", "default-src 'none'; sandbox")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-store")
	// A caller who does not read the answer is not waited for. Documents set
	// deadlines of their own.
	_ = http.NewResponseController(w).SetWriteDeadline(
		f.g.cfg.Now().Add(f.g.limits.CallTimeout + 2*f.g.limits.BodyTimeout),
	)
	route, p := f.find(r)
	if p == nil && route.limit > maxBody {
		leave, err := f.g.batches.enter("")
		if err != nil {
			p = restProblemOf(err)
		} else {
			defer leave()
		}
	}
	if p == nil {
		p = f.check(w, r, route)
	}
	if p != nil {
		f.g.cfg.Log.LogAttrs(r.Context(), slog.LevelInfo, "request refused", slog.Int("status", p.Status))
		// What is left of the body is not read: the connection ends here.
		h.Set("Connection", "close")
		p.write(w)
		return
	}
	route.serve(w, incoming(r))
}

// panicked answers after a panic. The stack names functions of ours, no values.
func (f *front) panicked(w http.ResponseWriter, r *http.Request) {
	f.g.cfg.Log.LogAttrs(r.Context(), slog.LevelError, "request panicked", slog.String("stack", string(debug.Stack())))
	restProblemOf(internal()).write(w)
}

// quiet hides from the generated code that a caller is gone: it would write the
// caller's address to the process's standard error.
type quiet struct{ http.ResponseWriter }

// Write implements http.ResponseWriter.
func (q quiet) Write(p []byte) (int, error) {
	_, _ = q.ResponseWriter.Write(p)
	return len(p), nil
}

// Unwrap lets http.ResponseController through.
func (q quiet) Unwrap() http.ResponseWriter { return q.ResponseWriter }

// find returns the route of a request.
func (f *front) find(r *http.Request) (*route, *restProblem) {
	if headerLength(r.Header) > maxHeaders {
		return nil, newProblem(http.StatusRequestHeaderFieldsTooLarge,
			fmt.Sprintf("expected at most %d bytes of header fields", maxHeaders))
	}
	// One path has one spelling: no escapes, no dots, no empty segments.
	segments := strings.Split(r.URL.EscapedPath(), "/")
	var allow []string
	for i := range f.routes {
		if !f.routes[i].matches(segments) {
			continue
		}
		if f.routes[i].method == r.Method {
			return &f.routes[i], nil
		}
		allow = append(allow, f.routes[i].method)
	}
	if len(allow) == 0 {
		return nil, newProblem(http.StatusNotFound, "there is nothing at this path")
	}
	p := newProblem(http.StatusMethodNotAllowed, "expected the method "+strings.Join(allow, " or "))
	p.Allow = strings.Join(allow, ", ")
	return nil, p
}

func (r *route) matches(segments []string) bool {
	if len(segments) != len(r.template) {
		return false
	}
	for i, want := range r.template {
		if strings.HasPrefix(want, "{") {
			if segments[i] == "" || strings.ContainsAny(segments[i], "%:") {
				return false
			}
		} else if segments[i] != want {
			return false
		}
	}
	return true
}

func headerLength(h http.Header) int {
	n := 0
	for name, values := range h {
		for _, v := range values {
			n += len(name) + len(v) + 4 // ": " and the end of the line
		}
	}
	return n
}

// check checks everything of a request that is HTTP's, and its JSON.
func (f *front) check(w http.ResponseWriter, r *http.Request, to *route) *restProblem {
	if p := checkQuery(r.URL.RawQuery, to.query); p != nil {
		return p
	}
	if enc := r.Header.Get("Content-Encoding"); enc != "" && !strings.EqualFold(enc, "identity") {
		return newProblem(http.StatusUnsupportedMediaType, "").withField("Content-Encoding", "expected a body that is not compressed")
	}
	switch {
	case to.request != nil:
		return f.readBody(w, r, to.request(), to.limit)
	case to.method == http.MethodPut:
		return nil // read by the upload itself
	case r.ContentLength != 0:
		return newProblem(http.StatusBadRequest, "").withField("body", "expected no body")
	}
	return nil
}

// checkQuery refuses parameters that nobody reads, and those given twice.
func checkQuery(raw string, known []string) *restProblem {
	values, err := url.ParseQuery(raw)
	if err != nil {
		return newProblem(http.StatusBadRequest, "").withField("query", "expected name=value pairs in URL encoding")
	}
	for name, list := range values {
		if !slices.Contains(known, name) {
			return newProblem(http.StatusBadRequest, "").withField(printable(name), "unknown query parameter")
		}
		if len(list) > 1 {
			return newProblem(http.StatusBadRequest, "").withField(name, "is there twice")
		}
	}
	return nil
}

// printable cuts off a name that came from outside.
func printable(name string) string {
	return strings.ToValidUTF8(name[:min(len(name), 100)], "")
}

// readBody reads a JSON body, checks it strictly against msg and puts it back
// for the generated code to read.
func (f *front) readBody(w http.ResponseWriter, r *http.Request, msg proto.Message, limit int64) *restProblem {
	media, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	charset, hasCharset := params["charset"]
	if err != nil || media != "application/json" || hasCharset && !strings.EqualFold(charset, "utf-8") ||
		len(params) > 1 || len(params) == 1 && !hasCharset || len(r.Header.Values("Content-Type")) != 1 {
		return newProblem(http.StatusUnsupportedMediaType, "").withField("Content-Type", "expected application/json")
	}
	if r.ContentLength > limit {
		return bodyTooLarge(limit)
	}
	control := http.NewResponseController(w)
	// Recorders of tests cannot; servers can.
	_ = control.SetReadDeadline(f.g.cfg.Now().Add(f.g.limits.BodyTimeout))
	raw, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return bodyTooLarge(limit)
	case err != nil:
		return bodyCut(err)
	}
	_ = control.SetReadDeadline(noDeadline())
	if err := decodeJSON(raw, msg); err != nil {
		p := newProblem(http.StatusBadRequest, "")
		var fe *statement.FieldError
		if errors.As(err, &fe) && fe.Field != "" {
			return p.withField(fe.Field, fe.Reason)
		} else if fe != nil {
			return p.withField("body", fe.Reason)
		}
		return p.withField("body", "expected a JSON object")
	}
	r.Body = io.NopCloser(bytes.NewReader(raw))
	r.ContentLength = int64(len(raw))
	return nil
}

func bodyTooLarge(limit int64) *restProblem {
	return newProblem(http.StatusRequestEntityTooLarge, "").
		withField("body", fmt.Sprintf("expected at most %d bytes", limit))
}

// bodyCut is the answer to a body that did not come, or not in time.
func bodyCut(err error) *restProblem {
	var late net.Error
	if errors.As(err, &late) && late.Timeout() {
		return newProblem(http.StatusRequestTimeout, "").withField("body", "did not arrive in time")
	}
	return newProblem(http.StatusBadRequest, "").withField("body", "ended too early")
}

// incoming puts into the context what the checks of every call look at, as gRPC
// does, and takes away all header fields that the generated code might read:
// they are not part of the interface.
func incoming(r *http.Request) *http.Request {
	ctx := r.Context()
	md := metadata.MD{}
	if values := r.Header.Values("Authorization"); len(values) > 0 {
		md.Set("authorization", values...)
	}
	ctx = metadata.NewIncomingContext(ctx, md)
	if addr, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		ctx = peer.NewContext(ctx, &peer.Peer{Addr: net.TCPAddrFromAddrPort(addr)})
	}
	r = r.WithContext(ctx)
	kept := http.Header{}
	for _, name := range []string{"Authorization", "Content-Type", "If-None-Match", statementHeader} {
		if values := r.Header.Values(name); len(values) > 0 {
			kept[http.CanonicalHeaderKey(name)] = values
		}
	}
	r.Header = kept
	return r
}
