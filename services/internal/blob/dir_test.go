package blob_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/trialog/trialog/services/internal/blob"
	"github.com/trialog/trialog/services/internal/blob/blobtest"
)

func openDir(t testing.TB, path string) *blob.Dir {
	t.Helper()
	d, err := blob.OpenDir(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return d
}

func TestDir(t *testing.T) {
	t.Parallel()
	blobtest.Run(t, func(t *testing.T) blob.Store { return openDir(t, filepath.Join(t.TempDir(), "new", "dir")) })
}

// TestDirStaysInside puts symbolic links into the directory that lead out of it.
func TestDirStaysInside(t *testing.T) {
	t.Parallel()
	outside, inside := t.TempDir(), t.TempDir()
	secret := filepath.Join(outside, "secret")
	if err := os.WriteFile(secret, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	for link, target := range map[string]string{"file": secret, "dir": outside} {
		if err := os.Symlink(target, filepath.Join(inside, link)); err != nil {
			t.Fatal(err)
		}
	}
	d := openDir(t, inside)
	for _, key := range []string{"file", "dir/secret"} {
		if data, err := d.Get(t.Context(), key); err == nil {
			t.Errorf("get %s: %d bytes from outside", key, len(data))
		}
		if err := d.Extend(t.Context(), blob.Extension{Key: key, Data: []byte("x")}); err == nil {
			t.Errorf("extend %s: no error", key)
		}
	}
	if err := d.Put(t.Context(), blob.Object{Key: "dir/new", Data: []byte("x")}); err == nil {
		t.Error("put dir/new: no error")
	}
	if err := d.Delete(t.Context(), "dir/secret"); err == nil {
		t.Error("delete dir/secret: no error")
	}
	for key, err := range d.List(t.Context(), "") {
		if err == nil && strings.HasPrefix(key, "dir/") {
			t.Errorf("list yields %s", key)
		}
	}
	names, err := os.ReadDir(outside)
	if err != nil || len(names) != 1 {
		t.Errorf("outside: %v, %v", names, err)
	}
	if data, err := os.ReadFile(secret); err != nil || string(data) != "secret" {
		t.Errorf("outside: %q, %v", data, err)
	}
}

// TestScratch shows that temporary files are no objects, that a closed store
// leaves none, and that the next writer removes those of a dead one and not
// those of a living one.
func TestScratch(t *testing.T) {
	t.Parallel()
	path := t.TempDir()
	dead := filepath.Join(path, ".scratch", "dead")
	if err := os.MkdirAll(dead, 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dead, "1"), []byte("half an obj"), 0o600); err != nil {
		t.Fatal(err)
	}
	first, err := blob.OpenDir(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := first.Put(t.Context(), blob.Object{Key: "a"}); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dead); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the dead writer's directory: %v", err)
	}
	second := openDir(t, path)
	for i, d := range []*blob.Dir{second, first, second, first} {
		if err := d.Put(t.Context(), blob.Object{Key: fmt.Sprint("b", i)}); err != nil {
			t.Errorf("two writers in turn: %v", err)
		}
	}
	for key := range second.List(t.Context(), "") {
		if strings.Contains(key, "scratch") {
			t.Errorf("list yields %s", key)
		}
	}
	if err := first.Close(); err != nil {
		t.Error(err)
	}
	left, err := os.ReadDir(filepath.Join(path, ".scratch"))
	if err != nil || len(left) != 1 {
		t.Errorf("scratch directories left: %d, %v; want the second writer's", len(left), err)
	}
}

func TestManyWriters(t *testing.T) {
	t.Parallel()
	d := openDir(t, t.TempDir())
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 10 {
				objects := []blob.Object{
					{Key: "shared", Data: bytes.Repeat([]byte{byte(i)}, 1000)},
					{Key: fmt.Sprintf("own/%d/%d", i, j), Data: []byte{byte(i), byte(j)}},
				}
				if err := d.Put(t.Context(), objects...); err != nil {
					t.Errorf("put: %v", err)
				}
			}
		})
	}
	wg.Wait()
	got, err := d.Get(t.Context(), "shared")
	if err != nil || !bytes.Equal(got, bytes.Repeat(got[:1], 1000)) {
		t.Errorf("shared object is a mix: %v", err)
	}
}

const fullDiskEnv = "TRIALOG_TEST_FULL_DISK"

// TestFullDisk lets a child process meet a limit in the middle of a file, as it
// would on a full disk: the write keeps some bytes and fails.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	path := t.TempDir()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestFullDiskChild$", "-test.v")
	cmd.Env = append(os.Environ(), fullDiskEnv+"="+path)
	if out, err := cmd.CombinedOutput(); err != nil || !bytes.Contains(out, []byte("--- PASS")) {
		t.Fatalf("child: %v\n%s", err, out)
	}
	d := openDir(t, path)
	for key, want := range map[string]int{"replaced": 10, "small": 10, "grown": 10} {
		if got, err := d.Get(t.Context(), key); err != nil || len(got) != want {
			t.Errorf("%s: %d bytes, %v; want the old %d", key, len(got), err, want)
		}
	}
	for key, err := range d.List(t.Context(), "") {
		if err != nil || key == "new" || key == "beside" {
			t.Errorf("visible after the failure: %s, %v", key, err)
		}
	}
}

func TestFullDiskChild(t *testing.T) {
	path := os.Getenv(fullDiskEnv)
	if path == "" {
		t.Skip("run by TestFullDisk")
	}
	const limit = 64 << 10
	d := openDir(t, path)
	old := []byte("0123456789")
	if err := d.Put(t.Context(), blob.Object{Key: "replaced", Data: old}, blob.Object{Key: "small", Data: old},
		blob.Object{Key: "grown", Data: old}); err != nil {
		t.Fatal(err)
	}
	signal.Ignore(syscall.SIGXFSZ)
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: limit, Max: limit}); err != nil {
		t.Fatal(err)
	}
	big := make([]byte, 2*limit)
	for name, err := range map[string]error{
		"put": d.Put(t.Context(), blob.Object{Key: "beside", Data: old}, blob.Object{Key: "small", Data: []byte("changed")},
			blob.Object{Key: "replaced", Data: big}, blob.Object{Key: "new", Data: big}),
		"extend": d.Extend(t.Context(), blob.Extension{Key: "grown", Offset: 10, Data: big}),
	} {
		if !errors.Is(err, syscall.EFBIG) {
			t.Errorf("%s: %v, want EFBIG", name, err)
		}
	}
	scratch, err := filepath.Glob(filepath.Join(path, ".scratch", "*", "[0-9]*"))
	if err != nil || len(scratch) > 0 {
		t.Errorf("temporary files left on the full disk: %d, %v", len(scratch), err)
	}
}

func TestOpenDirErrors(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{file, filepath.Join(file, "below")} {
		if _, err := blob.OpenDir(path); err == nil {
			t.Errorf("%s: no error", filepath.Base(path))
		}
	}
}
