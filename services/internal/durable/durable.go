// Package durable makes files and folders that are there after a power failure
// too.
package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// WriteNew writes a file that must not exist yet (fs.ErrExist), and the folders
// above it that are missing, which only their owner can open.
func WriteNew(path string, data []byte, mode fs.FileMode) error {
	return disk{(*os.File).Sync}.writeNew(path, data, mode)
}

// Replace writes a file in place of one that may exist: whoever reads it sees the
// old content or the new one.
func Replace(path string, data []byte, mode fs.FileMode) error {
	return disk{(*os.File).Sync}.replace(path, data, mode)
}

// MakeFolder makes a folder and what is missing above it, for its owner only. One
// that is there stays as it is.
func MakeFolder(path string) error {
	return disk{(*os.File).Sync}.makeFolder(filepath.Clean(path))
}

// SyncFolder makes sure of the names in a folder.
func SyncFolder(path string) error {
	return disk{(*os.File).Sync}.syncFolder(path)
}

// disk is how files get onto the disk.
type disk struct {
	sync func(*os.File) error // (*os.File).Sync; tests look on
}

// writeNew puts the file at its place when it is whole: a crash leaves no half of
// a key, on which a second try would stumble.
func (d disk) writeNew(path string, data []byte, mode fs.FileMode) error {
	if _, err := os.Lstat(path); err == nil {
		return &fs.PathError{Op: "create", Path: path, Err: fs.ErrExist}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return d.replace(path, data, mode)
}

func (d disk) replace(path string, data []byte, mode fs.FileMode) error {
	if err := d.makeFolder(filepath.Dir(path)); err != nil {
		return err
	}
	temp := path + ".new"
	if err := os.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(temp, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err := errors.Join(err, d.sync(f), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(temp, path); err != nil {
		return err
	}
	// The file's name is in the folder.
	return d.syncFolder(filepath.Dir(path))
}

func (d disk) makeFolder(path string) error {
	err := os.Mkdir(path, 0o700)
	if errors.Is(err, fs.ErrNotExist) {
		if err := d.makeFolder(filepath.Dir(path)); err != nil {
			return err
		}
		err = os.Mkdir(path, 0o700)
	}
	if errors.Is(err, fs.ErrExist) {
		return nil // if it is no folder, its user will say so
	}
	if err != nil {
		return err
	}
	return d.syncFolder(filepath.Dir(path))
}

func (d disk) syncFolder(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	if err := errors.Join(d.sync(f), f.Close()); err != nil {
		return fmt.Errorf("sync folder %s: %w", path, err)
	}
	return nil
}
