package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/trialog/trialog/api/verify"
	"github.com/trialog/trialog/services/internal/blob/bucket"
	"github.com/trialog/trialog/services/internal/run"
	"github.com/trialog/trialog/services/internal/tilehttp"
	"github.com/trialog/trialog/services/mirror"
	"github.com/trialog/trialog/services/proofs"
)

// lookInterval is how often a mirror looks for a new checkpoint, unless it is
// told otherwise.
const lookInterval = 5 * time.Second

// mirrorOptions say what is mirrored, and where to.
type mirrorOptions struct {
	from, data, policy, sidecar, listen string
	interval                            time.Duration
}

func (p *program) newMirror() *cobra.Command {
	var o mirrorOptions
	cmd := &cobra.Command{
		Use:   "mirror",
		Short: "Follow a log, verify all of it, and serve a copy",
		Long: `Follow a log that somebody else runs, verify all of it, and serve a copy.

Nothing is copied that the policy's witnesses have not signed. A log that forks or
goes back is no longer followed: both signed checkpoints are kept as evidence, and
what was verified before goes on being served. A log that has lost its store can
be recovered from a mirror.`,
		Example: `  trialogd mirror --from https://log.example.org --policy trialog.policy --data mirror`,
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return p.runMirror(cmd.Context(), o) },
	}
	cmd.Flags().StringVar(&o.from, "from", "", "URL of the log")
	cmd.Flags().StringVar(&o.data, "data", "mirror", "where to keep the copy: a folder, or s3://BUCKET?prefix=…")
	cmd.Flags().StringVar(&o.policy, "policy", "", "policy file")
	cmd.Flags().StringVar(&o.sidecar, "sidecar", "", "the policy's sidecar (default: the policy's name with .json)")
	cmd.Flags().StringVar(&o.listen, "listen", "127.0.0.1:8070", "address to serve the copy at")
	cmd.Flags().DurationVar(&o.interval, "interval", lookInterval, "time between two looks for a new checkpoint")
	for _, name := range []string{"from", "policy"} {
		if err := cmd.MarkFlagRequired(name); err != nil {
			panic(err) //nolint:forbidigo // the flag is defined above
		}
	}
	return cmd
}

func (p *program) runMirror(ctx context.Context, o mirrorOptions) error {
	if o.interval <= 0 {
		return fmt.Errorf("interval: expected more than 0, got %s", o.interval)
	}
	logger := p.logger()
	policy, err := readPolicyFiles(o.policy, cmp.Or(o.sidecar, o.policy+".json"))
	if err != nil {
		return err
	}
	var parts []run.Part
	var followed []*mirror.Mirror
	var opened []*mirrorPart
	defer func() {
		for _, part := range opened {
			part.close()
		}
	}()
	c := proofs.Config{Policy: policy, Now: p.now, Logger: logger}
	for _, origin := range origins(policy) {
		m, part, err := p.openMirror(ctx, o, policy, origin, logger)
		if err != nil {
			return err
		}
		opened = append(opened, part)
		followed = append(followed, m)
		parts = append(parts, run.Part{Name: origin, Run: m.Run})
		c.Shards = append(c.Shards, proofs.Shard{Origin: origin, Store: part.store, Active: c.Shards == nil})
	}
	reads, err := proofs.New(c)
	if err != nil {
		return err
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", o.listen)
	if err != nil {
		return err
	}
	ready := newReadiness(func() error { return mirrorsReady(followed) }, logger)
	handler := newMux(http.NotFoundHandler(), reads.Handler(), ready, http.NotFoundHandler())
	parts = append(parts,
		run.Part{Name: "newest", Run: func(ctx context.Context) error { return serveNewest(ctx, reads, followed, c.Shards) }},
		run.Part{Name: "http", Run: func(ctx context.Context) error {
			return run.HTTP(ctx, listener, run.Server(handler, logger))
		}})
	logger.Info("mirror listens", "http", listener.Addr().String(), "from", o.from)
	return run.All(ctx, parts...)
}

// origins are those of the policy's shards, oldest first.
func origins(policy *verify.Policy) []string {
	var list []string
	for _, l := range policy.Notes().Logs() {
		if !slices.Contains(list, l.Key.Name()) {
			list = append(list, l.Key.Name())
		}
	}
	return list
}

// mirrorPart is where the copy of one shard is.
type mirrorPart struct {
	store bucket.Closer
	close func()
}

func (p *program) openMirror(
	ctx context.Context, o mirrorOptions, policy *verify.Policy, origin string, logger *slog.Logger,
) (*mirror.Mirror, *mirrorPart, error) {
	name := origin[strings.LastIndexByte(origin, '/')+1:]
	source, err := tilehttp.New(tilehttp.Config{URL: strings.TrimSuffix(o.from, "/") + "/shards/" + name})
	if err != nil {
		return nil, nil, err
	}
	place, err := copyPlace(o.data, name)
	if err != nil {
		return nil, nil, err
	}
	store, err := bucket.Open(ctx, place)
	if err != nil {
		return nil, nil, err
	}
	m, err := mirror.New(mirror.Config{
		Source: source, Store: store, Policy: policy, Origin: origin, Interval: o.interval, Now: p.now,
		Logger: logger.With("shard", name),
	})
	if err != nil {
		return nil, nil, errors.Join(err, store.Close())
	}
	return m, &mirrorPart{store, func() {
		if err := store.Close(); err != nil {
			logger.Error("close", "error", err)
		}
	}}, nil
}

// copyPlace returns where the copy of one shard is kept, below data.
func copyPlace(data, shard string) (string, error) {
	if !strings.HasPrefix(data, "s3:") {
		return "file:" + filepath.Join(strings.TrimPrefix(data, "file:"), shard), nil
	}
	u, err := url.Parse(data)
	if err != nil || u.User != nil {
		return "", errors.New("data: expected a folder, or s3://BUCKET without credentials")
	}
	query := u.Query()
	query.Set("prefix", query.Get("prefix")+shard+"/")
	u.RawQuery = query.Encode()
	return u.String(), nil
}

// notFollowedError says that the copy is not what the log has published.
type notFollowedError struct {
	reason mirror.Reason
	detail string
}

// Error implements error.
func (e *notFollowedError) Error() string { return fmt.Sprintf("%s: %s", e.reason, e.detail) }

// mirrorsReady returns nil if the log is followed, and nothing speaks against any
// of its shards. One that has not begun has nothing to be followed.
func mirrorsReady(followed []*mirror.Mirror) error {
	follows, last := false, mirror.State{}
	for _, m := range followed {
		s := m.State()
		switch {
		case s.Reason == mirror.Following:
			follows = true
		case s.Size > 0 || s.Reason == mirror.Fork || s.Reason == mirror.Damaged:
			return &notFollowedError{s.Reason, s.Detail}
		default:
			last = s
		}
	}
	if follows {
		return nil
	}
	return &notFollowedError{last.Reason, last.Detail}
}

// serveNewest has reads that name no shard answered from the newest one that has
// a checkpoint.
func serveNewest(ctx context.Context, reads *proofs.Proofs, followed []*mirror.Mirror, shards []proofs.Shard) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for newest := 0; ; {
		for i := range followed {
			if i > newest && followed[i].State().Size > 0 {
				newest = i
				if err := reads.Activate(shards[i].Origin); err != nil {
					return err
				}
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}
