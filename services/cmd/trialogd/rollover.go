package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/trialog/trialog/services/internal/run"
	"github.com/trialog/trialog/services/sequencer"
)

// rolloverPath is what the running log is asked over its socket.
const rolloverPath = "/rollover"

func newRollover() *cobra.Command {
	var dir string
	var force bool
	cmd := &cobra.Command{
		Use:   "rollover",
		Short: "End the shard that is open and open the one that was announced",
		Long: `End the shard that is open and open the one that was announced with "trialogd
shard add". The log must be running. Its last entry names the successor; when the
last checkpoint is cosigned, the register is sealed, and the successor opens with
that checkpoint. Who submits statements meanwhile waits for a moment. There is no
way back.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			done, err := askRollover(cmd.Context(), layout{dir}.admin(), force)
			if err != nil {
				return err
			}
			cmd.Printf("Ended %s at %d entries; %s is open.\n", done.Ended, done.Size, done.Opened)
			return nil
		},
	}
	cmd.Flags().StringVar(&dir, "data", "data", "folder of the log's data")
	cmd.Flags().BoolVar(&force, "force", false,
		"open before the announced time; who has not got the new policy yet cannot verify what comes")
	return cmd
}

// rolledOver is what came of a rollover.
type rolledOver struct {
	Ended  string `json:"ended"`
	Size   uint64 `json:"size"`
	Opened string `json:"opened"`
	Error  string `json:"error,omitempty"`
}

// askRollover asks the process that has the socket.
func askRollover(ctx context.Context, socket string, force bool) (*rolledOver, error) {
	client := &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
	}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, fmt.Sprintf("http://log%s?force=%t", rolloverPath, force), http.NoBody)
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errors.New("no log is running there; start it with: trialogd all")
	} else if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var out rolledOver
	const most = 64 << 10
	if err := json.NewDecoder(io.LimitReader(resp.Body, most)).Decode(&out); err != nil {
		return nil, fmt.Errorf("read the answer: %w", err)
	}
	if out.Error != "" {
		return nil, errors.New(out.Error)
	}
	return &out, nil
}

// serveAdmin answers on the log's socket, which only its owner can open, until
// ctx ends.
func (e *engine) serveAdmin(ctx context.Context, socket string) error {
	// A socket that a killed process left behind keeps a new one out. No other
	// process has this log: the register is locked.
	if err := os.Remove(socket); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "unix", socket)
	if err != nil {
		return err
	}
	if err := os.Chmod(socket, 0o600); err != nil {
		return errors.Join(err, listener.Close())
	}
	return run.HTTP(ctx, listener, run.Server(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost || r.URL.Path != rolloverPath {
			http.NotFound(w, r)
			return
		}
		out, err := e.rollOver(r.Context(), r.URL.Query().Get("force") == "true")
		if err != nil {
			out = &rolledOver{Error: err.Error()}
		}
		w.Header().Set("Content-Type", "application/json")
		// The client may be gone; there is nobody to tell.
		_ = json.NewEncoder(w).Encode(out)
	}), e.log))
}

// rollOver ends the active shard and waits until its successor is open. Repeated
// after it was cut off, it goes on where it was.
func (e *engine) rollOver(ctx context.Context, force bool) (*rolledOver, error) {
	sh := e.active()
	at := -1
	for i, other := range e.shards {
		if other == sh {
			at = i
		}
	}
	if at == len(e.shards)-1 {
		return nil, fmt.Errorf(`no shard behind %s is announced; do so with "trialogd shard add"`, sh.place.Origin)
	}
	next := e.shards[at+1]
	if opens := e.list.opens(next.place.Origin); e.now().Before(opens) && !force {
		return nil, fmt.Errorf("%s was announced for %s; until then only with --force", next.place.Origin, opens.Format(time.DateTime+" UTC"))
	}
	if err := e.endShard(ctx, sh, next.place.Origin); err != nil {
		return nil, fmt.Errorf("end %s: %w", sh.place.Origin, err)
	}
	if (router{e}).opened(ctx, sh) == nil {
		return nil, fmt.Errorf("%s has ended, but %s has not opened: %w", sh.place.Origin, next.place.Origin, ctx.Err())
	}
	if err := e.relist(ctx); err != nil {
		return nil, fmt.Errorf("%s is open, but the log list is not written: %w", next.place.Origin, err)
	}
	return &rolledOver{
		Ended: sh.place.Origin, Size: sh.seq.Checkpoint().Checkpoint().Size, Opened: next.place.Origin,
	}, nil
}

// endShard says the last statement of a shard. The operator's key may speak at the
// same time: then the statement is built again, on the new head of its chain.
func (e *engine) endShard(ctx context.Context, sh *shard, successor string) error {
	for {
		env, err := sh.seq.EndStatement(ctx, e.gatewayKey, successor)
		if err != nil {
			return err
		}
		_, err = sh.seq.Add(ctx, sequencer.Request{Envelope: env})
		if _, moved := errors.AsType[*sequencer.ChainError](err); moved {
			continue
		}
		if errors.Is(err, sequencer.ErrEnded) {
			return nil
		}
		return err
	}
}

// startPause is between two looks whether a successor is waiting for its first
// statement.
const startPause = 10 * time.Millisecond

// startShards says the first statement of each shard that has a predecessor, as
// soon as it has opened, and makes known that it is open.
func (e *engine) startShards(ctx context.Context) error {
	tick := time.NewTicker(startPause)
	defer tick.Stop()
	for i := 0; i < len(e.shards); {
		sh := e.shards[i]
		if sh.seq == nil || sh.seq.Checkpoint() != nil {
			if err := e.hasOpened(ctx, sh); err != nil {
				return err
			}
			i++
			continue
		}
		if i > 0 && sh.seq.Ready() == nil {
			if err := e.startShard(ctx, sh); err != nil && ctx.Err() == nil {
				sh.log.Warn("the shard is open, but not started yet", "error", err)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
	<-ctx.Done()
	return nil
}

// hasOpened makes known what a shard with a published checkpoint is.
func (e *engine) hasOpened(ctx context.Context, sh *shard) error {
	if sh.seq != nil && e.activate != nil {
		if err := e.activate(sh.place.Origin); err != nil {
			return err
		}
	}
	if err := e.relist(ctx); err != nil {
		sh.log.Error("the log list is not written", "error", err)
	}
	return nil
}

func (e *engine) startShard(ctx context.Context, sh *shard) error {
	env, err := sh.seq.StartStatement(ctx, e.gatewayKey)
	if err != nil {
		return err
	}
	_, err = sh.seq.Add(ctx, sequencer.Request{Envelope: env})
	return err
}
