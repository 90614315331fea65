package signing

import (
	"bytes"
	"context"
	"crypto"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/services/internal/signing/secret"
)

// ReferenceSuffix ends the names of reference files. Wherever a reference may
// stand, the path of such a file may.
const ReferenceSuffix = ".ref"

// ErrOtherKey says that the key at a reference is not the one whose public half
// stands beside the reference.
var ErrOtherKey = errors.New("another key is there than the reference file says")

// Reference is what a reference file says: where a key is, and which key it has
// to be. A device that was exchanged, or a reference that was mistyped, is noticed
// before anything is signed with it. The file holds no secret.
type Reference struct {
	// Public is the public key: the verifier key ("NAME+ID+KEY") of one that signs
	// checkpoints, for all others the base64 of the DER SubjectPublicKeyInfo.
	Public string
	// Ref is the reference, as Open takes it. It is not another reference file.
	Ref string
}

// ParseReference reads a reference file: one line with the public key, one with
// the reference, and nothing else.
func ParseReference(raw []byte) (Reference, error) {
	r, err := parseReference(raw)
	if err != nil {
		return Reference{}, fmt.Errorf("reference file: %w", err)
	}
	return r, nil
}

func parseReference(raw []byte) (Reference, error) {
	lines := strings.Split(string(raw), "\n")
	if len(lines) != 3 || lines[2] != "" {
		return Reference{}, errors.New("expected two lines: the public key, and where the private one is")
	}
	r := Reference{Public: lines[0], Ref: lines[1]}
	if r.noteKey() {
		if _, err := checkpoint.ParseVerifierKey(r.Public); err != nil {
			return Reference{}, fmt.Errorf("line 1: %w", err)
		}
	} else if _, err := r.statementKey(); err != nil {
		return Reference{}, fmt.Errorf("line 1: %w", err)
	}
	scheme, path, err := split(r.Ref)
	if err != nil {
		return Reference{}, fmt.Errorf("line 2: %w", err)
	}
	if scheme == schemeFile && strings.HasSuffix(path, ReferenceSuffix) {
		return Reference{}, errors.New("line 2: expected where the key is, got another reference file")
	}
	return r, nil
}

// Format returns the file's content.
func (r Reference) Format() []byte { return []byte(r.Public + "\n" + r.Ref + "\n") }

// noteKey tells whether the public key is written as a verifier key: a
// SubjectPublicKeyInfo is a SEQUENCE of less than 256 bytes, so its base64 begins
// with "MC" to "MI", and goes on without the characters that make a verifier key.
func (r Reference) noteKey() bool {
	_, err := r.statementKey()
	return err != nil && strings.Count(r.Public, "+") >= 2
}

func (r Reference) statementKey() (*statement.PublicKey, error) {
	der, err := base64.StdEncoding.DecodeString(r.Public)
	if err != nil || base64.StdEncoding.EncodeToString(der) != r.Public {
		return nil, errors.New("expected a verifier key, or the base64 of a SubjectPublicKeyInfo")
	}
	return statement.ParsePublicKey(der)
}

// readReference reads the reference file at a path. A relative path in it is
// relative to the file.
func readReference(path string) (Reference, error) {
	// Who can write the file decides which key is used: it is held to what the
	// keys' own files are held to.
	raw, err := secret.Read(path)
	if err != nil {
		return Reference{}, err
	}
	r, err := ParseReference(raw)
	if err != nil {
		return Reference{}, fmt.Errorf("%s: %w", path, err)
	}
	r.Ref = Under(filepath.Dir(path), r.Ref)
	return r, nil
}

// openReferenced opens the key that a reference file names.
func openReferenced(ctx context.Context, path string) (Key, error) {
	r, err := readReference(path)
	if err != nil {
		return nil, err
	}
	if r.noteKey() {
		return nil, fmt.Errorf("%s: expected the base64 of a SubjectPublicKeyInfo, got a verifier key: this key signs no checkpoints", path)
	}
	want, err := r.statementKey()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	k, err := Open(ctx, r.Ref)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	got, err := statement.NewPublicKey(k.Public(), nil)
	if err == nil && !bytes.Equal(got.DER(), want.DER()) {
		err = ErrOtherKey
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, err), k.Close())
	}
	return k, nil
}

// OpenReferencedNoteKey opens the key for checkpoints that a reference file names,
// with the name and the algorithm of the verifier key in the file.
func OpenReferencedNoteKey(ctx context.Context, path string) (*checkpoint.SigningKey, io.Closer, error) {
	want, r, err := readNoteReference(path)
	if err != nil {
		return nil, nil, err
	}
	k, closer, err := OpenNoteKey(ctx, r.Ref, want.Name(), want.Algorithm())
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	if k.Verifier().String() != want.String() {
		return nil, nil, errors.Join(fmt.Errorf("%s: %w", path, ErrOtherKey), closer.Close())
	}
	return k, closer, nil
}

// ReadVerifierKey returns the verifier key of a reference file, without asking
// whoever has the key.
func ReadVerifierKey(path string) (*checkpoint.VerifierKey, error) {
	k, _, err := readNoteReference(path)
	return k, err
}

func readNoteReference(path string) (*checkpoint.VerifierKey, Reference, error) {
	r, err := readReference(path)
	if err != nil {
		return nil, r, err
	}
	if !r.noteKey() {
		return nil, r, fmt.Errorf("%s: expected a verifier key, got the base64 of a SubjectPublicKeyInfo: this key signs checkpoints", path)
	}
	k, err := checkpoint.ParseVerifierKey(r.Public)
	if err != nil {
		return nil, r, fmt.Errorf("%s: %w", path, err)
	}
	return k, r, nil
}

// NewReference returns what a reference file for an opened key says.
func NewReference(ref string, public crypto.PublicKey) (Reference, error) {
	k, err := statement.NewPublicKey(public, nil)
	if err != nil {
		return Reference{}, err
	}
	return ParseReference(Reference{Public: base64.StdEncoding.EncodeToString(k.DER()), Ref: ref}.Format())
}

// NewNoteReference returns what a reference file for a key that signs checkpoints
// says.
func NewNoteReference(ref string, k *checkpoint.VerifierKey) (Reference, error) {
	return ParseReference(Reference{Public: k.String(), Ref: ref}.Format())
}
