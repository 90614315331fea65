package gateway

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	trialogv1 "github.com/trialog/trialog/api/gen/trialog/v1"
	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/services/config"
)

// stoppedClock stands until it is moved.
type stoppedClock struct{ t time.Time }

func (c *stoppedClock) now() time.Time { return c.t }

func TestBuckets(t *testing.T) {
	clock := &stoppedClock{time.Unix(1_800_000_000, 0)}
	b := newBuckets(&config.GatewayRate{PerMinute: 30, Burst: 3}, clock.now)
	for i := range 3 {
		if wait := b.take("a"); wait != 0 {
			t.Errorf("take %d: wait %v", i, wait)
		}
	}
	if wait := b.take("a"); wait != 2*time.Second {
		t.Errorf("an empty bucket: wait %v", wait)
	}
	if wait := b.take("b"); wait != 0 {
		t.Errorf("another's bucket: wait %v", wait)
	}
	clock.t = clock.t.Add(time.Second)
	if wait := b.take("a"); wait != time.Second {
		t.Errorf("half a token: wait %v", wait)
	}
	clock.t = clock.t.Add(-time.Hour)
	if wait := b.take("a"); wait != time.Second {
		t.Errorf("a clock that stepped back: wait %v", wait)
	}
	clock.t = clock.t.Add(time.Hour)
	for i := range 3 {
		if wait := b.take("a"); wait != 0 {
			t.Errorf("refilled, take %d: wait %v", i, wait)
		}
	}
	if b.take("a") == 0 {
		t.Error("a bucket holds more than its burst")
	}
	b.give("a")
	if b.take("a") != 0 {
		t.Error("what was given back is not there")
	}
	for range 5 {
		b.give("b")
	}
	if b.set["b"].level != 3 {
		t.Errorf("giving back filled a bucket to %v", b.set["b"].level)
	}
	var none *buckets
	none.give("a")
	if none.take("a") != 0 {
		t.Error("no limit limits")
	}
}

// TestBucketsBounded: a flood of names costs bounded memory, and gets no more
// than one party does once there is no room.
func TestBucketsBounded(t *testing.T) {
	clock := &stoppedClock{time.Unix(1_800_000_000, 0)}
	b := newBuckets(&config.GatewayRate{PerMinute: 60, Burst: 2}, clock.now)
	through := 0
	for i := range maxBuckets + 1000 {
		if b.take(strconv.Itoa(i)) == 0 {
			through++
		}
	}
	if len(b.set) > maxBuckets+1 || through != maxBuckets+2 {
		t.Errorf("%d buckets, %d let through", len(b.set), through)
	}
	clock.t = clock.t.Add(time.Minute)
	if b.take("late") != 0 || len(b.set) != 1 {
		t.Errorf("refilled buckets were kept: %d", len(b.set))
	}
}

func TestAddress(t *testing.T) {
	for addr, want := range map[string]string{
		"192.0.2.1:1000":                 "192.0.2.1",
		"[::ffff:192.0.2.1]:7":           "192.0.2.1",
		"[2001:db8:1:2:3:4:5:6]:1":       "2001:db8:1:2::/64",
		"[2001:db8:1:2:ffff::]:2":        "2001:db8:1:2::/64",
		"[fe80::1%eth0]:2":               "fe80::/64",
		"@":                              "",
		"not an address, whatever it is": "",
	} {
		ctx := peer.NewContext(context.Background(), &peer.Peer{Addr: textAddr(addr)})
		if got := address(ctx); got != want {
			t.Errorf("%s: %q, want %q", addr, got, want)
		}
	}
	if got := address(context.Background()); got != "" {
		t.Errorf("no peer: %q", got)
	}
}

type textAddr string

func (textAddr) Network() string  { return "tcp" }
func (a textAddr) String() string { return string(a) }

var _ net.Addr = textAddr("")

func withQuota(q config.GatewayQuota) func(*Config) {
	return func(c *Config) { c.Settings.Quota = q }
}

// slow is a rate whose bucket does not refill during a test.
func slow(burst int) *config.GatewayRate { return &config.GatewayRate{PerMinute: 1, Burst: burst} }

