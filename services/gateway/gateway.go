package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"

	trialogv1 "github.com/trialog/trialog/api/gen/trialog/v1"
	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/api/verify"
	"github.com/trialog/trialog/services/config"
	"github.com/trialog/trialog/services/internal/blob"
)

// Config is everything that a gateway needs.
type Config struct {
	// Settings are the rules of the door. Addresses and paths in it are not
	// used, but for StateFile: what they lead to is given below.
	Settings config.Gateway
	// Sequencer is the owner of the shard. It is not believed: see the package.
	Sequencer trialogv1.SequencerServiceClient
	// Policy and Sidecar are the two halves of the policy that the log
	// publishes by.
	Policy, Sidecar []byte
	// Key signs "received from"; nil refuses statements without a submitter's
	// signature.
	Key *statement.PrivateKey
	// Documents keeps public documents.
	Documents Documents
	// HTTP and GRPC are what Run listens on; Run closes them. Either may be
	// nil.
	HTTP, GRPC net.Listener
	// Beside registers further services on the gRPC server; nil: there are none.
	// The door does not count or limit their calls.
	Beside func(grpc.ServiceRegistrar)
	// Now is the clock.
	Now func() time.Time
	// Log gets one record a call: which, and how it ended. It gets nothing that
	// callers sent.
	Log *slog.Logger
	// Limits may be zero.
	Limits Limits
}

// Documents is the part of a blob.Store that the gateway needs. Put is durable
// when it returns; Get returns blob.ErrNotFound. What Get returns is checked
// against its digest, so that the store is trusted for durability alone.
type Documents interface {
	Put(ctx context.Context, objects ...blob.Object) error
	Get(ctx context.Context, key string) ([]byte, error)
}

// Limits are what a single caller can cost. Zero values mean the defaults in
// parentheses.
type Limits struct {
	HeaderTimeout time.Duration // for the head of a request (5 s)
	BodyTimeout   time.Duration // for a JSON body, and for a pause of an upload (10 s)
	UploadRate    int64         // bytes a second that an upload must keep up (64 KiB)
	CallTimeout   time.Duration // for a call, waiting for witnesses included (30 s)
	DrainTimeout  time.Duration // for open calls when the gateway stops (10 s)
	// StreamIdle is for how long nothing may move on a stream: nothing sent,
	// nothing answered (5 min).
	StreamIdle time.Duration
	Calls      int // at once, streams not counted (512)
	Batches    int // at once over REST, whose bodies are held in memory (32)
	Streams    int // at once (256)
	// StreamsOfOne are those that one principal, or without a token one address,
	// may have at once (32).
	StreamsOfOne int
}

func (l Limits) withDefaults() Limits {
	for _, d := range []struct {
		value *time.Duration
		def   time.Duration
	}{
		{&l.HeaderTimeout, 5 * time.Second},
		{&l.BodyTimeout, 10 * time.Second},
		{&l.CallTimeout, 30 * time.Second},
		{&l.DrainTimeout, 10 * time.Second},
		{&l.StreamIdle, 5 * time.Minute},
	} {
		if *d.value <= 0 {
			*d.value = d.def
		}
	}
	for _, n := range []struct {
		value *int
		def   int
	}{{&l.Calls, 512}, {&l.Batches, 32}, {&l.Streams, 256}, {&l.StreamsOfOne, 32}} {
		if *n.value <= 0 {
			*n.value = n.def
		}
	}
	if l.UploadRate <= 0 {
		l.UploadRate = 64 << 10
	}
	return l
}

// Gateway is the public door. Make one with New.
type Gateway struct {
	cfg       Config
	limits    Limits
	policy    *verify.Policy
	log       string // name of the TrialLog
	sequencer trialogv1.SequencerServiceClient
	access    *access
	quota     *quota
	notes     notes
	documents *documents
	reception *reception // nil without a key

	calls, batches, streams *gate
	relays                  sync.WaitGroup // goroutines of streams
	stopping                chan struct{}  // closed when Run is to end

	handler http.Handler
	grpc    *grpc.Server
}

