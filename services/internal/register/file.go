package register

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"github.com/trialog/trialog/services/internal/fault"
)

// fileHeader is the first line of a register file.
const fileHeader = "trialog-register@v1"

// maxFile bounds a register file, in bytes.
const maxFile = 4096

// File is a register in a file, which should be on another volume than the
// log's store. An advisory lock on a file beside it keeps a second process out;
// the comparison in Swap holds even where locks do not.
type File struct {
	mu    sync.Mutex
	path  string
	lock  *os.File
	fsync func(*os.File) error // another one in tests only
}

// OpenFile takes the lock of the register at path; ErrOwned if another process
// has it. The register itself need not exist.
func OpenFile(path string) (*File, error) {
	lock, err := os.OpenFile(path+".lock", os.O_CREATE|os.O_RDWR|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the register's lock: %w", err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = lock.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, ErrOwned
		}
		return nil, fmt.Errorf("lock the register: %w", err)
	}
	return &File{path: path, lock: lock, fsync: (*os.File).Sync}, nil
}

// Close gives the lock back.
func (f *File) Close() error { return f.lock.Close() }

// Create implements Register.
func (f *File) Create(_ context.Context, first Record) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch _, err := f.read(); {
	case err == nil:
		return ErrExists
	case !errors.Is(err, ErrMissing):
		return err
	}
	return f.write(first)
}

// Read implements Register.
func (f *File) Read(context.Context) (Record, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.read()
}

// Swap implements Register.
func (f *File) Swap(_ context.Context, old, next Record) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch got, err := f.read(); {
	case err != nil:
		return err
	case got != old:
		return ErrConflict
	case !next.Follows(old):
		return ErrBackwards
	}
	return f.write(next)
}

func (f *File) read() (Record, error) {
	file, err := os.Open(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		return Record{}, ErrMissing
	} else if err != nil {
		return Record{}, fmt.Errorf("read the register: %w", err)
	}
	defer file.Close()
	raw, err := io.ReadAll(io.LimitReader(file, maxFile))
	if err != nil {
		return Record{}, fmt.Errorf("read the register: %w", err)
	}
	return parse(string(raw))
}

// write replaces the file: a reader, and a crash, sees the old record or the
// new one. It is durable when the directory is synced.
func (f *File) write(r Record) error {
	if err := fault.Hit("register.before"); err != nil {
		return err
	}
	dir := filepath.Dir(f.path)
	temp := f.path + ".new"
	text := format(r)
	if _, err := parse(text); err != nil {
		return fmt.Errorf("write the register: such a record could not be read: %w", err)
	}
	if err := f.writeSynced(temp, []byte(text)); err != nil {
		return fmt.Errorf("write the register: %w", err)
	}
	if err := fault.Hit("register.written"); err != nil {
		return err
	}
	if err := os.Rename(temp, f.path); err != nil {
		return fmt.Errorf("replace the register: %w", err)
	}
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync the register's folder: %w", err)
	}
	defer d.Close()
	if err := f.fsync(d); err != nil {
		return fmt.Errorf("sync the register's folder: %w", err)
	}
	return fault.Hit("register.after")
}

func (f *File) writeSynced(path string, data []byte) error {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if _, err := file.Write(data); err != nil {
		return errors.Join(err, file.Close())
	}
	if err := f.fsync(file); err != nil {
		return errors.Join(err, file.Close())
	}
	return file.Close()
}

// format writes a record in the form that people can read too.
func format(r Record) string {
	state := "open"
	if r.Sealed {
		state = "sealed"
	}
	return fmt.Sprintf("%s\n%s\n%d\n%s\n%s\n", fileHeader, r.Origin, r.Size, hex.EncodeToString(r.Root[:]), state)
}

// parse reads a record; format of the result gives text back.
func parse(text string) (Record, error) {
	lines := strings.Split(text, "\n")
	if len(lines) != 6 || lines[0] != fileHeader {
		return Record{}, fmt.Errorf("%w: expected %q and four lines", ErrCorrupt, fileHeader)
	}
	r := Record{Origin: lines[1], Sealed: lines[4] == "sealed"}
	size, err := strconv.ParseUint(lines[2], 10, 63)
	if err != nil {
		return Record{}, fmt.Errorf("%w: expected the size in line 3", ErrCorrupt)
	}
	r.Size = size
	root, err := hex.DecodeString(lines[3])
	if err != nil || len(root) != len(r.Root) {
		return Record{}, fmt.Errorf("%w: expected the root in line 4", ErrCorrupt)
	}
	r.Root = [32]byte(root)
	if format(r) != text {
		return Record{}, fmt.Errorf("%w: not in the form in which it is written", ErrCorrupt)
	}
	return r, nil
}