func TestQuotaPrincipal(t *testing.T) {
	w := newWorld(t)
	h := newHouse(t, w, withQuota(config.GatewayQuota{Principal: slow(2)}))
	for range 2 {
		h.request("GET", "/v1/log", nil, bearer(tokenReceive)).want(t, 200, nil)
	}
	got := h.request("GET", "/v1/log", nil, bearer(tokenReceive)).want(t, 429, nil)
	if n, err := strconv.Atoi(got.header.Get("Retry-After")); err != nil || n < 1 || n > 60 {
		t.Errorf("Retry-After %q", got.header.Get("Retry-After"))
	}
	_, err := h.rpc.GetLog(withToken(tokenReceive), &trialogv1.GetLogRequest{})
	retry := false
	for _, d := range status.Convert(err).Details() {
		if info, ok := d.(*errdetails.RetryInfo); ok && info.GetRetryDelay().AsDuration() > 0 {
			retry = true
		}
	}
	if status.Code(err) != codes.ResourceExhausted || !retry {
		t.Errorf("gRPC: %v", err)
	}
	h.request("GET", "/v1/log", nil, bearer(tokenUpload)).want(t, 200, nil)
	h.request("GET", "/v1/log", nil).want(t, 200, nil)
	got = h.request("PUT", "/v1/documents/"+hashed("x"), nil, bearer(tokenReceive)).want(t, 429, nil)
	if got.header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
}

// TestQuotaAddress: strangers are counted by address, wrong tokens too.
func TestQuotaAddress(t *testing.T) {
	w := newWorld(t)
	h := newHouse(t, w, withQuota(config.GatewayQuota{Address: slow(3)}))
	h.request("GET", "/v1/log", nil).want(t, 200, nil)
	for i := range 2 {
		h.request("GET", "/v1/log", nil, bearer(fmt.Sprint("guess", i))).want(t, 401, nil)
	}
	h.request("GET", "/v1/log", nil, bearer("guess")).want(t, 429, nil)
	h.request("GET", "/v1/log", nil).want(t, 429, nil)
	h.request("GET", "/v1/log", nil, bearer(tokenReceive)).want(t, 200, nil)
}

// TestQuotaOrganisation counts what is logged: repetitions and forgeries do not
// use an organisation's quota up.
func TestQuotaOrganisation(t *testing.T) {
	w := newWorld(t)
	h := newHouse(t, w, withQuota(config.GatewayQuota{Organisation: slow(2)}))
	w.startTrial()
	forged := w.protocol([]byte("forged"))
	env, err := statement.ParseEnvelope(forged.GetEnvelope())
	if err != nil {
		t.Fatal(err)
	}
	forgery, err := statement.SignDSSE(statement.PayloadType, env.Payload, testKey(t, "forger"))
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		h.post("/v1/statements", map[string]any{"envelope": forgery, "beacon": forged.GetBeacon()}).want(t, 400, nil)
	}
	first := submitBody(w.protocol([]byte("1")))
	h.post("/v1/statements", first).want(t, 200, nil)
	for range 3 {
		h.post("/v1/statements", first).want(t, 200, nil)
	}
	h.post("/v1/statements:receive", receiveBody("r", "2"), bearer(tokenReceive)).want(t, 200, nil)
	got := h.post("/v1/statements", submitBody(w.protocol([]byte("3")))).want(t, 429, nil)
	if got.header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	h.post("/v1/statements:receive", receiveBody("s", "3"), bearer(tokenReceive)).want(t, 429, nil)
	if w.size() != 5 {
		t.Errorf("%d entries", w.size())
	}
}

// TestQuotaUnknownOutcome: what may have been logged is counted, what was not
// is not, and what was logged before is not counted twice.
func TestQuotaUnknownOutcome(t *testing.T) {
	late := status.Error(codes.DeadlineExceeded, "too late")
	for name, tc := range map[string]struct {
		err  error
		free bool // nothing was stored, for sure
	}{
		"deadline":              {late, false},
		"context":               {context.DeadlineExceeded, false},
		"unavailable":           {errCut, false},
		"internal":              {status.Error(codes.Internal, "?"), false},
		"canceled":              {status.Error(codes.Canceled, "?"), false},
		"answer too long":       {status.Error(codes.ResourceExhausted, "message too long"), false},
		"busy":                  {busyError(t), true},
		"rejected":              {refusal(codes.InvalidArgument, "predicate.kind", "is wrong"), true},
		"forbidden":             {refusal(codes.PermissionDenied, "predicate.kind", "is forbidden"), true},
		"missing":               {refusal(codes.FailedPrecondition, "predicate.trial", "is missing"), true},
		"moved, without a head": {refusal(codes.Aborted, "predicate.chain", "moved"), true},
	} {
		for door, send := range map[string]func(h *house, n int) *answer{
			"submit": func(h *house, n int) *answer {
				return h.post("/v1/statements", submitBody(h.world.protocol([]byte{byte(n)})))
			},
			"receive": func(h *house, n int) *answer {
				return h.post("/v1/statements:receive", receiveBody(fmt.Sprint("r", n), strconv.Itoa(n)), bearer(tokenReceive))
			},
		} {
			t.Run(name+"/"+door, func(t *testing.T) {
				w := newWorld(t)
				h := newHouse(t, w, withQuota(config.GatewayQuota{Organisation: slow(2)}))
				w.startTrial()
				w.before = func(rpc string, _ any) error {
					if rpc == "Add" {
						return tc.err
					}
					return nil
				}
				want := 2 // the quota
				if tc.free {
					want = 4
				}
				for n := range 4 {
					if got := send(h, n); got.status < 400 || n >= want && got.status != http.StatusTooManyRequests {
						t.Errorf("call %d: status %d", n, got.status)
					}
				}
				if got := w.calls["Add"]; got != want {
					t.Errorf("%d of 4 got through, want %d", got, want)
				}
			})
		}
	}
}

