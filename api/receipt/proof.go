package receipt

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/internal/strictjson"
)

// proofHeader is the first line of a C2SP tlog-proof.
const proofHeader = "c2sp.org/tlog-proof@v1\n"

// maxPath is the greatest length of an inclusion path: a tree of 2^63 leaves.
const maxPath = 63

// maxIndex is the greatest index, 2^63 - 1.
const maxIndex = 1<<63 - 1

// Proof is a C2SP tlog-proof: that a leaf is in the tree of a checkpoint.
type Proof struct {
	// Extra is carried along and proves nothing; empty if absent.
	Extra []byte
	Index uint64
	// Path is the RFC 6962 inclusion path, leaf to root.
	Path [][32]byte
	// Note is the signed checkpoint with its cosignatures.
	Note *checkpoint.Note
}

// Encode writes the proof as a .tlog-proof file.
func (p *Proof) Encode() []byte {
	var b bytes.Buffer
	b.WriteString(proofHeader)
	// SPEC (tlog-proof): If no extra data is present, this line is omitted.
	if len(p.Extra) > 0 {
		fmt.Fprintf(&b, "extra %s\n", base64.StdEncoding.EncodeToString(p.Extra))
	}
	fmt.Fprintf(&b, "index %d\n", p.Index)
	for _, h := range p.Path {
		b.WriteString(base64.StdEncoding.EncodeToString(h[:]))
		b.WriteByte('\n')
	}
	b.WriteByte('\n')
	b.Write(p.Note.Bytes())
	return b.Bytes()
}

// check refuses what ParseProof would not read back.
func (p *Proof) check() error {
	switch {
	case p == nil || p.Note == nil:
		return errors.New("there is no proof")
	case p.Index > maxIndex || len(p.Path) > maxPath:
		return fmt.Errorf("proof: expected an index below 2^63 and at most %d hashes", maxPath)
	}
	return nil
}

// ParseProof reads a tlog-proof strictly: Encode of the result gives raw back.
func ParseProof(raw []byte) (*Proof, error) {
	rest, ok := bytes.CutPrefix(raw, []byte(proofHeader))
	if !ok {
		return nil, fmt.Errorf("tlog-proof: expected the first line %q", proofHeader[:len(proofHeader)-1])
	}
	head, note, ok := bytes.Cut(rest, []byte("\n\n"))
	if !ok {
		return nil, errors.New("tlog-proof: expected an empty line before the checkpoint")
	}
	lines := bytes.Split(head, []byte("\n"))
	p := &Proof{}
	if extra, ok := bytes.CutPrefix(lines[0], []byte("extra ")); ok {
		b, err := decodeLine(extra)
		if err != nil || len(b) == 0 {
			return nil, errors.New("tlog-proof: line extra: expected standard base64 with padding, not empty")
		}
		p.Extra, lines = b, lines[1:]
	}
	if len(lines) == 0 {
		return nil, errors.New("tlog-proof: expected a line with the index")
	}
	digits, ok := bytes.CutPrefix(lines[0], []byte("index "))
	index, err := strconv.ParseUint(string(digits), 10, 64)
	if !ok || err != nil || index > maxIndex || strconv.FormatUint(index, 10) != string(digits) {
		return nil, errors.New("tlog-proof: expected a line \"index\" with a decimal number below 2^63")
	}
	p.Index = index
	if len(lines)-1 > maxPath {
		return nil, fmt.Errorf("tlog-proof: %d hashes, expected at most %d", len(lines)-1, maxPath)
	}
	for i, line := range lines[1:] {
		h, err := decodeLine(line)
		if err != nil || len(h) != 32 {
			return nil, fmt.Errorf("tlog-proof: line %d of the path: expected the base64 of 32 bytes", i+1)
		}
		p.Path = append(p.Path, [32]byte(h))
	}
	if p.Note, err = checkpoint.Parse(note); err != nil {
		return nil, fmt.Errorf("tlog-proof: %w", err)
	}
	return p, nil
}

func decodeLine(line []byte) ([]byte, error) {
	b, ok := strictjson.Base64(string(line))
	if !ok {
		return nil, errors.New("expected standard base64 with padding")
	}
	return b, nil
}
