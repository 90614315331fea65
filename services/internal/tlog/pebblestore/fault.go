package pebblestore

import (
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/trialog/trialog/services/internal/tlog"
)

// fault remembers what went wrong for good. It is Pebble's logger, because that
// is where Pebble reports that its write-ahead log or manifest could not be
// written: it calls Fatalf, expects the process to end, and goes on as if the
// write had taken place if it does not.
//
// Ending the process is the caller's decision. After a fatal fault the store
// neither writes nor reads: what is in memory may not be on the disk, and a
// later successful fsync says nothing about the pages of the failed one. After
// found corruption it does not write; reads fail only where they meet it.
type fault struct {
	log     *slog.Logger
	lock    *pebble.Lock
	broken  atomic.Pointer[error] // fatal
	corrupt atomic.Pointer[error]
}

func (f *fault) fail(err error) {
	err = fmt.Errorf("%w: %w", tlog.ErrFailed, err)
	if f.broken.CompareAndSwap(nil, &err) {
		f.log.Error("log store has failed", "error", err)
	}
}

func (f *fault) fatal() error {
	if p := f.broken.Load(); p != nil {
		return *p
	}
	return nil
}

func (f *fault) first() error {
	if err := f.fatal(); err != nil {
		return err
	}
	if p := f.corrupt.Load(); p != nil {
		return *p
	}
	return nil
}

func (f *fault) readable() error { return f.fatal() }
func (f *fault) writable() error { return f.first() }

// mark makes a read error recognisable as corruption.
func (f *fault) mark(err error) error {
	if err != nil && pebble.IsCorruptionError(err) {
		err = fmt.Errorf("%w: %w", tlog.ErrCorrupt, err)
		if f.corrupt.CompareAndSwap(nil, &err) {
			f.log.Error("log store is corrupt", "error", err)
		}
	}
	return err
}

// Infof passes Pebble's chatter on at debug level.
func (f *fault) Infof(format string, args ...any) {
	f.log.Debug("pebble", "message", fmt.Sprintf(format, args...))
}

// Errorf passes Pebble's errors on.
func (f *fault) Errorf(format string, args ...any) {
	f.log.Error("pebble", "message", fmt.Sprintf(format, args...))
}

// Fatalf is where Pebble expects the process to end.
func (f *fault) Fatalf(format string, args ...any) {
	f.fail(fmt.Errorf(format, args...))
}

func (f *fault) events() *pebble.EventListener {
	return &pebble.EventListener{
		BackgroundError: func(err error) {
			f.log.Warn("pebble background work failed", "error", f.mark(err))
		},
		DataCorruption: func(info pebble.DataCorruptionInfo) {
			err := fmt.Errorf("%w: %w", tlog.ErrCorrupt, errors.New(info.String()))
			if f.corrupt.CompareAndSwap(nil, &err) {
				f.log.Error("log store is corrupt", "error", err)
			}
		},
		DiskSlow: func(info pebble.DiskSlowInfo) {
			f.log.Warn("log store's disk is slow", "operation", info.OpType.String(), "duration", info.Duration)
		},
		WriteStallBegin: func(info pebble.WriteStallBeginInfo) {
			f.log.Warn("log store stalls writes", "reason", info.Reason)
		},
	}
}

// guard returns fs, except that no file is removed or overwritten once the store
// has failed: whether the files that replace it were recorded is then not known.
func (f *fault) guard(fs vfs.FS) vfs.FS { return guardedFS{FS: fs, f: f} }

type guardedFS struct {
	vfs.FS
	f *fault
}

// Remove implements vfs.FS.
func (g guardedFS) Remove(name string) error {
	if err := g.f.fatal(); err != nil {
		return err
	}
	return g.FS.Remove(name)
}

// ReuseForWrite implements vfs.FS.
func (g guardedFS) ReuseForWrite(oldname, newname string, category vfs.DiskWriteCategory) (vfs.File, error) {
	if err := g.f.fatal(); err != nil {
		return nil, err
	}
	return g.FS.ReuseForWrite(oldname, newname, category)
}

// Unwrap implements vfs.FS.
func (g guardedFS) Unwrap() vfs.FS { return g.FS }
