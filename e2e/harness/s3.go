package harness

import (
	"bytes"
	"context"
	"crypto/rand"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// S3 is a real S3 server with one bucket, over a folder.
type S3 struct {
	URL    string
	t      testing.TB
	folder string
	client *s3.Client
}

const (
	s3Bucket = "trialog"
	s3Region = "us-east-1"
)

// NewS3 starts a server. The environment of the test, and of the programs that
// it starts, then has the credentials.
func NewS3(t *testing.T) *S3 {
	t.Helper()
	build := exec.CommandContext(t.Context(), "go", "tool", "-n", "versitygw")
	build.Dir = filepath.Join(Root(), "tools", "s3server")
	program, err := build.Output()
	if err != nil {
		t.Fatalf("build the S3 server: %v", err)
	}
	access, secret := rand.Text(), rand.Text()
	for name, value := range map[string]string{
		"AWS_ACCESS_KEY_ID": access, "AWS_SECRET_ACCESS_KEY": secret, "AWS_REGION": s3Region,
		// Nothing of the machine's own may play a part.
		"AWS_CONFIG_FILE": os.DevNull, "AWS_SHARED_CREDENTIALS_FILE": os.DevNull, "AWS_EC2_METADATA_DISABLED": "true",
	} {
		t.Setenv(name, value)
	}
	root := t.TempDir()
	if err := os.Mkdir(filepath.Join(root, s3Bucket), 0o750); err != nil {
		t.Fatal(err)
	}
	for range 5 { // a port that was free may be taken before the server has it
		address := freeAddress(t)
		cmd := exec.Command(strings.TrimSpace(string(program)), //nolint:noctx // the clean-up ends it
			"--port", address, "--quiet", "--access", access, "--secret", secret, "posix", root)
		cmd.Stderr = os.Stderr
		if !serves(t, cmd, "http://"+address) {
			continue
		}
		client := s3.New(s3.Options{
			BaseEndpoint: aws.String("http://" + address), UsePathStyle: true, Region: s3Region,
			Credentials: credentials.NewStaticCredentialsProvider(access, secret, ""),
		})
		return &S3{URL: "http://" + address, t: t, folder: filepath.Join(root, s3Bucket), client: client}
	}
	t.Fatal("the S3 server does not start")
	return nil
}

// serves starts a server and waits until it answers, or has ended.
func serves(t *testing.T, cmd *exec.Cmd, at string) bool {
	t.Helper()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { defer close(done); _ = cmd.Wait() }()
	t.Cleanup(func() { _ = cmd.Process.Kill(); <-done })
	for {
		if resp, err := http.Get(at); err == nil { //nolint:noctx,gosec // a loopback address
			return resp.Body.Close() == nil
		}
		select {
		case <-done:
			return false
		case <-time.After(20 * time.Millisecond): // between two questions
		}
	}
}

func (s *S3) query(prefix string) string {
	q := url.Values{"endpoint": {s.URL}, "path_style": {"true"}, "region": {s3Region}}
	if prefix != "" {
		q.Set("prefix", prefix)
	}
	return q.Encode()
}

// Tiles is where a shard may keep its tiles.
func (s *S3) Tiles() string { return "s3://" + s3Bucket + "?" + s.query("tiles/") }

// TilesFolder is the server's folder of these tiles.
func (s *S3) TilesFolder() string { return filepath.Join(s.folder, "tiles") }

// Register is where a shard may keep its register.
func (s *S3) Register() string { return "s3://" + s3Bucket + "/" + S3Register + "?" + s.query("") }

// S3Register is the key of the register.
const S3Register = "register"

// Object reads an object.
func (s *S3) Object(key string) []byte {
	s.t.Helper()
	out, err := s.client.GetObject(context.Background(), &s3.GetObjectInput{Bucket: aws.String(s3Bucket), Key: &key})
	if err != nil {
		s.t.Fatal(err)
	}
	defer out.Body.Close()
	data, err := io.ReadAll(out.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return data
}

// Put writes an object, whatever there is.
func (s *S3) Put(key string, data []byte) {
	s.t.Helper()
	if _, err := s.client.PutObject(context.Background(), &s3.PutObjectInput{
		Bucket: aws.String(s3Bucket), Key: &key, Body: bytes.NewReader(data),
	}); err != nil {
		s.t.Fatal(err)
	}
}
