package bucket_test

import (
	"bytes"
	"net/url"
	"path/filepath"
	"strings"
	"testing"

	"github.com/trialog/trialog/services/internal/blob"
	"github.com/trialog/trialog/services/internal/blob/blobtest"
	"github.com/trialog/trialog/services/internal/blob/bucket"
	"github.com/trialog/trialog/services/internal/register/registertest"
	"github.com/trialog/trialog/services/internal/tile"
)

// address is the URL of a part of the servers' bucket.
func address(endpoint, prefix string) string {
	q := url.Values{"endpoint": {endpoint}, "path_style": {"true"}, "prefix": {prefix}}
	return "s3://" + registertest.Bucket + "?" + q.Encode()
}

func openAt(t *testing.T, at string) bucket.Closer {
	t.Helper()
	s, err := bucket.Open(t.Context(), at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// onS3 runs the suite on a server, each part under a prefix of its own, and then
// keeps a log there.
func onS3(t *testing.T, endpoint string) {
	blobtest.Run(t, func(t *testing.T) blob.Store {
		return openAt(t, address(endpoint, "suite/"+strings.ReplaceAll(filepath.Base(t.Name()), "'", "")+"/"))
	})
	t.Run("log", func(t *testing.T) { keepLog(t, address(endpoint, "log/")) })
	t.Run("large object", func(t *testing.T) {
		// The longest bundle; the SDK sends it in several parts.
		s, data := openAt(t, address(endpoint, "large/")), bytes.Repeat([]byte("0123456789abcdef"), 1<<20)
		if err := s.Put(t.Context(), blob.Object{Key: "k", Data: data}); err != nil {
			t.Fatal(err)
		}
		if got, err := s.Get(t.Context(), "k"); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%d bytes, %v; want %d", len(got), err, len(data))
		}
	})
	t.Run("neighbours", func(t *testing.T) {
		for key, err := range openAt(t, address(endpoint, "lo/")).List(t.Context(), "") {
			t.Errorf("a prefix sees an object of another one: %q, %v", key, err)
		}
	})
}

// keepLog grows a log in the bucket across bundle borders, with writers that take
// turns, and reads it with a client of its own.
func keepLog(t *testing.T, at string) {
	var entries [][]byte
	for _, n := range []int{1, 15, 2, 300, 200, 30, 1} {
		w, err := tile.OpenWriter(t.Context(), openAt(t, at))
		if err != nil {
			t.Fatal(err)
		}
		for i := range n {
			entries = append(entries, []byte{byte(len(entries)), byte(i), byte(n)})
		}
		if _, err := w.Append(t.Context(), entries[w.Size():]); err != nil {
			t.Fatal(err)
		}
		tree, err := tile.NewReader(openAt(t, at)).Tree(t.Context(), w.Size(), w.Root())
		if err != nil {
			t.Fatal(err)
		}
		got, err := tree.Entries(t.Context(), 0, len(entries))
		if err != nil {
			t.Fatal(err)
		}
		for i, e := range got {
			if !bytes.Equal(e, entries[i]) {
				t.Errorf("size %d: entry %d differs", tree.Size(), i)
			}
		}
	}
	// 549 entries: two full bundles, two full tiles of hashes.
	var tails, tiles []string
	for key, err := range openAt(t, at).List(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(key, "tail/") {
			tails = append(tails, key)
		} else {
			tiles = append(tiles, key)
		}
	}
	if len(tiles) != 4 || len(tails) != 6 {
		t.Errorf("%d tiles %v and %d tails %v; want 4, and 3 segments, 2 growing tiles and the head", len(tiles), tiles, len(tails), tails)
	}
}

func TestVersity(t *testing.T) { onS3(t, registertest.Versity(t)) }

func TestFakes3(t *testing.T) { onS3(t, registertest.Fakes3(t)) }

// TestMissingBucket: a bucket that is not there must not look like an empty one.
func TestMissingBucket(t *testing.T) {
	endpoint := registertest.Versity(t)
	at := "s3://nowhere?path_style=true&endpoint=" + url.QueryEscape(endpoint)
	if s, err := bucket.Open(t.Context(), at); err == nil {
		t.Errorf("opened %v", s)
	}
}

func TestOpenFile(t *testing.T) {
	t.Parallel()
	for _, prefix := range []string{"file:", "file://"} {
		dir := filepath.Join(t.TempDir(), "tiles")
		s := openAt(t, prefix+dir)
		if err := s.Put(t.Context(), blob.Object{Key: "k", Data: []byte("x")}); err != nil {
			t.Fatal(err)
		}
		if _, grows := s.(blob.Extender); !grows {
			t.Error("a directory's objects should grow in place")
		}
		again := openAt(t, "file:"+dir)
		if got, err := again.Get(t.Context(), "k"); err != nil || string(got) != "x" {
			t.Errorf("%q, %v", got, err)
		}
	}
}

func TestURLs(t *testing.T) {
	t.Parallel()
	for _, at := range []string{
		"file:/var/tiles", "file:tiles", "file:///var/tiles", "s3://b", "s3://b?region=eu-central-1",
		"s3://b?prefix=log/2026/", "s3://b?endpoint=http%3A%2F%2Flocalhost%3A9000&path_style=true",
	} {
		if err := bucket.Check(at); err != nil {
			t.Errorf("%s: %v", at, err)
		}
	}
	const secret = "hunter2hunter2"
	for _, at := range []string{
		"", "tiles", "/var/tiles", "file:", "file://host/x", "file:a\x00b", "http://b", "s3:b", "s3://", "s3:///p", "S4://b",
		"s3://b/p", "s3://b/", "s3://b:80", "s3://b#f", "s3://" + secret + "@b", "s3://u:" + secret + "@b",
		"s3://b?prefix=log", "s3://b?prefix=", "s3://b?prefix=/", "s3://b?prefix=../x/", "s3://b?prefix=a//", "s3://b?prefix=a/&prefix=b/",
		"s3://b?path_style=yes", "s3://b?region=", "s3://b?endpoint=localhost:9000", "s3://b?endpoint=ftp://h", "s3://b?endpoint=http://",
		"s3://b?endpoint=http%3A%2F%2Fu%3A" + secret + "%40h", "s3://b?endpoint=http%3A%2F%2Fh%3Fkey%3D" + secret,
		"s3://b?secret=" + secret, "s3://b?" + secret, "s3://b?%zz=" + secret, "s3://b?profile=x", "s3://%zz" + secret,
	} {
		err := bucket.Check(at)
		if err == nil {
			t.Errorf("%s: taken", at)
			continue
		}
		if strings.Contains(err.Error(), secret) {
			t.Errorf("%s: the error repeats the secret: %v", at, err)
		}
		if s, err := bucket.Open(t.Context(), at); err == nil {
			t.Errorf("%s: opened %v", at, s)
		}
	}
}
