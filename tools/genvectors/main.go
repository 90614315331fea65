// Command genvectors writes the vectors of api/vectors into a folder, by
// default that of the repository it is run in. What it wrote before and does
// not write now is removed.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"

	"github.com/trialog/trialog/api/vectors/generate"
)

func main() {
	dir := flag.String("dir", "api/vectors", "the folder of README.md and index.json")
	flag.Parse()
	if err := write(*dir); err != nil {
		fmt.Fprintf(os.Stderr, "genvectors: %v\n", err)
		os.Exit(1)
	}
}

// write makes the files first, so that a failure leaves the old ones.
func write(dir string) error {
	files, err := generate.Files()
	if err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(dir, "index.json")); err != nil {
		return fmt.Errorf("%s is not the folder of the vectors: %w", dir, err)
	}
	if err := os.RemoveAll(filepath.Join(dir, "files")); err != nil {
		return fmt.Errorf("remove the old files: %w", err)
	}
	for name, data := range files {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return fmt.Errorf("make a folder: %w", err)
		}
		if err := os.WriteFile(path, data, 0o644); err != nil {
			return fmt.Errorf("write a vector: %w", err)
		}
	}
	return nil
}
