package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	trialogv1 "github.com/trialog/trialog/api/gen/trialog/v1"
)

// streamOptions say how many values are under way.
type streamOptions struct {
	streams int
	pack    int // submissions of a message
	ahead   int // messages of a stream that are not answered yet
}

func (p *program) newStream() *cobra.Command {
	var o rawOptions
	var s streamOptions
	cmd := &cobra.Command{
		Use:   "stream",
		Short: "Add raw entries over gRPC streams on TCP, in the messages of AddStream",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := p.stream(cmd.Context(), o, s)
			if err != nil {
				return err
			}
			return r.print(cmd.OutOrStdout())
		},
	}
	o.flags(cmd)
	cmd.Flags().IntVar(&s.streams, "streams", 8, "streams")
	cmd.Flags().IntVar(&s.pack, "pack", 64, "entries of a message, 1 to 256")
	cmd.Flags().IntVar(&s.ahead, "ahead", 8, "messages of a stream under way")
	return cmd
}

func (p *program) stream(ctx context.Context, o rawOptions, s streamOptions) (*report, error) {
	log, err := openRawLog(ctx, o.dir, o.batch, o.delay, p.now)
	if err != nil {
		return nil, err
	}
	l, err := newLoopback(ctx, func(r grpc.ServiceRegistrar) {
		trialogv1.RegisterSequencerServiceServer(r, &rawServer{log: log, room: 2 * s.pack * s.ahead})
	})
	if err != nil {
		return nil, errors.Join(err, log.close())
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	ended := make(chan error, 1)
	go func() {
		err := log.run(context.WithoutCancel(ctx))
		cancel(err)
		ended <- err
	}()
	var m meter
	group, working := errgroup.WithContext(ctx)
	for range s.streams {
		group.Go(func() error { return pump(working, trialogv1.NewSequencerServiceClient(l.conn), &m, o.bytes, s) })
	}
	r, err := p.run(working, &m, group.Wait)
	err = errors.Join(err, l.close()) // no stream uses the queue any more
	close(log.queue)
	if err := errors.Join(err, <-ended, log.close()); err != nil {
		return nil, err
	}
	r.Notes = []string{fmt.Sprintf("%d streams over TCP, %d entries a message, %d under way, client and server in one process, batch %d",
		s.streams, s.pack, s.streams*s.pack*s.ahead, o.batch)}
	return r, nil
}

// pump keeps one stream full until the meter says that it is over, and then
// waits for what is not answered.
func pump(ctx context.Context, client trialogv1.SequencerServiceClient, m *meter, size int, s streamOptions) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := client.AddStream(ctx)
	if err != nil {
		return err
	}
	source, err := newNoise()
	if err != nil {
		return err
	}
	credits := make(chan struct{}, s.ahead)
	sent := make(chan error, 1)
	go func() {
		for tag := uint64(0); !m.ended.Load(); {
			select {
			case credits <- struct{}{}:
			case <-ctx.Done():
				sent <- ctx.Err()
				return
			}
			req := &trialogv1.SubmitStreamRequest{Submissions: make([]*trialogv1.StreamSubmission, s.pack)}
			for i := range req.GetSubmissions() {
				req.Submissions[i] = &trialogv1.StreamSubmission{Tag: tag, Envelope: source.bytes(size)}
				tag++
			}
			if err := stream.Send(&trialogv1.AddStreamRequest{Submit: req}); err != nil {
				sent <- err
				return
			}
		}
		sent <- stream.CloseSend()
	}()
	for answered := 0; ; {
		resp, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return <-sent
		}
		if err != nil {
			return err
		}
		n := len(resp.GetSubmitted().GetAnswers())
		m.add(n)
		for answered += n; answered >= s.pack; answered -= s.pack {
			<-credits
		}
	}
}

// rawServer answers AddStream for values that nobody judges.
type rawServer struct {
	trialogv1.UnimplementedSequencerServiceServer

	log  *rawLog
	room int // entries of a stream that may be under way
}

// answersAtOnce bounds the answers of one message.
const answersAtOnce = 256

// AddStream implements trialogv1.SequencerServiceServer.
func (v *rawServer) AddStream(stream grpc.BidiStreamingServer[trialogv1.AddStreamRequest, trialogv1.AddStreamResponse]) error {
	sink := make(chan outcome, v.room)
	room := make(chan struct{}, v.room)
	var open sync.WaitGroup
	read := make(chan error, 1)
	ctx := stream.Context()
	go func() { read <- v.read(stream, sink, room, &open) }()
	for {
		select {
		case out := <-sink:
			if err := stream.Send(gather(out, sink, room, &open)); err != nil {
				return err
			}
		case err := <-read:
			if err != nil {
				return err
			}
			read = nil
			go func() { open.Wait(); close(sink) }()
			for out := range sink {
				if err := stream.Send(gather(out, sink, room, &open)); err != nil {
					return err
				}
			}
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// read queues what comes in.
func (v *rawServer) read(
	stream grpc.BidiStreamingServer[trialogv1.AddStreamRequest, trialogv1.AddStreamResponse],
	sink chan<- outcome, room chan<- struct{}, open *sync.WaitGroup,
) error {
	for {
		req, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		for _, s := range req.GetSubmit().GetSubmissions() {
			select {
			case room <- struct{}{}:
			case <-stream.Context().Done():
				return stream.Context().Err()
			}
			open.Add(1)
			it := item{value: s.GetEnvelope(), tag: s.GetTag(), sink: sink}
			if err := v.log.enqueue(stream.Context(), it); err != nil {
				return err
			}
		}
	}
}

// gather makes one message of the outcomes that are at hand.
func gather(out outcome, sink <-chan outcome, room <-chan struct{}, open *sync.WaitGroup) *trialogv1.AddStreamResponse {
	resp := &trialogv1.SubmitStreamResponse{}
	for {
		<-room
		open.Done()
		resp.Answers = append(resp.Answers, &trialogv1.StreamAnswer{
			Tag: out.tag, Result: &trialogv1.StreamAnswer_Pending{Pending: &trialogv1.StreamPending{Index: out.index}},
		})
		if len(resp.GetAnswers()) == answersAtOnce {
			return &trialogv1.AddStreamResponse{Submitted: resp}
		}
		select {
		case next, more := <-sink:
			if !more {
				return &trialogv1.AddStreamResponse{Submitted: resp}
			}
			out = next
		default:
			return &trialogv1.AddStreamResponse{Submitted: resp}
		}
	}
}