// New makes a gateway that is ready to serve, and opens its state file.
func New(cfg Config) (*Gateway, error) {
	if cfg.Sequencer == nil || cfg.Documents == nil || cfg.Now == nil || cfg.Log == nil {
		return nil, errors.New("gateway: sequencer, documents, clock and log are all needed")
	}
	cfg.Settings = cfg.Settings.WithDefaults()
	if err := cfg.Settings.ValidateRules(); err != nil {
		return nil, err
	}
	policy, err := verify.ParsePolicy(cfg.Policy, cfg.Sidecar)
	if err != nil {
		return nil, fmt.Errorf("gateway: %w", err)
	}
	g := &Gateway{
		cfg: cfg, limits: cfg.Limits.withDefaults(), policy: policy.Remembering(), log: policy.Trust().Log,
		sequencer: cfg.Sequencer, quota: newQuota(cfg.Settings.Quota, cfg.Now),
		documents: newDocuments(cfg.Documents, cfg.Settings),
	}
	g.calls = newGate(g.limits.Calls, 0, "too many calls are open; ask again later")
	g.batches = newGate(g.limits.Batches, 0, "too many batches are on their way; ask again later")
	g.streams = newGate(g.limits.Streams, g.limits.StreamsOfOne, "too many streams are open; ask again later")
	g.stopping = make(chan struct{})
	if g.access, err = newAccess(cfg.Settings.Tokens); err != nil {
		return nil, err
	}
	if cfg.Key != nil {
		if g.reception, err = openReception(cfg, policy); err != nil {
			return nil, err
		}
	}
	if g.handler, err = g.newHandler(); err != nil {
		return nil, errors.Join(err, g.Close())
	}
	g.grpc = g.newGRPC()
	return g, nil
}

// openReception opens what the gateway needs to sign by itself.
func openReception(cfg Config, policy *verify.Policy) (*reception, error) {
	// A receipt of a received statement would never verify, and so never be
	// given out: better said at start.
	if trust := policy.Trust(); !trust.AcceptReceived || !slices.Contains(trust.Gateways, cfg.Key.ID()) {
		return nil, fmt.Errorf("gateway: the policy does not accept statements received by key %s", cfg.Key.ID())
	}
	box, err := openOutbox(cfg.Settings.StateFile)
	if err != nil {
		return nil, err
	}
	return &reception{key: cfg.Key, box: box, locks: newLocks()}, nil
}

// Handler returns the REST interface, for a process that serves more than this
// on one address.
func (g *Gateway) Handler() http.Handler { return g.handler }

// Run serves until ctx ends, then lets open calls come to their end for
// Limits.DrainTimeout. It returns nil after an orderly end. Run once.
func (g *Gateway) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	server := g.newHTTP()
	var running sync.WaitGroup
	failed := make(chan error, 2)
	serve := func(name string, f func() error) {
		running.Go(func() {
			defer cancel()
			if err := f(); err != nil && !errors.Is(err, http.ErrServerClosed) {
				failed <- fmt.Errorf("gateway: serving %s: %w", name, err)
			}
		})
	}
	if g.cfg.HTTP != nil {
		serve("rest", func() error { return server.Serve(g.cfg.HTTP) })
	}
	if g.cfg.GRPC != nil {
		serve("grpc", func() error { return g.grpc.Serve(g.cfg.GRPC) })
	}
	<-ctx.Done()
	close(g.stopping)
	g.drain(ctx, server)
	running.Wait()
	g.relays.Wait()
	close(failed)
	var all error
	for err := range failed {
		all = errors.Join(all, err)
	}
	return all
}

// drain stops taking calls in and waits for those that are open.
func (g *Gateway) drain(ctx context.Context, server *http.Server) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), g.limits.DrainTimeout)
	defer cancel()
	var stopping sync.WaitGroup
	stopping.Go(func() {
		if server.Shutdown(ctx) != nil {
			_ = server.Close() // what is still open is cut, as the caller can ask again
		}
	})
	stopping.Go(func() {
		stopped := make(chan struct{})
		go func() { g.grpc.GracefulStop(); close(stopped) }()
		select {
		case <-stopped:
		case <-ctx.Done():
			g.grpc.Stop()
			<-stopped
		}
	})
	stopping.Wait()
}

// Close releases the state file. Call it after Run has returned.
func (g *Gateway) Close() error {
	if g.reception == nil {
		return nil
	}
	return g.reception.box.close()
}
