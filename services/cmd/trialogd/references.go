package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/services/internal/signing"
)

// logKeyFiles are the keys that sign a shard's checkpoints, in its folder of keys.
func logKeyFiles() map[string]checkpoint.Algorithm {
	return map[string]checkpoint.Algorithm{logKeyEd25519: checkpoint.AlgEd25519, logKeyMLDSA: checkpoint.AlgMLDSA44}
}

// otherKeyFiles are the other keys of a log, in the folder keys.
func otherKeyFiles() []string {
	return []string{pendingKey, gatewayKey, recoveryKey, listKey, trustKey}
}

// checkReferences tries the keys that reference files name, before anything is
// made: of a log's folder of keys, and of its first shard's. origin is the shard's.
func checkReferences(keys, shardKeys, origin string) error {
	for _, file := range otherKeyFiles() {
		if _, err := referencedKey(filepath.Join(keys, file)); err != nil {
			return err
		}
	}
	for file, alg := range logKeyFiles() {
		if _, err := knownLogKey(filepath.Join(shardKeys, file), origin, alg); err != nil {
			return err
		}
	}
	return nil
}

// referencedKey returns the public half of the key that a reference file beside
// path names, which has signed to show that it is there; nil if there is no such
// file.
func referencedKey(path string) (*statement.PublicKey, error) {
	reference, err := referenceBeside(path)
	if reference == "" || err != nil {
		return nil, err
	}
	k, err := readKey(path)
	if err != nil {
		return nil, err
	}
	return k.Public(), nil
}

// knownLogKey returns the key at path, or of a reference file beside it, which must
// be one for checkpoints of the origin; nil if there is neither.
func knownLogKey(path, origin string, alg checkpoint.Algorithm) (*checkpoint.VerifierKey, error) {
	k, err := readLogKey(path)
	if reference, _ := referenceBeside(path); reference != "" {
		path = reference // for the error
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil //nolint:nilnil // the caller makes one
	case err != nil:
		return nil, err
	case k.Verifier().Name() != origin || k.Verifier().Algorithm() != alg:
		return nil, fmt.Errorf("%s: expected an %s key named %q, got %s", path, alg, origin, k.Verifier())
	}
	return k.Verifier(), nil
}

// onlyReferences tells whether a folder holds nothing but reference files for the
// keys with these file names. One that stands for no key is misspelt: a key would
// be made beside it.
func onlyReferences(folder string, files []string) (bool, error) {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return false, err
	}
	for _, entry := range entries {
		name, ok := strings.CutSuffix(entry.Name(), signing.ReferenceSuffix)
		if !ok || entry.IsDir() {
			return false, nil
		}
		if !slices.ContainsFunc(files, func(file string) bool { return strings.TrimSuffix(file, filepath.Ext(file)) == name }) {
			return false, fmt.Errorf("%s: no key has this name, expected that of one of %s with %s",
				filepath.Join(folder, entry.Name()), strings.Join(files, ", "), signing.ReferenceSuffix)
		}
	}
	return true, nil
}
