package blob

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"syscall"
)

const (
	dirMode  = 0o750
	fileMode = 0o640
	// syncers bounds the fsyncs in flight. A journalling file system commits
	// those that wait at the same time together, so sixteen cost little more
	// than one.
	syncers = 16
)

// Dir is a Store in a directory: the object k is the file k. It reaches nothing
// outside of the directory, also not through symbolic links. Several processes
// may read one directory; objects with the same key have one writing process.
type Dir struct {
	root *os.Root
	sync func(*os.File) error // (*os.File).Sync; tests look on

	mu    sync.Mutex
	dirs  map[string]struct{} // directories known to exist durably
	spare *scratch            // opened by the first Put
}

// OpenDir opens the store in the directory dir and creates the directory if it
// is missing. It writes nothing else: readers may open a read-only directory.
func OpenDir(dir string) (*Dir, error) {
	if err := os.MkdirAll(dir, dirMode); err != nil {
		return nil, fmt.Errorf("create object directory: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open object directory: %w", err)
	}
	return &Dir{root: root, sync: (*os.File).Sync, dirs: map[string]struct{}{".": {}}}, nil
}

// Close releases the directory. No other method may be called any more.
func (d *Dir) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	var err error
	if d.spare != nil {
		err = d.spare.close(d.root)
		d.spare = nil
	}
	return errors.Join(err, d.root.Close())
}

// Put implements Store. All contents are written and synced under temporary
// names first, so that a full disk is noticed while no object has changed.
func (d *Dir) Put(ctx context.Context, objects ...Object) error {
	if err := CheckObjects(objects); err != nil {
		return fmt.Errorf("put: %w", err)
	}
	if len(objects) == 0 {
		return nil
	}
	temps, err := d.writeTemps(ctx, objects)
	if err != nil {
		return fmt.Errorf("put: %w", err)
	}
	if err := d.publish(objects, temps); err != nil {
		d.discard(temps)
		return fmt.Errorf("put: %w", err)
	}
	return nil
}

// writeTemps writes every object to a temporary file and makes it durable there.
// On error it has removed all of them.
func (d *Dir) writeTemps(ctx context.Context, objects []Object) ([]string, error) {
	names, err := d.tempNames(len(objects))
	if err != nil {
		return nil, err
	}
	err = each(len(objects), func(i int) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := d.writeSynced(names[i], objects[i].Data); err != nil {
			return fmt.Errorf("write %s: %w", objects[i].Key, err)
		}
		return nil
	})
	if err != nil {
		d.discard(names)
		return nil, err
	}
	return names, nil
}

// publish gives the temporary files their names and makes the names durable.
func (d *Dir) publish(objects []Object, temps []string) error {
	toSync, fresh, err := d.makeDirs(objects)
	if err != nil {
		return err
	}
	for i, o := range objects {
		// A rename within a file system is what makes the change atomic.
		if err := d.root.Rename(temps[i], o.Key); err != nil {
			return fmt.Errorf("publish %s: %w", o.Key, err)
		}
	}
	if err := d.syncDirs(toSync); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, dir := range fresh {
		d.dirs[dir] = struct{}{}
	}
	return nil
}

// makeDirs creates the directories of objects. It returns the directories whose
// names must be synced, and those not known to be durable so far: a directory
// that exists already may have been made by a process that crashed before it
// synced, so the first use by this process syncs the parents too.
func (d *Dir) makeDirs(objects []Object) (toSync, fresh []string, err error) {
	for _, o := range objects {
		dir := path.Dir(o.Key)
		if !slices.Contains(toSync, dir) {
			toSync = append(toSync, dir)
		}
		for ; !d.known(dir) && !slices.Contains(fresh, dir); dir = path.Dir(dir) {
			fresh = append(fresh, dir)
		}
	}
	slices.Sort(fresh) // parents first
	for _, dir := range fresh {
		if err := d.root.Mkdir(dir, dirMode); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, nil, fmt.Errorf("create directory %s: %w", dir, err)
		}
		if parent := path.Dir(dir); !slices.Contains(toSync, parent) {
			toSync = append(toSync, parent)
		}
	}
	return toSync, fresh, nil
}

func (d *Dir) known(dir string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	_, ok := d.dirs[dir]
	return ok
}

func (d *Dir) syncDirs(dirs []string) error {
	return each(len(dirs), func(i int) error {
		f, err := d.root.Open(dirs[i])
		if err != nil {
			return fmt.Errorf("sync directory %s: %w", dirs[i], err)
		}
		if err := errors.Join(d.sync(f), f.Close()); err != nil {
			return fmt.Errorf("sync directory %s: %w", dirs[i], err)
		}
		return nil
	})
}

