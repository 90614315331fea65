package register

import (
	"bytes"
	"context"
	"crypto/md5" //nolint:gosec // see plainTag
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go"

	"github.com/trialog/trialog/services/internal/fault"
	"github.com/trialog/trialog/services/internal/run"
)

// S3Config says where a register's object lies. Credentials come from the SDK's
// standard chain: environment, shared files, the machine's role.
type S3Config struct {
	Bucket, Key string
	// Region may be empty if the standard chain names one.
	Region string
	// Endpoint is the URL of another server than Amazon's; PathStyle puts the
	// bucket into its path instead of its host name.
	Endpoint  string
	PathStyle bool

	// HTTP carries the requests; the SDK's own client.
	HTTP aws.HTTPClient
	// Attempts is how often a request is sent at most; 4. Timeout is for one
	// attempt; 5 s.
	Attempts int
	Timeout  time.Duration
	// Pause waits between attempts; another one in tests only.
	Pause func(context.Context, time.Duration) error
}

// S3 is a register in an object of an S3 bucket, replaced by conditional writes.
//
// It has no lock: a second sequencer is noticed by the next Swap of either, which
// returns ErrConflict. That is enough, because nothing is signed before its body
// was registered.
//
// The bucket must be strongly consistent, as Amazon's is, and must honour
// If-Match and If-None-Match on writes, atomically; OpenS3 tries that out. It
// should be under another account than the log's store, and its object should
// have no life-cycle rule. The credentials need s3:GetObject, s3:PutObject and,
// so that a missing object is told from a forbidden one, s3:ListBucket;
// s3:DeleteObject for the probe.
type S3 struct {
	c      S3Config
	client *s3.Client
	// plainTags: the server's ETags are MD5 sums of the content.
	plainTags bool
}

// OpenS3 connects to the bucket and makes sure, on probe objects beside the
// register's, that the server honours conditional writes; ErrUnsafe if it does
// not. The register itself need not exist.
func OpenS3(ctx context.Context, c S3Config) (*S3, error) {
	if c.Bucket == "" || c.Key == "" {
		return nil, errors.New("open the register: expected a bucket and a key")
	}
	if c.Attempts <= 0 {
		c.Attempts = 4
	}
	if c.Timeout <= 0 {
		c.Timeout = 5 * time.Second
	}
	if c.Pause == nil {
		c.Pause = run.Pause
	}
	options := []func(*awsconfig.LoadOptions) error{
		// The SDK would send a conditional write again whose answer was lost, and
		// report the refusal of the second one.
		awsconfig.WithRetryer(func() aws.Retryer { return aws.NopRetryer{} }),
	}
	if c.Region != "" {
		options = append(options, awsconfig.WithRegion(c.Region))
	}
	shared, err := awsconfig.LoadDefaultConfig(ctx, options...)
	if err != nil {
		return nil, fmt.Errorf("open the register: %w", err)
	}
	if shared.Region == "" && c.Endpoint != "" {
		// Other servers have no regions, but the signature of a request names one.
		shared.Region = "us-east-1"
	}
	r := &S3{c: c, client: s3.NewFromConfig(shared, func(o *s3.Options) {
		o.UsePathStyle = c.PathStyle
		o.DisableLogOutputChecksumValidationSkipped = true
		if c.HTTP != nil {
			o.HTTPClient = c.HTTP
		}
		if c.Endpoint != "" {
			o.BaseEndpoint = aws.String(c.Endpoint)
		}
	})}
	if err := r.probe(ctx); err != nil {
		return nil, fmt.Errorf("open the register: %w", err)
	}
	return r, nil
}

// Close implements Backend. There is nothing to give back.
func (r *S3) Close() error { return nil }

