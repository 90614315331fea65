package bucket

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/ratelimit"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	gocloud "gocloud.dev/blob"
	"gocloud.dev/blob/s3blob"

	"github.com/trialog/trialog/services/internal/blob"
)

const (
	// attempts is how often the SDK sends a request, with pauses that grow up to
	// longestPause.
	attempts     = 5
	longestPause = 3 * time.Second
)

// Closer is a blob.Store that was opened and is to be closed.
type Closer interface {
	blob.Store
	Close() error
}

// Open opens the store that a URL names:
//
//	file:PATH
//	s3://bucket?prefix=P/&endpoint=URL&region=NAME&path_style=true
//
// The parameters of s3 may be left out; the prefix, if there is one, ends in a
// slash. Credentials come from the SDK's standard chain (environment, shared
// files, the machine's role) and are never in a URL: one with user information
// is refused, and errors do not repeat the URL. A bucket must exist and answer.
func Open(ctx context.Context, at string) (Closer, error) {
	if path, ok := strings.CutPrefix(at, "file:"); ok {
		path, err := dirPath(path)
		if err != nil {
			return nil, err
		}
		return blob.OpenDir(path)
	}
	c, err := parse(at)
	if err != nil {
		return nil, err
	}
	return c.open(ctx)
}

// Check returns an error unless Open could make sense of the URL. It opens
// nothing.
func Check(at string) error {
	if path, ok := strings.CutPrefix(at, "file:"); ok {
		_, err := dirPath(path)
		return err
	}
	_, err := parse(at)
	return err
}

// dirPath takes PATH verbatim; "file:///x" is /x, and a host is refused.
func dirPath(path string) (string, error) {
	if rest, ok := strings.CutPrefix(path, "//"); ok {
		if !strings.HasPrefix(rest, "/") {
			return "", errors.New("store: expected file:PATH without a host")
		}
		path = rest
	}
	if path == "" || strings.ContainsRune(path, 0) {
		return "", errors.New("store: expected the path of a directory after file")
	}
	return path, nil
}

// s3Config is what an s3 URL says.
type s3Config struct {
	bucket, prefix   string
	region, endpoint string
	pathStyle        bool
	pause            time.Duration // the longest one; longestPause except in tests
}

// parse reads an s3 URL. Its errors do not repeat the input.
func parse(at string) (s3Config, error) {
	u, err := url.Parse(at)
	if err != nil || u.Scheme != "s3" {
		return s3Config{}, errors.New("store: expected file:PATH or s3://bucket")
	}
	switch {
	case u.User != nil:
		return s3Config{}, errors.New("store: expected a URL without credentials: they come from the environment")
	case u.Opaque != "" || u.Host == "" || u.Port() != "" || u.Path != "" || u.Fragment != "":
		return s3Config{}, errors.New("store: expected s3://bucket, the prefix as a parameter")
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return s3Config{}, errors.New("store: expected parameters of the form name=value")
	}
	c := s3Config{bucket: u.Host, pause: longestPause}
	for name, values := range query {
		if len(values) != 1 || values[0] == "" {
			return s3Config{}, fmt.Errorf("store: expected parameter %s once, with a value", known(name))
		}
		if err := c.set(name, values[0]); err != nil {
			return s3Config{}, err
		}
	}
	return c, nil
}

func (c *s3Config) set(name, value string) error {
	switch name {
	case "prefix":
		if !strings.HasSuffix(value, "/") || blob.CheckKey(strings.TrimSuffix(value, "/")) != nil {
			return errors.New("store: prefix: expected a key that ends in a slash")
		}
		c.prefix = value
	case "region":
		c.region = value
	case "endpoint":
		u, err := url.Parse(value)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			return errors.New("store: endpoint: expected an http or https URL")
		}
		if u.User != nil || u.RawQuery != "" || u.Fragment != "" {
			return errors.New("store: endpoint: expected a URL without credentials, query and fragment")
		}
		c.endpoint = value
	case "path_style":
		if value != "true" && value != "false" {
			return errors.New("store: path_style: expected true or false")
		}
		c.pathStyle = value == "true"
	default:
		return fmt.Errorf("store: unknown parameter %s, expected prefix, endpoint, region or path_style", known(name))
	}
	return nil
}

// known quotes a parameter's name if it is short enough to be one: a secret that
// lost its "name=" must not be printed.
func known(name string) string {
	if len(name) > len("access_key_id") {
		return "(name left out)"
	}
	return strconv.Quote(name)
}

func (c *s3Config) open(ctx context.Context) (*Store, error) {
	options := []func(*awsconfig.LoadOptions) error{
		awsconfig.WithHTTPClient(awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) {
			t.MaxIdleConnsPerHost = parallel // else most connections of a batch are closed behind it
		})),
		awsconfig.WithRetryer(func() aws.Retryer {
			return retry.NewStandard(func(o *retry.StandardOptions) {
				o.MaxAttempts, o.MaxBackoff = attempts, c.pause
				// The SDK's budget for retries is for a client of a service that is
				// overloaded; here a batch would be given up half-way.
				o.RateLimiter = ratelimit.None
			})
		}),
	}
	if c.region != "" {
		options = append(options, awsconfig.WithRegion(c.region))
	}
	shared, err := awsconfig.LoadDefaultConfig(ctx, options...)
	if err != nil {
		return nil, fmt.Errorf("open the bucket: %w", err)
	}
	client := s3.NewFromConfig(shared, func(o *s3.Options) {
		o.UsePathStyle = c.pathStyle
		// Who reads checks against hashes of the log; the SDK would warn of every
		// server that sends no checksums.
		o.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenRequired
		if c.endpoint != "" {
			o.BaseEndpoint = aws.String(c.endpoint)
		}
	})
	b, err := s3blob.OpenBucket(ctx, client, c.bucket, &s3blob.Options{
		RequestChecksumCalculation: aws.RequestChecksumCalculationWhenSupported,
	})
	if err != nil {
		return nil, fmt.Errorf("open the bucket: %w", err)
	}
	if c.prefix != "" {
		b = gocloud.PrefixedBucket(b, c.prefix)
	}
	s := New(b)
	s.conditional = &conditional{client: client, bucket: c.bucket, prefix: c.prefix}
	// IsAccessible would say no more than yes or no, and a missing bucket must
	// not look like an empty one.
	for _, err := range s.List(ctx, "") {
		if err != nil {
			return nil, errors.Join(fmt.Errorf("open the bucket: %w", err), s.Close())
		}
		break
	}
	return s, nil
}