// busyError is what the sequencer answers when its queues are full.
func busyError(t *testing.T) error {
	t.Helper()
	s, err := status.New(codes.ResourceExhausted, "the log is busy").
		WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(time.Second)})
	if err != nil {
		t.Fatal(err)
	}
	return s.Err()
}

// TestQuotaStoredAndLate: ten calls whose answers are lost log no more than the
// quota allows.
func TestQuotaStoredAndLate(t *testing.T) {
	w := newWorld(t)
	h := newHouse(t, w, withQuota(config.GatewayQuota{Organisation: slow(3)}))
	w.startTrial()
	before := w.size()
	w.after = func(rpc string, _ any) error {
		if rpc == "Add" {
			return status.Error(codes.DeadlineExceeded, "too late")
		}
		return nil
	}
	for n := range 10 {
		if n%2 == 0 {
			h.post("/v1/statements", submitBody(w.protocol([]byte{byte(n)})))
		} else {
			h.post("/v1/statements:receive", receiveBody(fmt.Sprint("r", n), strconv.Itoa(n)), bearer(tokenReceive))
		}
	}
	if got := w.size() - before; got != 3 {
		t.Errorf("%d entries were logged, the quota is 3", got)
	}
}

// TestQuotaReceiveSecondStep: once an entry has its place, it is counted,
// whatever becomes of the wait for its receipt; repeating costs nothing more.
func TestQuotaReceiveSecondStep(t *testing.T) {
	w := newWorld(t)
	h := newHouse(t, w, withQuota(config.GatewayQuota{Organisation: slow(2)}))
	w.startTrial()
	send := func(id string) *answer {
		return h.post("/v1/statements:receive", receiveBody(id, id), bearer(tokenReceive))
	}
	w.before = func(_ string, req any) error {
		if add, ok := req.(*trialogv1.AddRequest); ok && add.GetSubmit().GetWait() == trialogv1.Wait_WAIT_FINAL {
			return refusal(codes.InvalidArgument, "predicate.kind", "is wrong of a sudden")
		}
		return nil
	}
	for range 3 {
		send("a").want(t, 400, nil)
	}
	send("b").want(t, 400, nil)
	send("c").want(t, 429, nil)
	if w.size() != 5 {
		t.Errorf("%d entries", w.size())
	}
}

// TestQuotaBeforeSending: what never left the gateway is not counted.
func TestQuotaBeforeSending(t *testing.T) {
	w := newWorld(t)
	h := newHouse(t, w, withQuota(config.GatewayQuota{Organisation: slow(1)}))
	w.startTrial()
	box := &brokenBox{outbox: h.g.reception.box, saves: errors.New("disk")}
	h.g.reception.box = box
	for range 3 {
		h.post("/v1/statements:receive", receiveBody("r", "p"), bearer(tokenReceive)).want(t, 503, nil)
	}
	box.set(func() { box.saves = nil })
	h.post("/v1/statements:receive", receiveBody("r", "p"), bearer(tokenReceive)).want(t, 200, nil)
}

// TestQuotaHangUp: whoever sends forgeries and hangs up leaves the outcome no
// more open than whoever waits.
func TestQuotaHangUp(t *testing.T) {
	w := newWorld(t)
	h := newHouse(t, w, withQuota(config.GatewayQuota{Organisation: slow(1)}))
	w.startTrial()
	good := w.protocol([]byte("p"))
	env, err := statement.ParseEnvelope(good.GetEnvelope())
	if err != nil {
		t.Fatal(err)
	}
	forgery, err := statement.SignDSSE(statement.PayloadType, env.Payload, testKey(t, "forger"))
	if err != nil {
		t.Fatal(err)
	}
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	for range 3 {
		_, err := h.g.submit(gone, &caller{}, &trialogv1.SubmitRequest{Envelope: forgery, Beacon: good.GetBeacon()})
		if status.Code(err) != codes.InvalidArgument {
			t.Errorf("a forgery ended with %v", err)
		}
	}
	h.post("/v1/statements", submitBody(good)).want(t, 200, nil)
}