// Create implements Register.
func (r *S3) Create(ctx context.Context, first Record) error {
	text, err := checked(first)
	if err != nil {
		return err
	}
	switch _, err := r.Read(ctx); {
	case err == nil:
		return ErrExists
	case !errors.Is(err, ErrMissing):
		return err
	}
	if err := fault.Hit("register.before"); err != nil {
		return err
	}
	err = r.write(ctx, first, func(ctx context.Context) error {
		_, err := r.put(ctx, r.c.Key, text, condition{absent: true})
		return err
	})
	if errors.Is(err, errRefused) {
		return ErrExists
	} else if err != nil {
		return fmt.Errorf("make the register: %w", err)
	}
	return fault.Hit("register.after")
}

// Read implements Register.
func (r *S3) Read(ctx context.Context) (Record, error) {
	got, _, err := r.read(ctx)
	return got, err
}

// Swap implements Register.
func (r *S3) Swap(ctx context.Context, old, next Record) error {
	got, tag, err := r.read(ctx)
	switch {
	case err != nil:
		return err
	case got != old:
		return ErrConflict
	case !next.Follows(old):
		return ErrBackwards
	}
	text, err := checked(next)
	if err != nil {
		return err
	}
	if err := fault.Hit("register.before"); err != nil {
		return err
	}
	err = r.write(ctx, next, func(ctx context.Context) error {
		_, err := r.put(ctx, r.c.Key, text, condition{tag: tag})
		return err
	})
	if errors.Is(err, errRefused) {
		return ErrConflict
	} else if err != nil {
		return fmt.Errorf("write the register: %w", err)
	}
	return fault.Hit("register.after")
}

// write sends one conditional write until its outcome is known or the attempts
// are used up. All attempts carry the same condition, so at most one of them
// takes effect, also of those that are still under way when a later one is sent:
// records never come back to what they were.
//
// errRefused: the object is another one, and no attempt has made it so.
func (r *S3) write(ctx context.Context, want Record, send func(context.Context) error) error {
	unknown := false
	for attempt := 1; ; attempt++ {
		err := r.attempt(ctx, send)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, errRefused):
			if !unknown {
				return err
			}
			// It may be an earlier attempt of ours that this one ran into.
			got, _, readErr := r.read(ctx)
			switch {
			case readErr != nil:
				return fmt.Errorf("%w, and what is there cannot be read: %w", errUnknown, readErr)
			case got == want:
				return nil
			}
			return err
		case errors.Is(err, errBusy): // nothing was written
		default:
			unknown = true
		}
		if attempt >= r.c.Attempts || permanent(err) {
			return err
		}
		if pauseErr := r.c.Pause(ctx, run.Backoff(attempt, firstPause, longestPause)); pauseErr != nil {
			return errors.Join(err, pauseErr)
		}
	}
}

// firstPause and longestPause bound the pauses between attempts.
const firstPause, longestPause = 50 * time.Millisecond, 2 * time.Second

// read returns the record and the object's tag.
func (r *S3) read(ctx context.Context) (got Record, tag string, err error) {
	for attempt := 1; ; attempt++ {
		var text []byte
		err := r.attempt(ctx, func(ctx context.Context) (err error) {
			text, tag, err = r.get(ctx, r.c.Key)
			return err
		})
		switch {
		case err == nil:
			got, err = parse(string(text))
			return got, tag, err
		case errors.Is(err, ErrMissing) || errors.Is(err, ErrCorrupt):
			return Record{}, "", err
		case attempt >= r.c.Attempts || permanent(err):
			return Record{}, "", fmt.Errorf("read the register: %w", err)
		}
		if pauseErr := r.c.Pause(ctx, run.Backoff(attempt, firstPause, longestPause)); pauseErr != nil {
			return Record{}, "", fmt.Errorf("read the register: %w", errors.Join(err, pauseErr))
		}
	}
}

func (r *S3) attempt(ctx context.Context, send func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, r.c.Timeout)
	defer cancel()
	return send(ctx)
}

var (
	// errRefused: the condition of a write did not hold; nothing was written.
	errRefused = errors.New("the object is not the expected one")
	// errBusy: another conditional write of the object was under way; nothing was
	// written, and nothing is known about the condition.
	errBusy    = errors.New("another write of the object is under way")
	errUnknown = errors.New("the write's outcome is unknown")
)

