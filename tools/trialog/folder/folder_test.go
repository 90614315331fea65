package folder

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func good() Config {
	return Config{Server: "http://127.0.0.1:8080", Log: "log.example.org/trials", Organisation: "a", Key: KeyFile, Policy: PolicyFile}
}

func TestFindUpwards(t *testing.T) {
	root := t.TempDir()
	f := &Folder{Dir: filepath.Join(root, Name), Config: good()}
	if err := Make(f.Dir); err != nil {
		t.Fatal(err)
	}
	if err := f.Save(); err != nil {
		t.Fatal(err)
	}
	deep := filepath.Join(root, "a", "b")
	if err := os.MkdirAll(deep, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, from := range []string{root, deep} {
		got, err := Find("", from)
		if err != nil || got.Dir != f.Dir || got.Organisation != "a" {
			t.Errorf("from %s found %+v, %v", from, got, err)
		}
	}
	for _, named := range []string{f.Dir, filepath.Join(f.Dir, ConfigFile)} {
		if got, err := Find(named, t.TempDir()); err != nil || got.Dir != f.Dir {
			t.Errorf("named %s found %+v, %v", named, got, err)
		}
	}
	for _, named := range []string{"", deep} {
		if _, err := Find(named, t.TempDir()); !errors.Is(err, ErrNone) {
			t.Errorf("named %q: %v, expected ErrNone", named, err)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	f := &Folder{Dir: dir, Config: good()}
	if err := f.Save(); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(filepath.Join(dir, ConfigFile))
	if err != nil {
		t.Fatal(err)
	}
	text := string(raw)
	for name, bad := range map[string]string{
		"empty":             "",
		"unknown member":    strings.Replace(text, `"server"`, `"sever"`, 1),
		"no server":         strings.Replace(text, f.Server, "", 1),
		"no key":            strings.Replace(text, KeyFile, "", 1),
		"bad organisation":  strings.Replace(text, `"a"`, `"a b"`, 1),
		"bad log":           strings.Replace(text, f.Log, "LOG/", 1),
		"more than one":     text + "{}",
		"no JSON":           "server = x",
		"no policy at all":  strings.Replace(text, PolicyFile, "", 1),
		"a list of configs": "[" + text + "]",
	} {
		t.Run(name, func(t *testing.T) {
			if err := os.WriteFile(filepath.Join(dir, ConfigFile), []byte(bad), 0o600); err != nil {
				t.Fatal(err)
			}
			if got, err := Open(dir); err == nil || errors.Is(err, ErrNone) {
				t.Errorf("opened as %+v, %v", got, err)
			}
		})
	}
	if err := (&Folder{Dir: dir}).Save(); err == nil {
		t.Error("an empty configuration was saved")
	}
}

func TestWrite(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "x")
	if err := WriteNew(path, []byte("one"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := WriteNew(path, []byte("two"), 0o600); !errors.Is(err, fs.ErrExist) {
		t.Errorf("written over what is there: %v", err)
	}
	check := func(want string, mode fs.FileMode) {
		t.Helper()
		got, err := os.ReadFile(path)
		info, statErr := os.Stat(path)
		if err != nil || statErr != nil || string(got) != want || info.Mode().Perm() != mode {
			t.Errorf("%q with %v, expected %q with %v", got, info.Mode().Perm(), want, mode)
		}
		if list, _ := os.ReadDir(dir); len(list) != 1 {
			t.Errorf("left behind: %v", list)
		}
	}
	check("one", 0o600)
	if err := WriteFile(path, []byte("three"), 0o644); err != nil {
		t.Fatal(err)
	}
	check("three", 0o644)
	if err := WriteFile(filepath.Join(dir, "no", "x"), nil, 0o600); err == nil {
		t.Error("written into a folder that is not there")
	}
	if _, err := Read(path, 4); err == nil {
		t.Error("read beyond the limit")
	}
	if _, err := Read(dir, 100); err == nil {
		t.Error("read a folder")
	}
	if err := errors.Join(Remove(path), Remove(path)); err != nil || Exists(path) {
		t.Errorf("removed twice: %v", err)
	}
}

func TestLock(t *testing.T) {
	f := &Folder{Dir: t.TempDir()}
	unlock, err := f.Lock(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 3*lockPause)
	defer cancel()
	if _, err := f.Lock(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("locked twice: %v", err)
	}
	got := make(chan error, 1)
	go func() {
		second, err := f.Lock(context.Background())
		if err == nil {
			err = second()
		}
		got <- err
	}()
	if err := unlock(); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-got:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(time.Minute):
		t.Fatal("the lock was not released")
	}
}

func TestReadTokenAndKey(t *testing.T) {
	dir := t.TempDir()
	f := &Folder{Dir: dir, Config: good()}
	if token, err := f.Token(); token != "" || err != nil {
		t.Errorf("without a token: %q, %v", token, err)
	}
	f.TokenFile = "token"
	if _, err := f.Token(); err == nil {
		t.Error("a token file that is not there")
	}
	if err := os.WriteFile(filepath.Join(dir, "token"), []byte(" abc\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if token, err := f.Token(); token != "abc" || err != nil {
		t.Errorf("the token is %q, %v", token, err)
	}
	if err := os.WriteFile(filepath.Join(dir, KeyFile), []byte("no key"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := f.SigningKey(); err == nil || !strings.Contains(err.Error(), "the signing key") {
		t.Errorf("a key that is none: %v", err)
	}
	if _, err := f.PinnedPolicy(); err == nil || !strings.Contains(err.Error(), "the policy") {
		t.Errorf("a policy that is not there: %v", err)
	}
}
