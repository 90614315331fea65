package signing

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/services/internal/signing/secret"
)

// OpenNoteKey opens a key that signs checkpoints under a name: a log's origin or
// a witness's name. A path or file: names a file with a C2SP signing key
// ("PRIVATE+KEY+…"), whose name and algorithm must be these; any other reference
// is one for [Open], of an Ed25519 key. ML-DSA-44 keys are in files only: neither
// the tokens nor the services that are supported here have them.
//
// The key can be used until the closer is closed. Errors never show what a file
// holds.
func OpenNoteKey(ctx context.Context, ref, name string, alg checkpoint.Algorithm) (*checkpoint.SigningKey, io.Closer, error) {
	scheme, path, err := split(ref)
	if err != nil {
		return nil, nil, err
	}
	if scheme == schemeFile && strings.HasSuffix(path, ReferenceSuffix) {
		return expect(ctx, path, name, alg)
	}
	if scheme == schemeFile {
		k, err := readNoteKey(path, name)
		if err != nil {
			return nil, nil, err
		}
		if got := k.Verifier().Algorithm(); got != alg {
			return nil, nil, fmt.Errorf("signing key in %s: expected one for %s, got one for %s", path, alg, got)
		}
		return k, nothing{}, nil
	}
	if alg == checkpoint.AlgMLDSA44 {
		return nil, nil, errors.New("key reference: an ML-DSA-44 key is in a file, expected a path")
	}
	remote, err := Open(ctx, ref)
	if err != nil {
		return nil, nil, err
	}
	k, err := checkpoint.NewRemoteKey(name, alg, remote)
	if err != nil {
		return nil, nil, errors.Join(err, remote.Close())
	}
	return k, remote, nil
}

// OpenCosignerKey opens a key of the witness with the name: of a file the
// algorithm is the file's, Ed25519 cosignatures or ML-DSA-44; of any other
// reference it is Ed25519 cosignatures. See [OpenNoteKey].
func OpenCosignerKey(ctx context.Context, ref, name string) (*checkpoint.SigningKey, io.Closer, error) {
	scheme, path, err := split(ref)
	if err != nil {
		return nil, nil, err
	}
	if scheme != schemeFile {
		return OpenNoteKey(ctx, ref, name, checkpoint.AlgEd25519Cosignature)
	}
	if strings.HasSuffix(path, ReferenceSuffix) {
		return expect(ctx, path, name, checkpoint.AlgEd25519Cosignature, checkpoint.AlgMLDSA44)
	}
	k, err := readNoteKey(path, name)
	if err != nil {
		return nil, nil, err
	}
	if got := k.Verifier().Algorithm(); got == checkpoint.AlgEd25519 {
		return nil, nil, fmt.Errorf("signing key in %s: expected a witness's, got a log's (%s)", path, got)
	}
	return k, nothing{}, nil
}

// expect opens the key of a reference file that has to be of a name and one of the
// algorithms.
func expect(ctx context.Context, path, name string, algs ...checkpoint.Algorithm) (*checkpoint.SigningKey, io.Closer, error) {
	v, err := ReadVerifierKey(path)
	if err != nil {
		return nil, nil, err
	}
	if v.Name() != name || !slices.Contains(algs, v.Algorithm()) {
		return nil, nil, fmt.Errorf("%s: expected a key named %q for %v, got one named %q for %s", path, name, algs, v.Name(), v.Algorithm())
	}
	return OpenReferencedNoteKey(ctx, path)
}

func readNoteKey(path, name string) (*checkpoint.SigningKey, error) {
	raw, err := secret.Read(path)
	if err != nil {
		return nil, err
	}
	k, err := checkpoint.ParseSigningKey(string(bytes.TrimSuffix(raw, []byte("\n"))))
	if err != nil {
		return nil, fmt.Errorf("signing key in %s: %w", path, err)
	}
	if got := k.Verifier().Name(); got != name {
		return nil, fmt.Errorf("signing key in %s: expected a key named %q, got %q", path, name, got)
	}
	return k, nil
}

// nothing is the closer of a key in a file.
type nothing struct{}

// Close does nothing.
func (nothing) Close() error { return nil }
