// Package blob stores named objects durably: tiles, published checkpoints,
// documents.
//
// A Store is trusted for durability and for nothing else. Whoever reads from it
// checks what was read against a hash or a signature that comes from elsewhere.
package blob

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
)

var (
	// ErrNotFound is returned by Get when no object has the key.
	ErrNotFound = errors.New("object not found")
	// ErrKey is returned by every method that is given a key that CheckKey refuses.
	ErrKey = errors.New("invalid object key")
)

// Object is a named sequence of bytes.
type Object struct {
	// Key is a slash-separated path; see CheckKey.
	Key string
	// Data is the whole content. A Store neither keeps nor changes the slice
	// after the call that it was given to.
	Data []byte
}

// Store keeps objects. All methods may be called concurrently.
//
// A write that returns an error has an unknown outcome: some of its objects may
// hold the new content and others the old, and the new content may or may not
// survive a power loss. The caller reads back or writes again.
type Store interface {
	// Put creates or replaces objects. Each object changes atomically: a
	// reader, and a crash, see the whole old content or the whole new one. The
	// call as a whole is not atomic, and the order of its objects means
	// nothing. When it returns nil, all of them survive a power loss. A key may
	// be named once in a call.
	Put(ctx context.Context, objects ...Object) error
	// Get returns the content of an object, or ErrNotFound. The caller owns
	// the slice.
	Get(ctx context.Context, key string) ([]byte, error)
	// Delete removes objects. A key without an object is no error.
	Delete(ctx context.Context, keys ...string) error
	// List yields, in lexical order, the keys that start with prefix, which
	// need not end at a slash. After an error it yields nothing more.
	List(ctx context.Context, prefix string) iter.Seq2[string, error]
}

// Extension says how an object grows: the bytes before Offset stay what they
// are, everything from Offset on becomes Data.
type Extension struct {
	Key    string
	Offset int64
	Data   []byte
}

// Extender is implemented by a Store whose objects can grow in place, so that
// adding a little to a large object does not rewrite the whole of it.
type Extender interface {
	// Extend applies extensions to existing objects (ErrNotFound otherwise)
	// that hold at least Offset bytes. It is durable when it returns nil. It is
	// not atomic: a concurrent reader, a crash or an error leaves the bytes
	// before Offset whole, followed by any prefix of the old or the new rest.
	// It is meant for objects whose valid length is told by another one.
	Extend(ctx context.Context, extensions ...Extension) error
}

const (
	maxKey  = 1024 // the limit of common object stores
	maxPart = 200  // below the 255 bytes of common file systems
)

// CheckKey returns an error that wraps ErrKey unless key is one or more parts
// joined by single slashes, each of 1 to 200 ASCII letters, digits, '.', '-' and
// '_' that does not start with a dot. So no key is absolute, climbs out of its
// directory, names a hidden file or needs escaping in a URL. Keys that differ
// only in case are different keys, but not on a file system that folds case:
// callers use lower case.
func CheckKey(key string) error {
	if key == "" || len(key) > maxKey {
		return fmt.Errorf("%w: %d bytes, want 1 to %d", ErrKey, len(key), maxKey)
	}
	for part := range strings.SplitSeq(key, "/") {
		if part == "" || len(part) > maxPart {
			return fmt.Errorf("%w: a part of %d bytes, want 1 to %d", ErrKey, len(part), maxPart)
		}
		if part[0] == '.' {
			return fmt.Errorf("%w: a part starts with a dot", ErrKey)
		}
		for i := range len(part) {
			if !keyByte(part[i]) {
				return fmt.Errorf("%w: byte %#02x is not allowed", ErrKey, part[i])
			}
		}
	}
	return nil
}

func keyByte(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' ||
		c == '.' || c == '-' || c == '_'
}

// CheckObjects is for implementations of Store. It returns an error that wraps
// ErrKey for objects that Put must refuse: bad keys, and keys named twice, as
// replacing an object twice in a call that promises no order could only go wrong.
func CheckObjects(objects []Object) error {
	seen := make(map[string]struct{}, len(objects))
	for _, o := range objects {
		if err := CheckKey(o.Key); err != nil {
			return err
		}
		if _, twice := seen[o.Key]; twice {
			return fmt.Errorf("%w: %q is named twice in one call", ErrKey, o.Key)
		}
		seen[o.Key] = struct{}{}
	}
	return nil
}
