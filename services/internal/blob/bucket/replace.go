package bucket

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go"

	"github.com/trialog/trialog/services/internal/blob"
	"github.com/trialog/trialog/services/internal/run"
)

// replaceRounds is how often Replace begins anew. Somebody else who writes that
// often has taken the object over.
const replaceRounds = 5

// conditional is how an S3 bucket is reached for writes on a condition, which the
// library in between has no way to ask for.
type conditional struct {
	client         *s3.Client
	bucket, prefix string
}

// Replace implements blob.Replacer. On a provider that has no conditional writes it
// is as good as reading before writing, and so it is between the processes that use
// a bucket which is not S3's.
func (s *Store) Replace(ctx context.Context, key string, decide blob.Decide) error {
	if err := blob.CheckKey(key); err != nil {
		return fmt.Errorf("replace: %w", err)
	}
	if s.conditional == nil {
		s.replacing.Lock()
		defer s.replacing.Unlock()
		return blob.Replace(ctx, plain{s}, key, decide)
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var sent []byte
	for round := 1; ; round++ {
		current, tag, err := s.conditional.get(ctx, key)
		if err != nil {
			return fmt.Errorf("replace %s: %w", key, err)
		}
		// The SDK sends a request again whose answer was lost, and runs into its own
		// success.
		if sent != nil && bytes.Equal(current, sent) {
			return nil
		}
		next, err := decide(current)
		if err != nil {
			return err
		}
		sent = append([]byte{}, next...)
		err = s.conditional.put(ctx, key, next, tag)
		switch {
		case err == nil:
			return nil
		case !errors.Is(err, errChanged):
			return fmt.Errorf("replace %s: %w", key, err)
		case round == replaceRounds:
			return fmt.Errorf("replace %s: %w", key, blob.ErrReplaced)
		}
		if err := run.Pause(ctx, run.Backoff(round, firstPause, longestPause)); err != nil {
			return fmt.Errorf("replace %s: %w", key, err)
		}
	}
}

// firstPause is the pause behind the first round.
const firstPause = 20 * time.Millisecond

// errChanged: the condition of a write did not hold, or another conditional write
// was under way. This one has changed nothing, but an earlier attempt of the SDK
// may have.
var errChanged = errors.New("the object was changed meanwhile")

// plain hides that a Store is a Replacer.
type plain struct{ blob.Store }

// get returns an object and its tag; nothing if there is none.
func (c *conditional) get(ctx context.Context, key string) (data []byte, tag string, err error) {
	out, err := c.client.GetObject(ctx, &s3.GetObjectInput{Bucket: aws.String(c.bucket), Key: aws.String(c.prefix + key)})
	if isMissing(err) {
		return nil, "", nil
	}
	if err != nil {
		return nil, "", err
	}
	data, err = io.ReadAll(out.Body)
	if err := errors.Join(err, out.Body.Close()); err != nil {
		return nil, "", err
	}
	if tag = aws.ToString(out.ETag); tag == "" {
		return nil, "", errors.New("the object store gives the object no ETag")
	}
	return data, tag, nil
}

// isMissing tells whether the bucket has said that it has no such object.
func isMissing(err error) bool {
	api, ok := errors.AsType[smithy.APIError](err)
	return ok && api.ErrorCode() == "NoSuchKey"
}

// put writes an object if it still has the tag, or if there is still none.
func (c *conditional) put(ctx context.Context, key string, data []byte, tag string) error {
	in := &s3.PutObjectInput{
		Bucket: aws.String(c.bucket), Key: aws.String(c.prefix + key), Body: bytes.NewReader(data),
		ContentLength: aws.Int64(int64(len(data))), ContentType: aws.String(contentType),
	}
	if tag == "" {
		in.IfNoneMatch = aws.String("*")
	} else {
		in.IfMatch = aws.String(tag)
	}
	_, err := c.client.PutObject(ctx, in)
	if err == nil {
		return nil
	}
	if isMissing(err) { // it was deleted, and cannot have the tag
		return fmt.Errorf("%w: %w", errChanged, err)
	}
	var answered interface{ HTTPStatusCode() int }
	if !errors.As(err, &answered) {
		return err
	}
	switch answered.HTTPStatusCode() {
	case http.StatusPreconditionFailed, http.StatusConflict:
		return fmt.Errorf("%w: %w", errChanged, err)
	case http.StatusNotImplemented:
		in.IfMatch, in.IfNoneMatch, in.Body = nil, nil, bytes.NewReader(data)
		_, err = c.client.PutObject(ctx, in)
	}
	return err
}
