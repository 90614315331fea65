package folder

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"time"
)

// MaxFile bounds what is read of a small file, in bytes.
const MaxFile = 8 << 20

// WriteFile replaces path by data: a reader sees the old or the new content,
// and the new one is durable when WriteFile returns.
func WriteFile(path string, data []byte, mode fs.FileMode) error {
	return write(path, data, mode, os.Rename)
}

// WriteNew is WriteFile for a path that must not exist; else the error is
// fs.ErrExist and nothing is changed.
func WriteNew(path string, data []byte, mode fs.FileMode) error {
	return write(path, data, mode, func(from, to string) error {
		if err := os.Link(from, to); err != nil {
			return err
		}
		return os.Remove(from)
	})
}

func write(path string, data []byte, mode fs.FileMode, place func(from, to string) error) error {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, ".trialog-*.tmp")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	name := f.Name()
	_, err = f.Write(data)
	// CreateTemp makes files that only their owner may read.
	if err := errors.Join(err, f.Chmod(mode), f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", path, errors.Join(err, os.Remove(name)))
	}
	if err := place(name, path); err != nil {
		_ = os.Remove(name) // it is of no use any more
		return fmt.Errorf("write %s: %w", path, err)
	}
	return syncDir(dir)
}

// Remove removes a file, durably. It is no error if there is none.
func Remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// syncDir makes the names in a folder durable, where a system can do that.
func syncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil // NTFS writes names through its journal
	}
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("make %s durable: %w", dir, err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("make %s durable: %w", dir, err)
	}
	return nil
}

// Read reads a file of at most limit bytes; fs.ErrNotExist if there is none.
func Read(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, err
	case info.IsDir():
		return nil, fmt.Errorf("%s is a folder, expected a file", path)
	case info.Size() > limit:
		return nil, fmt.Errorf("%s is %d bytes long, expected at most %d", path, info.Size(), limit)
	}
	return os.ReadFile(path)
}

// Exists tells whether there is a file at path.
func Exists(path string) bool {
	_, err := os.Lstat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

// lockPause is how often a lock is tried that another process holds.
const lockPause = 50 * time.Millisecond

// Lock waits until no other process holds the lock of this folder and takes it.
// The system releases it when the process ends, however it ends.
func (f *Folder) Lock(ctx context.Context) (unlock func() error, err error) {
	path := filepath.Join(f.Dir, "lock")
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", f.Dir, err)
	}
	tick := time.NewTicker(lockPause)
	defer tick.Stop()
	for {
		held, err := tryLock(file)
		if err != nil {
			return nil, fmt.Errorf("lock %s: %w", f.Dir, errors.Join(err, file.Close()))
		}
		if held {
			return file.Close, nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for another trialog in %s: %w", f.Dir, errors.Join(ctx.Err(), file.Close()))
		}
	}
}
