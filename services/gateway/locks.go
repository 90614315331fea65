package gateway

import (
	"context"
	"sync"
)

// locks is one lock for each name that is in use. A caller that waits can give
// up.
type locks struct {
	mu   sync.Mutex
	open map[string]*lock
}

type lock struct {
	held  chan struct{} // holds one value while somebody holds the lock
	users int           // who hold it or wait; guarded by locks.mu
}

func newLocks() *locks { return &locks{open: make(map[string]*lock)} }

// acquire waits for the lock of name; release gives it back.
func (l *locks) acquire(ctx context.Context, name string) (release func(), err error) {
	l.mu.Lock()
	k := l.open[name]
	if k == nil {
		k = &lock{held: make(chan struct{}, 1)}
		l.open[name] = k
	}
	k.users++
	l.mu.Unlock()
	select {
	case k.held <- struct{}{}:
		return func() { <-k.held; l.leave(name, k) }, nil
	case <-ctx.Done():
		l.leave(name, k)
		return nil, ctx.Err()
	}
}

func (l *locks) leave(name string, k *lock) {
	l.mu.Lock()
	defer l.mu.Unlock()
	k.users--
	if k.users == 0 {
		delete(l.open, name)
	}
}
