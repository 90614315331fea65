package blob

import (
	"context"
	"errors"
	"fmt"
)

// ErrReplaced is returned by Replace when others change the object faster than
// it can be read and written.
var ErrReplaced = errors.New("object is being changed by somebody else")

// Decide gets the content of an object, nil if there is none, and returns what is
// to take its place. An error leaves the object as it is and is handed on. It may
// be called more than once, each time with what is there then.
type Decide func(current []byte) (next []byte, err error)

// Replacer is implemented by a Store that can write an object on the condition
// that nobody has changed it since it was read. So a process that has been
// replaced by another one, and does not know it yet, cannot put an old object in
// the place of a new one.
type Replacer interface {
	// Replace reads the object, calls decide, and writes what that returns unless
	// the object is another one by then; then it begins anew. It is durable when
	// it returns nil. After an error that decide has not returned the outcome is
	// unknown, as with Put.
	Replace(ctx context.Context, key string, decide Decide) error
}

// Replace is s.Replace for a Replacer. For any other Store it reads, decides and
// writes, which leaves a moment in which somebody else's write is lost.
func Replace(ctx context.Context, s Store, key string, decide Decide) error {
	if r, ok := s.(Replacer); ok {
		return r.Replace(ctx, key, decide)
	}
	current, err := s.Get(ctx, key)
	if errors.Is(err, ErrNotFound) {
		current = nil
	} else if err != nil {
		return fmt.Errorf("replace: %w", err)
	}
	next, err := decide(current)
	if err != nil {
		return err
	}
	return s.Put(ctx, Object{Key: key, Data: next})
}
