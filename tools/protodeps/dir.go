package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
)

// ErrStale is returned by the check when the folder is not what would be printed.
var ErrStale = errors.New("printed protos are stale: run `make generate`")

// writeDir makes dir hold exactly want: stale files are removed, so that a proto that
// nothing imports any more does not stay importable.
func writeDir(dir string, want map[string]string, out io.Writer) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("creating the folder: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("opening the folder: %w", err)
	}
	defer root.Close()
	have, err := readDir(root.FS())
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if have[name] == want[name] {
			continue
		}
		if err := root.MkdirAll(filepath.FromSlash(path.Dir(name)), 0o755); err != nil {
			return fmt.Errorf("creating the folder of %s: %w", name, err)
		}
		if err := root.WriteFile(filepath.FromSlash(name), []byte(want[name]), 0o644); err != nil {
			return fmt.Errorf("writing %s: %w", name, err)
		}
		fmt.Fprintln(out, "wrote", name)
	}
	for _, name := range slices.Sorted(maps.Keys(have)) {
		if _, wanted := want[name]; wanted {
			continue
		}
		if err := root.Remove(filepath.FromSlash(name)); err != nil {
			return fmt.Errorf("removing %s: %w", name, err)
		}
		fmt.Fprintln(out, "removed", name)
	}
	return nil
}

// checkDir names each file of dir that is missing, different or superfluous, and
// returns [ErrStale] if there is one.
func checkDir(dir string, want map[string]string, out io.Writer) error {
	have, err := readDir(os.DirFS(dir))
	if err != nil {
		return err
	}
	stale := false
	report := func(what, name string) {
		stale = true
		fmt.Fprintf(out, "%s: %s\n", what, name)
	}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		text, found := have[name]
		switch {
		case !found:
			report("missing", name)
		case text != want[name]:
			report("different", name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(have)) {
		if _, wanted := want[name]; !wanted {
			report("superfluous", name)
		}
	}
	if stale {
		return ErrStale
	}
	return nil
}

// readDir returns the text of every file, by its slash-separated path.
func readDir(dir fs.FS) (map[string]string, error) {
	texts := make(map[string]string)
	err := fs.WalkDir(dir, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			return nil
		}
		text, err := fs.ReadFile(dir, name)
		texts[name] = string(text)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("reading the folder: %w", err)
	}
	return texts, nil
}
