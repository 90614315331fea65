package register

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
)

// Open opens the register that a URL names:
//
//	file:PATH
//	s3://bucket/key?endpoint=URL&region=NAME&path_style=true
//
// The parameters of s3 may be left out. A URL never holds credentials: one with
// user information is refused, and errors do not repeat the URL. The record need
// not exist: Read then returns ErrMissing, and Create makes the first one.
func Open(ctx context.Context, at string) (Backend, error) {
	if path, ok := strings.CutPrefix(at, "file:"); ok {
		path, err := filePath(path)
		if err != nil {
			return nil, err
		}
		return OpenFile(path)
	}
	if strings.HasPrefix(at, "s3:") {
		c, err := ParseS3(at)
		if err != nil {
			return nil, err
		}
		return OpenS3(ctx, c)
	}
	return nil, errors.New("register: expected file:PATH or s3://bucket/key")
}

// Check returns an error unless Open could make sense of the URL. It opens
// nothing.
func Check(at string) error {
	if path, ok := strings.CutPrefix(at, "file:"); ok {
		_, err := filePath(path)
		return err
	}
	if strings.HasPrefix(at, "s3:") {
		_, err := ParseS3(at)
		return err
	}
	return errors.New("register: expected file:PATH or s3://bucket/key")
}

// filePath takes PATH verbatim; "file:///x" is /x, and a host is refused.
func filePath(path string) (string, error) {
	if rest, ok := strings.CutPrefix(path, "//"); ok {
		if !strings.HasPrefix(rest, "/") {
			return "", errors.New("register: expected file:PATH without a host")
		}
		path = rest
	}
	if path == "" || strings.HasSuffix(path, "/") || strings.ContainsRune(path, 0) {
		return "", errors.New("register: expected file:PATH, with the path of a file")
	}
	return path, nil
}

// ParseS3 reads an s3 URL; see Open. Its errors do not repeat the input.
func ParseS3(at string) (S3Config, error) {
	u, err := url.Parse(at)
	if err != nil || u.Scheme != "s3" || u.Opaque != "" || u.Fragment != "" {
		return S3Config{}, errors.New("register: expected s3://bucket/key")
	}
	if u.User != nil {
		return S3Config{}, errors.New("register: expected a URL without credentials: they come from the environment")
	}
	key := strings.TrimPrefix(u.Path, "/")
	if u.Host == "" || u.Port() != "" || key == "" || strings.HasSuffix(key, "/") {
		return S3Config{}, errors.New("register: expected s3://bucket/key with a bucket and a key")
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return S3Config{}, errors.New("register: expected parameters of the form name=value")
	}
	c := S3Config{Bucket: u.Host, Key: key}
	for name, values := range query {
		if len(values) != 1 || values[0] == "" {
			return S3Config{}, fmt.Errorf("register: expected parameter %s once, with a value", strconv.Quote(name))
		}
		switch name {
		case "region":
			c.Region = values[0]
		case "endpoint":
			if c.Endpoint, err = endpoint(values[0]); err != nil {
				return S3Config{}, err
			}
		case "path_style":
			if values[0] != "true" && values[0] != "false" {
				return S3Config{}, errors.New("register: path_style: expected true or false")
			}
			c.PathStyle = values[0] == "true"
		default:
			return S3Config{}, fmt.Errorf("register: unknown parameter %s, expected endpoint, region or path_style", strconv.Quote(name))
		}
	}
	return c, nil
}

func endpoint(s string) (string, error) {
	u, err := url.Parse(s)
	switch {
	case err != nil, u.Scheme != "http" && u.Scheme != "https", u.Host == "":
		return "", errors.New("register: endpoint: expected an http or https URL")
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return "", errors.New("register: endpoint: expected a URL without credentials, query and fragment")
	}
	return s, nil
}
