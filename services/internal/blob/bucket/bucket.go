// Package bucket keeps objects in an object store, through gocloud.dev/blob.
//
// It is apart from package blob so that only programs that open a bucket link
// the provider's SDK.
package bucket

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"sync"
	"time"

	"github.com/aws/smithy-go"
	gocloud "gocloud.dev/blob"
	"gocloud.dev/gcerrors"

	"github.com/trialog/trialog/services/internal/blob"
)

const (
	// parallel bounds the requests that one call has in flight: a batch of the
	// sequencer's fills some twenty objects, and each costs a round trip.
	parallel = 32
	// patience is for how long one object may take, with the SDK's retries. A
	// caller's context may end it earlier.
	patience = 30 * time.Second
	// contentType of every object; left to itself the library would guess one
	// from the content.
	contentType = "application/octet-stream"
)

// Store is a blob.Store in a bucket: the object k is the object k there, behind
// the bucket's prefix. The bucket must be strongly consistent, for reads and for
// lists, as Amazon S3 is; its objects need no versions and must have no expiry.
// Objects with the same key have one writing process.
//
// Objects do not grow in place, so a Store is no blob.Extender: whoever writes a
// little often uses small objects.
//
// A request that was given up may still be carried out by the provider later. A
// write that returned an error can therefore take effect after a later write of
// the same object, for as long as the provider keeps a request. Package tile
// notices, because nothing is used that does not fit a root, and repairs by
// writing again.
type Store struct {
	b           *gocloud.Bucket
	close       func() error
	conditional *conditional // nil unless the bucket is S3's
	replacing   sync.Mutex   // held by Replace if conditional is nil
}

// New returns the Store in an open bucket, which Close closes.
func New(b *gocloud.Bucket) *Store { return &Store{b: b, close: b.Close} }

// Close releases the bucket. No other method may be called any more.
func (s *Store) Close() error { return s.close() }

// Put implements blob.Store.
func (s *Store) Put(ctx context.Context, objects ...blob.Object) error {
	if err := blob.CheckObjects(objects); err != nil {
		return fmt.Errorf("put: %w", err)
	}
	return each(ctx, len(objects), func(ctx context.Context, i int) error {
		o := objects[i]
		// The SDK sends a checksum, so that what was damaged on the way is refused
		// and not stored.
		if err := s.b.WriteAll(ctx, o.Key, o.Data, &gocloud.WriterOptions{ContentType: contentType}); err != nil {
			return fmt.Errorf("put %s: %w", o.Key, err)
		}
		return nil
	})
}

// Get implements blob.Store.
func (s *Store) Get(ctx context.Context, key string) ([]byte, error) {
	if err := blob.CheckKey(key); err != nil {
		return nil, fmt.Errorf("get: %w", err)
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("get %s: %w", key, err)
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	data, err := s.b.ReadAll(ctx, key)
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", key, notFound(err))
	}
	return data, nil
}

// notFound turns the provider's way to say that there is no object into
// ErrNotFound. That the whole bucket is missing is another matter: it must never
// look like an empty one.
func notFound(err error) error {
	if gcerrors.Code(err) != gcerrors.NotFound {
		return err
	}
	if api, ok := errors.AsType[smithy.APIError](err); ok && api.ErrorCode() == "NoSuchBucket" {
		return err
	}
	return blob.ErrNotFound
}

// Delete implements blob.Store.
func (s *Store) Delete(ctx context.Context, keys ...string) error {
	for _, key := range keys {
		if err := blob.CheckKey(key); err != nil {
			return fmt.Errorf("delete: %w", err)
		}
	}
	// Two requests for one key could meet.
	keys = slices.Compact(slices.Sorted(slices.Values(keys)))
	return each(ctx, len(keys), func(ctx context.Context, i int) error {
		err := s.b.Delete(ctx, keys[i])
		if err != nil {
			if err = notFound(err); errors.Is(err, blob.ErrNotFound) {
				return nil
			}
			return fmt.Errorf("delete %s: %w", keys[i], err)
		}
		return nil
	})
}

// List implements blob.Store. Objects whose names are no keys are not ours, and
// are left out.
func (s *Store) List(ctx context.Context, prefix string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		pages := s.b.List(&gocloud.ListOptions{Prefix: prefix})
		for {
			if err := ctx.Err(); err != nil {
				yield("", fmt.Errorf("list: %w", err))
				return
			}
			page, cancel := context.WithTimeout(ctx, patience)
			o, err := pages.Next(page)
			cancel()
			if errors.Is(err, io.EOF) {
				return
			}
			if err != nil {
				yield("", fmt.Errorf("list: %w", err))
				return
			}
			if o.IsDir || blob.CheckKey(o.Key) != nil {
				continue
			}
			if !yield(o.Key, nil) {
				return
			}
		}
	}
}

// each calls do(0) … do(n-1), several at a time, each with a time limit, and
// returns the errors joined. After an error it begins no more.
func each(ctx context.Context, n int, do func(ctx context.Context, i int) error) error {
	errs := make([]error, n)
	failed := make(chan struct{})
	var once sync.Once
	slots := make(chan struct{}, parallel)
	var wg sync.WaitGroup
	for i := range n {
		slots <- struct{}{}
		select {
		case <-failed:
			wg.Wait()
			return errors.Join(errs...)
		default:
		}
		wg.Go(func() {
			defer func() { <-slots }()
			if errs[i] = limited(ctx, i, do); errs[i] != nil {
				once.Do(func() { close(failed) })
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

func limited(ctx context.Context, i int, do func(ctx context.Context, i int) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return do(ctx, i)
}
