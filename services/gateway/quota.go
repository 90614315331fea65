package gateway

import (
	"context"
	"math"
	"net/netip"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"

	"github.com/trialog/trialog/services/config"
)

// maxBuckets bounds the memory of a quota: one bucket is about 100 bytes.
const maxBuckets = 1 << 16

// quota bounds what one party may ask for. Callers with a token are counted by
// principal, strangers by address; both before anything else is done. An
// organisation is counted for each statement in its name until it is known that
// nothing new was logged. So forgeries, which are rejected, do not use its quota
// up, but for the moment in which the sequencer judges them: as many at once as
// the burst hold the organisation's own statements up. That is for the limit on
// addresses to prevent. What ended with an unknown outcome stays counted.
type quota struct {
	principals, organisations, addresses *buckets
}

func newQuota(c config.GatewayQuota, now func() time.Time) *quota {
	return &quota{
		principals:    newBuckets(c.Principal, now),
		organisations: newBuckets(c.Organisation, now),
		addresses:     newBuckets(c.Address, now),
	}
}

// call counts a call.
func (q *quota) call(ctx context.Context, who *caller) error {
	if who.principal != "" {
		return tooMany(q.principals.take(who.principal))
	}
	return tooMany(q.addresses.take(address(ctx)))
}

// statement counts a statement of an organisation. Undo takes it back; call it
// if it is known that nothing new was logged.
func (q *quota) statement(organisation string) (undo func(), err error) {
	if err := tooMany(q.organisations.take(organisation)); err != nil {
		return nil, err
	}
	return func() { q.organisations.give(organisation) }, nil
}

func tooMany(wait time.Duration) error {
	if wait <= 0 {
		return nil
	}
	return &fault{code: codes.ResourceExhausted, detail: "the quota is used up; ask again later", retry: wait}
}

// address is the caller's network address: one host, or what one host can
// choose from (IPv6: a /64).
func address(ctx context.Context) string {
	p, ok := peer.FromContext(ctx)
	if !ok || p.Addr == nil {
		return ""
	}
	a, err := netip.ParseAddrPort(p.Addr.String())
	if err != nil {
		return "" // a socket without addresses: all of its callers are one party
	}
	host := a.Addr().Unmap().WithZone("")
	if host.Is4() {
		return host.String()
	}
	network, err := host.Prefix(64)
	if err != nil {
		return ""
	}
	return network.String()
}

// buckets is a bounded set of token buckets; nil has no limit. Buckets that
// have refilled are forgotten, as a new one is the same. If there is no room
// even so, all newcomers share one bucket: a flood of names gets no more than
// one party does.
type buckets struct {
	perSecond, burst float64
	now              func() time.Time

	mu    sync.Mutex
	set   map[string]*bucket
	swept time.Time // when the set was last searched for refilled buckets
}

type bucket struct {
	level float64
	at    time.Time // when level was right
}

// overflow is the name of the shared bucket; no party has it.
const overflow = "\x00"

func newBuckets(r *config.GatewayRate, now func() time.Time) *buckets {
	if r == nil {
		return nil
	}
	return &buckets{
		perSecond: float64(r.PerMinute) / 60, burst: float64(max(r.Burst, 1)),
		now: now, set: make(map[string]*bucket),
	}
}

// take takes one token from the bucket of name, or says how long to wait.
func (b *buckets) take(name string) time.Duration {
	if b == nil {
		return 0
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	k := b.find(name)
	if k.level < 1 {
		return time.Duration(math.Ceil((1 - k.level) / b.perSecond * float64(time.Second)))
	}
	k.level--
	return 0
}

// give puts a token back.
func (b *buckets) give(name string) {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	k := b.find(name)
	k.level = min(k.level+1, b.burst)
}

// find returns the bucket of name, filled up to now.
func (b *buckets) find(name string) *bucket {
	now := b.now()
	k := b.set[name]
	if k == nil && len(b.set) >= maxBuckets {
		b.sweep(now)
		if len(b.set) >= maxBuckets {
			name = overflow
			k = b.set[name]
		}
	}
	if k == nil {
		k = &bucket{level: b.burst, at: now}
		b.set[name] = k
	}
	b.fill(k, now)
	return k
}

// sweep forgets refilled buckets. It is work for each bucket, so that it is done
// once a second at most, however many newcomers there are.
func (b *buckets) sweep(now time.Time) {
	if now.Sub(b.swept).Abs() < time.Second {
		return
	}
	b.swept = now
	for name, k := range b.set {
		b.fill(k, now)
		if k.level >= b.burst {
			delete(b.set, name)
		}
	}
}

// fill adds what has come since; a clock that steps back adds nothing.
func (b *buckets) fill(k *bucket, now time.Time) {
	if passed := now.Sub(k.at); passed > 0 {
		k.level = min(k.level+passed.Seconds()*b.perSecond, b.burst)
	}
	k.at = now
}
