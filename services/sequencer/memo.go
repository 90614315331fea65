package sequencer

import "sync"

// memo remembers values that never change for their key, at most limit of them.
// The zero value remembers nothing; it may be used concurrently.
type memo[K comparable, V any] struct {
	limit int
	mu    sync.Mutex
	by    map[K]V
}

func (m *memo[K, V]) get(key K) (V, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	v, ok := m.by[key]
	return v, ok
}

// put remembers value, unless there is one already, and returns the one that is
// remembered.
func (m *memo[K, V]) put(key K, value V) V {
	m.mu.Lock()
	defer m.mu.Unlock()
	if known, ok := m.by[key]; ok {
		return known
	}
	if len(m.by) >= m.limit {
		for other := range m.by { // any one: it costs a second look, nothing else
			delete(m.by, other)
			break
		}
	}
	if m.by == nil {
		m.by = make(map[K]V)
	}
	if m.limit > 0 {
		m.by[key] = value
	}
	return value
}
