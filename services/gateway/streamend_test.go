package gateway

import (
	"context"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	trialogv1 "github.com/trialog/trialog/api/gen/trialog/v1"
)

// TestStreamEnds: however the sequencer's stream ends, what is open is answered
// with an unknown outcome, and the stream ends so that a client comes again.
func TestStreamEnds(t *testing.T) {
	for name, end := range map[string]error{
		"restarted": status.Error(codes.Unavailable, "connection refused to 10.0.0.1"),
		"well":      io.EOF,
		"broken":    status.Error(codes.Internal, "postgres: connection lost"),
		"denied":    status.Error(codes.PermissionDenied, "mTLS"),
		"canceled":  status.Error(codes.Canceled, "context canceled"),
		"full":      status.Error(codes.ResourceExhausted, "grpc: received message larger than max"),
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			h := newHouse(t, w)
			w.startTrial()
			list := w.series(3)
			c := h.talk(t, context.Background())
			w.holding = true
			arrived := w.arrivals()
			c.say(1, list[0], list[1])
			<-arrived
			w.before = func(rpc string, _ any) error {
				if rpc == "AddStream message" {
					return end
				}
				return nil
			}
			c.say(3, list[2])
			got := c.hear(3)
			for tag, a := range got {
				if s := status.FromProto(a.GetError()); s.Code() != codes.Unavailable || retryOf(s) == 0 ||
					strings.ContainsAny(s.Message(), "0123456789") || strings.Contains(s.Message(), "postgres") {
					t.Errorf("statement %d: %v", tag, s)
				}
			}
			if _, err := c.rpc.Recv(); status.Code(err) != codes.Unavailable || retryOf(status.Convert(err)) == 0 {
				t.Errorf("the stream ended with %v", err)
			}
			// What was stored meanwhile is found again, with the same bytes.
			w.holding, w.before, w.after = false, nil, nil
			c = h.talk(t, context.Background())
			c.say(1, list...)
			for tag, a := range c.hear(3) {
				if a.GetFinal().GetProof().GetIndex() != tag+2 {
					t.Errorf("statement %d again: %v", tag, a)
				}
			}
			c.end()
			if w.size() != 6 {
				t.Errorf("%d entries, expected 6", w.size())
			}
		})
	}
}

// TestStreamRefused: a sequencer that takes no stream.
func TestStreamRefused(t *testing.T) {
	w := newWorld(t)
	h := newHouse(t, w)
	w.before = func(string, any) error { return status.Error(codes.Unavailable, "dial tcp 10.0.0.1") }
	c := h.talk(t, context.Background())
	if _, err := c.rpc.Recv(); status.Code(err) != codes.Unavailable || strings.Contains(err.Error(), "10.0") {
		t.Errorf("the stream ended with %v", err)
	}
	w.before = func(string, any) error { panic("canary") }
	c = h.talk(t, context.Background())
	if _, err := c.rpc.Recv(); status.Code(err) != codes.Internal || strings.Contains(err.Error(), "canary") {
		t.Errorf("the stream ended with %v", err)
	}
	w.before = func(rpc string, _ any) error {
		if rpc == "AddStream message" {
			panic("canary")
		}
		return nil
	}
	c = h.talk(t, context.Background())
	c.say(1, w.protocol([]byte("p")))
	if got := c.hear(1); codeOf(got[1]) != codes.Unavailable {
		t.Errorf("answer %v", got[1])
	}
	if logs := h.logs.String(); !strings.Contains(logs, "stream panicked") || strings.Contains(logs, "canary") {
		t.Errorf("the log says %s", logs)
	}
}

// TestStreamPlaces: only so many streams at once, and only so many of one party.
func TestStreamPlaces(t *testing.T) {
	w := newWorld(t)
	h := newHouse(t, w, func(c *Config) { c.Limits.Streams, c.Limits.StreamsOfOne = 3, 2 })
	w.startTrial()
	var open []*talk
	enter := func(ctx context.Context) error {
		c := h.talk(t, ctx)
		c.sent[1] = streamed(1, w.protocol([]byte("p")))
		// An error of Send is Recv's too.
		_ = c.rpc.Send(&trialogv1.SubmitStreamRequest{Submissions: []*trialogv1.StreamSubmission{c.sent[1]}})
		resp, err := c.rpc.Recv()
		if err == nil {
			c.take(resp)
			open = append(open, c)
		}
		return err
	}
	for i, tc := range []struct {
		token string
		code  codes.Code
	}{
		{"", codes.OK}, {"", codes.OK}, {"", codes.ResourceExhausted}, {tokenUpload, codes.OK}, {tokenUpload2, codes.ResourceExhausted},
	} {
		err := enter(withToken(tc.token))
		if status.Code(err) != tc.code || err != nil && retryOf(status.Convert(err)) == 0 {
			t.Errorf("stream %d: %v, expected %v", i, err, tc.code)
		}
	}
	for _, c := range open {
		c.end()
	}
	// Ended streams have left their places: they do so before their end is said.
	if err := enter(context.Background()); err != nil {
		t.Errorf("when all had ended: %v", err)
	}
	if len(h.g.streams.of) > 1 {
		t.Errorf("the gate remembers %v", h.g.streams.of)
	}
}

