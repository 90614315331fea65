package tile

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

const (
	// TailPrefix is where the writer keeps what no client asks for by name:
	// growing tiles, and the head.
	TailPrefix = "tail/"
	// HeadKey names the object that says how much of all others counts. It is
	// written last.
	HeadKey = TailPrefix + "head"

	headMagic = "trialog-tiles/v1"
)

// Head is the durable size of a log's tiles and the root that they have then: the
// content of the object HeadKey.
type Head struct {
	Size uint64
	Root [HashSize]byte
}

// Encode returns the head as it is stored: three lines, the first one the format's
// name, then the size, and the root in base64.
func (h Head) Encode() []byte {
	return fmt.Appendf(nil, "%s\n%d\n%s\n", headMagic, h.Size, base64.StdEncoding.EncodeToString(h.Root[:]))
}

// ParseHead parses what Encode wrote, and nothing else. Whether the tiles bear the
// root out is not known from it.
func ParseHead(data []byte) (Head, error) {
	lines := strings.Split(string(data), "\n")
	if len(lines) != 4 || lines[0] != headMagic {
		return Head{}, fmt.Errorf("want three lines, the first %q", headMagic)
	}
	size, err := strconv.ParseUint(lines[1], 10, 64)
	if err != nil {
		return Head{}, errors.New("the second line is no size")
	}
	root, err := base64.StdEncoding.DecodeString(lines[2])
	if err != nil || len(root) != HashSize {
		return Head{}, errors.New("the third line is no hash")
	}
	h := Head{Size: size, Root: Hash(root)}
	if !bytes.Equal(h.Encode(), data) {
		return Head{}, errors.New("not written as this program writes it")
	}
	return h, nil
}
