package register_test

import (
	"context"
	"errors"
	"net/url"
	"path/filepath"
	"strings"
	"testing"

	"github.com/trialog/trialog/services/internal/register"
	"github.com/trialog/trialog/services/internal/register/registertest"
)

func TestOpen(t *testing.T) {
	registertest.Credentials(t)
	stub := registertest.NewStub(t, registertest.NoFlaw)
	file := filepath.Join(t.TempDir(), "register")
	for _, at := range []string{
		"file:" + file, "file://" + file,
		"s3://" + registertest.Bucket + "/a/b?path_style=true&region=eu-north-1&endpoint=" + url.QueryEscape(stub.URL),
	} {
		r, err := register.Open(context.Background(), at)
		if err != nil {
			t.Fatalf("%s: %v", at, err)
		}
		if err := register.Check(at); err != nil {
			t.Errorf("%s opens, but: %v", at, err)
		}
		err = r.Create(context.Background(), record(1))
		if strings.HasPrefix(at, "file:///") {
			if !errors.Is(err, register.ErrExists) {
				t.Errorf("%s is another file than file:PATH: %v", at, err)
			}
		} else if err != nil {
			t.Error(err)
		}
		registertest.Holds(t, r, record(1))
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestParseS3(t *testing.T) {
	got, err := register.ParseS3("s3://bucket.name/a/b%20c?region=eu-north-1&endpoint=https%3A%2F%2Fs3.test%3A9000&path_style=false")
	if err != nil {
		t.Fatal(err)
	}
	if got.Bucket != "bucket.name" || got.Key != "a/b c" || got.Region != "eu-north-1" ||
		got.Endpoint != "https://s3.test:9000" || got.PathStyle {
		t.Errorf("%+v", got)
	}
	const secret = "hunter2hunter2"
	for name, at := range map[string]string{
		"empty":                "",
		"no scheme":            "/var/register",
		"another scheme":       "https://bucket/key",
		"upper case":           "S3://bucket/key",
		"no bucket":            "s3:///key",
		"no key":               "s3://bucket",
		"empty key":            "s3://bucket/",
		"folder":               "s3://bucket/a/",
		"opaque":               "s3:bucket/key",
		"port":                 "s3://bucket:9000/key",
		"fragment":             "s3://bucket/key#a",
		"credentials":          "s3://id:" + secret + "@bucket/key",
		"user":                 "s3://id@bucket/key",
		"bad escape":           "s3://bucket/%zz" + secret,
		"unknown parameter":    "s3://bucket/key?secret=" + secret,
		"twice":                "s3://bucket/key?region=a&region=b",
		"empty parameter":      "s3://bucket/key?region=",
		"semicolon":            "s3://bucket/key?region=a;b",
		"path style":           "s3://bucket/key?path_style=1",
		"endpoint":             "s3://bucket/key?endpoint=s3.test",
		"endpoint scheme":      "s3://bucket/key?endpoint=ftp%3A%2F%2Fs3.test",
		"endpoint credentials": "s3://bucket/key?endpoint=http%3A%2F%2Fid%3A" + secret + "%40s3.test",
		"endpoint query":       "s3://bucket/key?endpoint=http%3A%2F%2Fs3.test%3Fa%3D" + secret,
		"file without a path":  "file:",
		"file with a host":     "file://host/register",
		"folder of files":      "file:/var/lib/",
		"NUL":                  "file:/var/\x00",
	} {
		for what, err := range map[string]error{
			"checked": register.Check(at),
			"opened":  func() error { _, err := register.Open(context.Background(), at); return err }(),
		} {
			if err == nil || strings.Contains(err.Error(), secret) {
				t.Errorf("%s: %s: %v", name, what, err)
			}
		}
	}
}