// condition is what must hold for a write to take effect.
type condition struct {
	absent bool   // there is no object
	tag    string // the object has this tag
}

// put writes an object on a condition and returns its new tag.
func (r *S3) put(ctx context.Context, key string, data []byte, c condition) (tag string, err error) {
	in := &s3.PutObjectInput{
		Bucket: aws.String(r.c.Bucket), Key: aws.String(key), Body: bytes.NewReader(data),
		ContentLength: aws.Int64(int64(len(data))), ContentType: aws.String("text/plain; charset=utf-8"),
	}
	if c.absent {
		in.IfNoneMatch = aws.String("*")
	} else {
		in.IfMatch = aws.String(c.tag)
	}
	out, err := r.client.PutObject(ctx, in)
	if err != nil {
		return "", classify(err)
	}
	return aws.ToString(out.ETag), nil
}

// get reads an object and its tag.
func (r *S3) get(ctx context.Context, key string) (data []byte, tag string, err error) {
	out, err := r.client.GetObject(ctx, &s3.GetObjectInput{Bucket: aws.String(r.c.Bucket), Key: aws.String(key)})
	if err != nil {
		return nil, "", classify(err)
	}
	defer out.Body.Close()
	data, err = io.ReadAll(io.LimitReader(out.Body, maxFile+1))
	if err != nil {
		return nil, "", err
	}
	tag = aws.ToString(out.ETag)
	switch {
	case len(data) > maxFile:
		return nil, "", fmt.Errorf("%w: longer than %d bytes", ErrCorrupt, maxFile)
	case tag == "":
		return nil, "", errors.New("the object store gives the object no ETag")
	case r.plainTags && tag != plainTag(data):
		// Old content under a new tag would be replaced as if it were the new one.
		return nil, "", errors.New("the object store gave one write's content with another's ETag")
	}
	return data, tag, nil
}

// plainTag returns the ETag of an object that was uploaded in one piece and not
// encrypted with a key of the customer's.
func plainTag(data []byte) string {
	sum := md5.Sum(data) //nolint:gosec // what S3 calls an ETag; nothing rests on its strength
	return `"` + hex.EncodeToString(sum[:]) + `"`
}

// remove deletes an object.
func (r *S3) remove(ctx context.Context, key string) error {
	_, err := r.client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: aws.String(r.c.Bucket), Key: aws.String(key)})
	return err
}

// classify names the answers that tell what happened. Everything else leaves it
// open.
func classify(err error) error {
	code := ""
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		code = api.ErrorCode()
	}
	switch {
	// A missing bucket is not a missing register.
	case code == "NoSuchKey":
		return fmt.Errorf("%w: %w", ErrMissing, err)
	case code == "ConditionalRequestConflict" || status(err) == http.StatusConflict:
		return fmt.Errorf("%w: %w", errBusy, err)
	case code == "PreconditionFailed" || status(err) == http.StatusPreconditionFailed:
		return fmt.Errorf("%w: %w", errRefused, err)
	}
	return err
}

// status returns the HTTP status behind an error of the SDK; 0 if there was no
// answer.
func status(err error) int {
	var answered interface{ HTTPStatusCode() int }
	if errors.As(err, &answered) {
		return answered.HTTPStatusCode()
	}
	return 0
}

// permanent tells whether sending the same request again is of no use.
func permanent(err error) bool {
	s := status(err)
	return s >= 400 && s < 500 && s != http.StatusRequestTimeout && s != http.StatusConflict && s != http.StatusTooManyRequests
}

// checked returns the text of a record, or ErrCorrupt if it could not be read
// back.
func checked(r Record) ([]byte, error) {
	text := format(r)
	if _, err := parse(text); err != nil {
		return nil, fmt.Errorf("write the register: such a record could not be read: %w", err)
	}
	return []byte(text), nil
}
