package client

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	trialogv1 "github.com/trialog/trialog/api/gen/trialog/v1"
	"github.com/trialog/trialog/api/verify"
)

// Check says how a Stream checks receipts.
type Check int

// The checks.
const (
	// Full assembles the .receipt file and verifies all of it, as Submit does.
	Full Check = iota
	// InclusionOnly is for load tools. It checks that the envelope that was sent
	// is in a tree that satisfies the policy, and makes no file: Receipt and
	// Verdict stay nil, Leaf and TreeSize say what was proven. It does not check
	// the signers' enrolments and signatures, nor the beacon.
	InclusionOnly
)

// DefaultWindow is how many submissions of a Stream may be unanswered.
const DefaultWindow = 1024

// StreamConfig is what a Stream is made of. Address, Policy and Now are needed.
type StreamConfig struct {
	// Address is where the log serves gRPC, host:port.
	Address string
	// TLS is how the connection is protected; nil for not at all, which is for
	// this machine only if there is a token.
	TLS *tls.Config
	// Token is a bearer token; empty for none.
	Token string
	// Policy is what answers are verified against.
	Policy *verify.Policy
	// Check says how.
	Check Check
	// Now is the clock.
	Now func() time.Time
	// Window is how many submissions may be sent and not yet handed out by Recv;
	// DefaultWindow if zero.
	Window int
	// Retry says how long a submission without an answer is sent again, and at
	// what pace a stream that broke is opened anew. Attempt is not used.
	Retry Retry
	// UserAgent names the program; optional.
	UserAgent string
	// Dial makes connections; nil for TCP.
	Dial func(ctx context.Context, address string) (net.Conn, error)
}

// ErrClosed is the error of Send behind CloseSend or Close.
var ErrClosed = errors.New("the stream is closed")

// Stream sends many statements over one connection and gets their answers in any
// order. Statements of one chain are taken in the order of Send.
//
// What was not answered when the connection broke, and what the log answered to
// have an unknown outcome, is sent again with the same bytes, in the order of
// Send, for as long as Retry says. What the log refused is handed out, also if it
// says that it is busy (429): nothing was stored then, and the pace is the
// caller's to choose. The server is not believed: see the package.
//
// Send and Recv may be called by several goroutines at once. Let another one call
// Recv than Send: Send waits while the window is full.
type Stream struct {
	cfg    StreamConfig
	policy *verify.Policy
	conn   *grpc.ClientConn
	client trialogv1.SubmissionServiceClient
	cancel context.CancelFunc
	ended  chan struct{} // closed when run has ended
	heads  heads         // of the receipts that were checked

	slots chan struct{} // one for each submission that Recv has not handed out
	out   chan *reply   // as long as the window: whoever receives never waits
	wake  chan struct{} // tells the sender that there is work, or an end

	mu      sync.Mutex
	lastTag uint64
	pending map[uint64]*sending // by tag; what has no answer
	queue   []*sending          // of these, what is to be sent, in the order of tags
	closed  bool                // no more Send
	failed  error               // why there is no more Send; with closed
	beacons []string            // the newest ones, each once in memory
}

// sending is a submission on its way.
type sending struct {
	submission *Submission
	tag        uint64
	beacon     string
	first      time.Time // when Send took it
	attempts   int       // how often it went onto a connection
	carried    bool      // its beacon went with it, the last time
	queued     bool      // it is in the queue
	flying     bool      // it was sent on the connection that there is
}

// reply is an answer that waits for Recv.
type reply struct {
	result Result
	// check checks what is left to check; nil for nothing.
	check func(*Acknowledgement) error
}

