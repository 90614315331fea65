// Package run is the life of a process: parts that run together and end
// together, and the HTTP server that each of them is put behind.
package run

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"
)

// Part is something that works until its context ends. It returns nil after an
// orderly end.
type Part struct {
	Name string
	Run  func(ctx context.Context) error
}

// All runs the parts until ctx ends or one of them returns; then it ends the
// others, waits for them, and returns what went wrong.
func All(ctx context.Context, parts ...Part) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	errs := make([]error, len(parts))
	var wg sync.WaitGroup
	for i, p := range parts {
		wg.Go(func() {
			defer cancel()
			if err := p.Run(ctx); err != nil && !errors.Is(err, context.Canceled) {
				errs[i] = fmt.Errorf("%s: %w", p.Name, err)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// drain is how long open requests may take to end.
const drain = 5 * time.Second

// HTTP serves on l until ctx ends, then lets open requests come to their end.
func HTTP(ctx context.Context, l net.Listener, server *http.Server) error {
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	select {
	case err := <-done:
		return fmt.Errorf("serve %s: %w", l.Addr(), err)
	case <-ctx.Done():
	}
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), drain)
	defer cancel()
	if err := server.Shutdown(end); err != nil {
		_ = server.Close() // what is still open is cut; callers can ask again
	}
	<-done //nolint:errcheck // http.ErrServerClosed: it was told to end
	return nil
}
