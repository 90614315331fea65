package gateway

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

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
