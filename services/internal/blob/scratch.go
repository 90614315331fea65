package blob

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strconv"
	"syscall"
)

// scratchDir holds the temporary files of all writers. CheckKey refuses a key
// that starts with a dot, so no object can be in it.
const scratchDir = ".scratch"

// scratch is one writer's directory for temporary files. Its owner holds a lock
// on a file in it, which the kernel releases when the owner dies: so the next
// writer can tell what a crash left behind from what another process is writing.
type scratch struct {
	dir  string
	lock *os.File
	next uint64
}

const lockName = "lock"

// openScratch makes a directory of one's own and removes those of dead writers.
func openScratch(root *os.Root) (*scratch, error) {
	if err := root.Mkdir(scratchDir, dirMode); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("create scratch directory: %w", err)
	}
	if err := sweep(root); err != nil {
		return nil, fmt.Errorf("remove what a crash left: %w", err)
	}
	dir := path.Join(scratchDir, rand.Text())
	if err := root.Mkdir(dir, dirMode); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("create scratch directory: %w", err)
	}
	name := path.Join(dir, lockName)
	lock, err := lockFile(root, name)
	if err != nil {
		return nil, fmt.Errorf("lock scratch directory: %w", err)
	}
	// Between Mkdir and the lock, another writer's sweep may have taken the
	// directory for a dead one. Then the lock is on a file without a name.
	held, err := lock.Stat()
	if err == nil {
		var named fs.FileInfo
		if named, err = root.Stat(name); err == nil && !os.SameFile(held, named) {
			err = errors.New("another writer removed it")
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock scratch directory: %w", err), lock.Close())
	}
	return &scratch{dir: dir, lock: lock}, nil
}

// sweep removes the directories that no living process holds. A writer that is
// just about to lock its new directory can lose it here: its first write then
// fails, with nothing changed, and the next one makes another directory.
func sweep(root *os.Root) error {
	dirs, err := fs.ReadDir(root.FS(), scratchDir)
	if err != nil {
		return err
	}
	for _, d := range dirs {
		dir := path.Join(scratchDir, d.Name())
		lock, err := lockFile(root, path.Join(dir, lockName))
		if errors.Is(err, syscall.EWOULDBLOCK) || errors.Is(err, fs.ErrNotExist) {
			continue // held by a living writer, or swept by another
		}
		if err != nil {
			return err
		}
		if err := errors.Join(root.RemoveAll(dir), lock.Close()); err != nil {
			return err
		}
	}
	return nil
}

func lockFile(root *os.Root, name string) (*os.File, error) {
	f, err := root.OpenFile(name, os.O_RDWR|os.O_CREATE, fileMode)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func (s *scratch) close(root *os.Root) error {
	return errors.Join(root.RemoveAll(s.dir), s.lock.Close())
}

// tempNames returns n unused names for temporary files.
func (d *Dir) tempNames(n int) ([]string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.spare == nil {
		s, err := openScratch(d.root)
		if err != nil {
			return nil, err
		}
		d.spare = s
	}
	names := make([]string, n)
	for i := range names {
		d.spare.next++
		names[i] = path.Join(d.spare.dir, strconv.FormatUint(d.spare.next, 10))
	}
	return names, nil
}

// discard removes temporary files after an error. One that cannot be removed is
// left to the next writer's sweep: it is not visible as an object.
func (d *Dir) discard(names []string) {
	for _, name := range names {
		_ = d.root.Remove(name)
	}
}