// NewStream makes a stream. It connects when there is something to send, and
// ends with ctx or Close.
func NewStream(ctx context.Context, cfg StreamConfig) (*Stream, error) {
	host, _, err := net.SplitHostPort(cfg.Address)
	if err != nil {
		return nil, fmt.Errorf("stream: address: expected host:port, found %q", cfg.Address)
	}
	switch {
	case cfg.Policy == nil:
		return nil, ErrNoPolicy
	case cfg.Now == nil:
		return nil, errors.New("stream: no clock was given")
	case cfg.Token != "" && cfg.TLS == nil && !loopback(host):
		return nil, errors.New("stream: expected TLS, else the token could be read on its way")
	}
	if cfg.Window <= 0 {
		cfg.Window = DefaultWindow
	}
	cfg.Retry.complete()
	options := []grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxStreamAnswer)),
		grpc.WithUserAgent(cfg.UserAgent), grpc.WithDisableServiceConfig(), grpc.WithNoProxy(),
	}
	if cfg.TLS != nil {
		options[0] = grpc.WithTransportCredentials(credentials.NewTLS(cfg.TLS))
	}
	if cfg.Dial != nil {
		options = append(options, grpc.WithContextDialer(cfg.Dial))
	}
	conn, err := grpc.NewClient("passthrough:///"+cfg.Address, options...)
	if err != nil {
		return nil, fmt.Errorf("stream: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	s := &Stream{
		cfg: cfg, policy: cfg.Policy.Remembering(), conn: conn, client: trialogv1.NewSubmissionServiceClient(conn),
		cancel: cancel, ended: make(chan struct{}), slots: make(chan struct{}, cfg.Window),
		out: make(chan *reply, cfg.Window), wake: make(chan struct{}, 1), pending: map[uint64]*sending{},
	}
	go s.run(ctx)
	return s, nil
}

// Send hands a submission over; Recv gives its result. It waits while the window
// is full, and fails only with ctx, behind CloseSend, and when the stream has
// ended: then it was not sent.
func (s *Stream) Send(ctx context.Context, submission *Submission) error {
	select {
	case s.slots <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	case <-s.ended:
		return s.end()
	}
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		<-s.slots
		return s.end()
	}
	s.lastTag++
	x := &sending{submission: submission, tag: s.lastTag, beacon: s.intern(submission.Beacon), first: s.cfg.Now()}
	x.queued = true
	s.pending[x.tag] = x
	s.queue = append(s.queue, x)
	s.mu.Unlock()
	s.wakeUp()
	return nil
}

// intern returns the text of a beacon, once in memory for all that name it.
func (s *Stream) intern(note []byte) string {
	if len(note) == 0 {
		return ""
	}
	for _, known := range s.beacons {
		if len(known) == len(note) && known == string(note) {
			return known
		}
	}
	text := string(note)
	s.beacons = append(s.beacons, text)
	if len(s.beacons) > keptBeacons {
		s.beacons = slices.Delete(s.beacons, 0, 1)
	}
	return text
}

// keptBeacons is how many beacons are looked through for one that is the same.
const keptBeacons = 8

// Recv returns the next result. It returns io.EOF behind the last one, once
// CloseSend was called. An error of ctx leaves the stream as it is.
func (s *Stream) Recv(ctx context.Context) (*Result, error) {
	select {
	case r, ok := <-s.out:
		if !ok {
			return nil, io.EOF
		}
		if r.check != nil {
			if err := r.check(r.result.Acknowledgement); err != nil {
				r.result = Result{Submission: r.result.Submission, Err: err}
			}
		}
		<-s.slots
		return &r.result, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// CloseSend says that there is no more to send. Results still come.
func (s *Stream) CloseSend() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.wakeUp()
}

// Close ends the stream at once, and waits for that. What had no answer is given
// out by Recv as an *UnreachableError.
func (s *Stream) Close() error {
	s.CloseSend()
	s.cancel()
	<-s.ended
	return nil
}

// end is why nothing can be sent any more.
func (s *Stream) end() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed != nil {
		return s.failed
	}
	return ErrClosed
}

func (s *Stream) wakeUp() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// answer gives a submission's result out. A second one is none.
func (s *Stream) answer(x *sending, r reply) {
	s.mu.Lock()
	if s.pending[x.tag] != x {
		s.mu.Unlock()
		return
	}
	delete(s.pending, x.tag)
	last := s.closed && len(s.pending) == 0
	s.mu.Unlock()
	r.result.Submission = x.submission
	s.out <- &r // there is room: the window is as long
	if last {
		s.wakeUp()
	}
}

// unanswered returns what has no answer, in the order of Send.
func (s *Stream) unanswered() []*sending {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sorted()
}

// sorted is unanswered with the lock held.
func (s *Stream) sorted() []*sending {
	return slices.SortedFunc(maps.Values(s.pending), byTag)
}

func byTag(a, b *sending) int { return cmp.Compare(a.tag, b.tag) }

// done tells whether all was sent and answered.
func (s *Stream) done() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed && len(s.pending) == 0
}
