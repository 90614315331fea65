package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/trialog/trialog/services/internal/problem"
	"github.com/trialog/trialog/services/internal/run"
	"github.com/trialog/trialog/services/internal/socket"
)

// rolloverPath is what the running log is asked over its socket.
const rolloverPath = "/rollover"

// rolledOver is what came of a rollover.
type rolledOver struct {
	Ended  string `json:"ended"`
	Size   uint64 `json:"size"`
	Opened string `json:"opened"`
}

// errNotRunning says that no process answers on a log's socket.
var errNotRunning = errors.New("no log is running there; start it with: trialogd all")

// dialAdmin connects to the process that has the socket; errNotRunning if there
// is none.
func dialAdmin(ctx context.Context, path string) (net.Conn, error) {
	conn, err := socket.Dial(ctx, path)
	if errors.Is(err, socket.ErrNobody) {
		return nil, errNotRunning
	}
	return conn, err
}

// checkNobody refuses while a process answers on the socket.
func checkNobody(ctx context.Context, path string) error {
	conn, err := dialAdmin(ctx, path)
	if errors.Is(err, errNotRunning) {
		return nil
	} else if err != nil {
		return fmt.Errorf("ask whether the log is running: %w", err)
	}
	return errors.Join(errors.New("stop the log first: a process has it"), conn.Close())
}

// askRollover asks the process that has the socket.
func askRollover(ctx context.Context, path string, force bool) (*rolledOver, error) {
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return dialAdmin(ctx, path)
	}}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, fmt.Sprintf("http://log%s?force=%t", rolloverPath, force), http.NoBody)
	if err != nil {
		return nil, err
	}
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if errors.Is(err, errNotRunning) {
		return nil, errNotRunning
	} else if err != nil {
		return nil, fmt.Errorf("ask the log: %w", err)
	}
	defer resp.Body.Close()
	const most = 64 << 10
	answer := json.NewDecoder(io.LimitReader(resp.Body, most))
	if resp.StatusCode != http.StatusOK {
		var p problem.Problem
		if err := answer.Decode(&p); err != nil || p.Detail == "" {
			return nil, fmt.Errorf("the log answered with %s", resp.Status)
		}
		return nil, errors.New(p.Detail)
	}
	var done rolledOver
	if err := answer.Decode(&done); err != nil {
		return nil, fmt.Errorf("read the log's answer: %w", err)
	}
	return &done, nil
}

// serveAdmin answers on the log's socket until ctx ends.
func (e *engine) serveAdmin(ctx context.Context, path string) error {
	// No other process has this log: its ledger is locked.
	listener, err := socket.Listen(ctx, path)
	if err != nil {
		return err
	}
	err = run.HTTP(ctx, listener, run.Server(http.HandlerFunc(e.answerAdmin), e.log))
	return errors.Join(err, os.Remove(path))
}

func (e *engine) answerAdmin(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost || r.URL.Path != rolloverPath {
		problem.New("https://trialog.dev/problems/admin/not-found", http.StatusNotFound, "", "expected POST "+rolloverPath).Write(w)
		return
	}
	// Witnesses may need their time. Who asks can give up.
	control := http.NewResponseController(w)
	if err := errors.Join(control.SetReadDeadline(time.Time{}), control.SetWriteDeadline(time.Time{})); err != nil {
		e.log.Warn("a rollover has no more time than other calls", "error", err)
	}
	done, err := e.rollOver(r.Context(), r.URL.Query().Get("force") == "true")
	if err != nil {
		problem.New("https://trialog.dev/problems/admin/rollover", http.StatusConflict, "", err.Error()).Write(w)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	// The client may be gone; there is nobody to tell.
	_ = json.NewEncoder(w).Encode(done) //nolint:errchkjson // strings and a number
}
