package blob

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"
)

// Memory is a Store in memory, for tests. Its zero value is empty and ready.
type Memory struct {
	mu      sync.RWMutex
	objects map[string][]byte
}

// NewMemory returns an empty store.
func NewMemory() *Memory { return &Memory{} }

// Put implements Store.
func (m *Memory) Put(ctx context.Context, objects ...Object) error {
	if err := CheckObjects(objects); err != nil {
		return fmt.Errorf("put: %w", err)
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("put: %w", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.objects == nil {
		m.objects = make(map[string][]byte)
	}
	for _, o := range objects {
		m.objects[o.Key] = bytes.Clone(o.Data)
	}
	return nil
}

// Extend implements Extender.
func (m *Memory) Extend(ctx context.Context, extensions ...Extension) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("extend: %w", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range extensions {
		if err := CheckKey(e.Key); err != nil {
			return fmt.Errorf("extend: %w", err)
		}
		old, ok := m.objects[e.Key]
		if !ok {
			return fmt.Errorf("extend %s: %w", e.Key, ErrNotFound)
		}
		if e.Offset < 0 || e.Offset > int64(len(old)) {
			return fmt.Errorf("extend %s: offset %d in an object of %d bytes", e.Key, e.Offset, len(old))
		}
		m.objects[e.Key] = append(bytes.Clone(old[:e.Offset]), e.Data...)
	}
	return nil
}

// Replace implements Replacer. While decide is at work nobody else writes.
func (m *Memory) Replace(ctx context.Context, key string, decide Decide) error {
	if err := CheckKey(key); err != nil {
		return fmt.Errorf("replace: %w", err)
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("replace: %w", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	next, err := decide(bytes.Clone(m.objects[key]))
	if err != nil {
		return err
	}
	if m.objects == nil {
		m.objects = make(map[string][]byte)
	}
	m.objects[key] = bytes.Clone(next)
	return nil
}

// Get implements Store.
func (m *Memory) Get(ctx context.Context, key string) ([]byte, error) {
	if err := CheckKey(key); err != nil {
		return nil, fmt.Errorf("get: %w", err)
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("get %s: %w", key, err)
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	data, ok := m.objects[key]
	if !ok {
		return nil, fmt.Errorf("get %s: %w", key, ErrNotFound)
	}
	return bytes.Clone(data), nil
}

// Delete implements Store.
func (m *Memory) Delete(ctx context.Context, keys ...string) error {
	for _, key := range keys {
		if err := CheckKey(key); err != nil {
			return fmt.Errorf("delete: %w", err)
		}
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("delete: %w", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, key := range keys {
		delete(m.objects, key)
	}
	return nil
}

// List implements Store. It yields the keys of the moment of the call.
func (m *Memory) List(ctx context.Context, prefix string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		m.mu.RLock()
		keys := make([]string, 0, len(m.objects))
		for key := range m.objects {
			if strings.HasPrefix(key, prefix) {
				keys = append(keys, key)
			}
		}
		m.mu.RUnlock()
		slices.Sort(keys)
		for _, key := range keys {
			if err := ctx.Err(); err != nil {
				yield("", fmt.Errorf("list: %w", err))
				return
			}
			if !yield(key, nil) {
				return
			}
		}
	}
}