// TestStreamIdle: a stream on which nothing moves ends, whoever keeps still.
func TestStreamIdle(t *testing.T) {
	for name, hold := range map[string]bool{"the caller": false, "the sequencer": true} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			var later atomic.Int64 // by how much the gateway's clock is ahead
			h := newHouse(t, w, func(c *Config) {
				c.Limits.StreamIdle = 30 * time.Millisecond
				start := time.Now()
				c.Now = func() time.Time { return start.Add(time.Duration(later.Load())) }
			})
			w.startTrial()
			w.holding = hold
			c := h.talk(t, context.Background())
			arrived := w.arrivals()
			c.say(1, w.protocol([]byte("p")))
			<-arrived
			if !hold {
				if got := c.hear(1); got[1].GetFinal() == nil {
					t.Errorf("answer %v", got[1])
				}
			}
			later.Store(int64(time.Minute))
			if hold {
				if got := c.hear(1); codeOf(got[1]) != codes.Unavailable {
					t.Errorf("answer %v", got[1])
				}
			}
			if _, err := c.rpc.Recv(); status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "nothing moved") {
				t.Errorf("the stream ended with %v", err)
			}
		})
	}
}

// TestStreamOutlivesCalls: what bounds a call does not bound a stream.
func TestStreamOutlivesCalls(t *testing.T) {
	w := newWorld(t)
	h := newHouse(t, w, func(c *Config) { c.Limits.CallTimeout = time.Nanosecond })
	w.startTrial()
	c := h.talk(t, context.Background())
	for range 3 {
		c.say(1, w.protocol([]byte("p")))
		if got := c.hear(1); got[1].GetFinal() == nil {
			t.Errorf("answer %v", got[1])
		}
	}
	c.end()
}

// TestStreamShutdown: a gateway that stops answers what is open, if the sequencer
// does, and does not wait for callers who keep their streams open.
func TestStreamShutdown(t *testing.T) {
	for name, hold := range map[string]bool{"nothing open": false, "one open": true} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			h := newHouse(t, w, func(c *Config) { c.Limits.DrainTimeout = 200 * time.Millisecond })
			w.startTrial()
			other := h.apart(t)
			c := other.talk(t, context.Background())
			if !hold {
				c.say(1, w.protocol([]byte("p")))
				c.hear(1)
			} else {
				w.holding = true
				arrived := w.arrivals()
				c.say(1, w.protocol([]byte("p")))
				<-arrived
			}
			stopped := make(chan struct{})
			go func() { h.stop(); close(stopped) }()
			if hold {
				if got := c.hear(1); codeOf(got[1]) != codes.Unavailable || retryOf(status.FromProto(got[1].GetError())) == 0 {
					t.Errorf("answer %v", got[1])
				}
			}
			if _, err := c.rpc.Recv(); status.Code(err) != codes.Unavailable && status.Code(err) != codes.Canceled {
				t.Errorf("the stream ended with %v", err)
			}
			<-stopped
		})
	}
}

// TestStreamHangsUp: a caller who goes away takes the sequencer's stream along.
func TestStreamHangsUp(t *testing.T) {
	w := newWorld(t)
	h := newHouse(t, w)
	w.startTrial()
	w.holding = true
	ctx, cancel := context.WithCancel(context.Background())
	c := h.talk(t, ctx)
	arrived := w.arrivals()
	c.say(1, w.protocol([]byte("p")))
	<-arrived
	cancel()
	h.g.relays.Wait() // hangs if a side of the relay stays behind
}

// TestStreamBackPressure: a caller who sends and never reads is not read from for
// ever: the window bounds what is held for it.
func TestStreamBackPressure(t *testing.T) {
	w := newWorld(t)
	h := newHouse(t, w)
	w.startTrial()
	w.holding = true
	r := &relay{g: h.g, ctx: context.Background(), who: &caller{}, waiting: map[uint64]*relayed{}, room: make(chan struct{}, 1), settled: make(chan struct{}, 1)}
	for tag := range uint64(streamWindow) {
		if !r.awaitRoom() {
			t.Fatal("no room")
		}
		r.register(tag, &relayed{envelope: []byte("x")}, nil)
	}
	waited := make(chan bool, 1)
	go func() { waited <- r.awaitRoom() }()
	select {
	case <-waited:
		t.Fatal("a full window let more in")
	default:
	}
	r.pop(1)
	r.settle(1)
	if !<-waited {
		t.Error("an answer made no room")
	}
	r.register(1, &relayed{envelope: make([]byte, streamWindowBytes)}, nil)
	go func() { waited <- r.awaitRoom() }()
	r.stopReading()
	if <-waited {
		t.Error("a closed relay let more in")
	}
	if r.register(9999, &relayed{}, nil) {
		t.Error("a closed relay took one in")
	}
}

// TestStreamsInParallel: many callers, one chain each way, over one connection
// and over several.
func TestStreamsInParallel(t *testing.T) {
	w := newWorld(t)
	h := newHouse(t, w)
	w.startTrial()
	list := w.series(40)
	var running sync.WaitGroup
	for i := range 4 {
		other := h
		if i%2 == 0 {
			other = h.apart(t)
		}
		running.Go(func() {
			c := other.talk(t, context.Background())
			// All say the same; who comes second says it again.
			for from := 0; from < len(list); from += 8 {
				c.say(uint64(from), list[from:from+8]...)
				for tag, a := range c.hear(8) {
					if a.GetFinal().GetProof().GetIndex() != tag+3 {
						t.Errorf("statement %d: %v", tag, a.GetError())
					}
				}
			}
			c.end()
		})
	}
	running.Wait()
	if w.size() != 43 {
		t.Errorf("%d entries, expected 43", w.size())
	}
}