// Extend implements Extender.
func (d *Dir) Extend(ctx context.Context, extensions ...Extension) error {
	for _, e := range extensions {
		if err := CheckKey(e.Key); err != nil {
			return fmt.Errorf("extend: %w", err)
		}
	}
	return each(len(extensions), func(i int) error {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("extend: %w", err)
		}
		if err := d.extend(extensions[i]); err != nil {
			return fmt.Errorf("extend %s: %w", extensions[i].Key, err)
		}
		return nil
	})
}

func (d *Dir) extend(e Extension) (err error) {
	f, err := d.root.OpenFile(e.Key, os.O_WRONLY, 0)
	if err != nil {
		return notFound(err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if e.Offset < 0 || info.Size() < e.Offset {
		return fmt.Errorf("offset %d in an object of %d bytes", e.Offset, info.Size())
	}
	if info.Size() > e.Offset {
		// What follows was left by an extension that failed or crashed.
		if err := f.Truncate(e.Offset); err != nil {
			return err
		}
	}
	if _, err := f.WriteAt(e.Data, e.Offset); err != nil {
		// Not needed for correctness, but a full disk should not also be left
		// with half of what did not fit.
		return errors.Join(err, f.Truncate(e.Offset))
	}
	return d.sync(f)
}

// Get implements Store.
func (d *Dir) Get(ctx context.Context, key string) ([]byte, error) {
	if err := CheckKey(key); err != nil {
		return nil, fmt.Errorf("get: %w", err)
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("get %s: %w", key, err)
	}
	data, err := d.root.ReadFile(key)
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", key, notFound(err))
	}
	return data, nil
}

// notFound turns the ways in which a file system says that there is no file into
// ErrNotFound: also a directory, or a part of the path that is a file, is no
// object.
func notFound(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) || errors.Is(err, syscall.EISDIR) {
		return ErrNotFound
	}
	return err
}

// Delete implements Store.
func (d *Dir) Delete(ctx context.Context, keys ...string) error {
	var toSync []string
	for _, key := range keys {
		if err := CheckKey(key); err != nil {
			return fmt.Errorf("delete: %w", err)
		}
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("delete %s: %w", key, err)
		}
		info, err := d.root.Lstat(key)
		if err == nil && info.IsDir() {
			continue // a directory is no object
		}
		if err == nil {
			err = d.root.Remove(key)
		}
		if err = notFound(err); errors.Is(err, ErrNotFound) {
			continue
		}
		if err != nil {
			return fmt.Errorf("delete %s: %w", key, err)
		}
		if dir := path.Dir(key); !slices.Contains(toSync, dir) {
			toSync = append(toSync, dir)
		}
	}
	if err := d.syncDirs(toSync); err != nil {
		return fmt.Errorf("delete: %w", err)
	}
	return nil
}

// List implements Store. An object that is created or removed meanwhile may be
// yielded or not.
func (d *Dir) List(ctx context.Context, prefix string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		_, err := d.walk(ctx, ".", prefix, yield)
		if err != nil {
			yield("", fmt.Errorf("list: %w", err))
		}
	}
}

// walk yields the objects in dir and below, in the lexical order of whole keys:
// "a.b" comes before "a/b", so directories sort as if their names ended in "/".
func (d *Dir) walk(ctx context.Context, dir, prefix string, yield func(string, error) bool) (more bool, err error) {
	entries, err := fs.ReadDir(d.root.FS(), dir)
	if err != nil {
		return false, err
	}
	type item struct {
		key string
		dir bool
	}
	items := make([]item, 0, len(entries))
	for _, e := range entries {
		key := path.Join(dir, e.Name())
		if CheckKey(key) != nil {
			continue // not ours, or the scratch directory
		}
		if e.IsDir() {
			key += "/"
		}
		items = append(items, item{key, e.IsDir()})
	}
	slices.SortFunc(items, func(a, b item) int { return strings.Compare(a.key, b.key) })
	for _, it := range items {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		switch {
		case it.dir && (strings.HasPrefix(it.key, prefix) || strings.HasPrefix(prefix, it.key)):
			more, err = d.walk(ctx, strings.TrimSuffix(it.key, "/"), prefix, yield)
			if err != nil || !more {
				return false, err
			}
		case !it.dir && strings.HasPrefix(it.key, prefix):
			if !yield(it.key, nil) {
				return false, nil
			}
		}
	}
	return true, nil
}

// writeSynced writes a new file and makes its content durable.
func (d *Dir) writeSynced(name string, data []byte) (err error) {
	f, err := d.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, fileMode)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if n, err := f.Write(data); err != nil {
		return err
	} else if n < len(data) {
		return io.ErrShortWrite
	}
	return d.sync(f)
}

// each calls do(0) … do(n-1), several at a time, and returns the errors joined.
func each(n int, do func(i int) error) error {
	if n == 1 {
		return do(0)
	}
	errs := make([]error, n)
	slots := make(chan struct{}, syncers)
	var wg sync.WaitGroup
	for i := range n {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			errs[i] = do(i)
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}
