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
	// tailPrefix is where the writer keeps what no client asks for by name:
	// growing tiles, and the head.
	tailPrefix = "tail/"
	// headKey names the object that says how much of all others counts. It is
	// written last.
	headKey = tailPrefix + "head"

	headMagic = "trialog-tiles/v1"
)

// head is the durable size of a log's tiles and the root that they have then.
type head struct {
	size uint64
	root Hash
}

// format returns the head as it is stored: three lines.
func (h head) format() []byte {
	return fmt.Appendf(nil, "%s\n%d\n%s\n", headMagic, h.size, base64.StdEncoding.EncodeToString(h.root[:]))
}

// parseHead parses what format wrote, and nothing else.
func parseHead(data []byte) (head, error) {
	lines := strings.Split(string(data), "\n")
	if len(lines) != 4 || lines[0] != headMagic {
		return head{}, fmt.Errorf("want three lines, the first %q", headMagic)
	}
	size, err := strconv.ParseUint(lines[1], 10, 64)
	if err != nil {
		return head{}, errors.New("the second line is no size")
	}
	root, err := base64.StdEncoding.DecodeString(lines[2])
	if err != nil || len(root) != HashSize {
		return head{}, errors.New("the third line is no hash")
	}
	h := head{size: size, root: Hash(root)}
	if !bytes.Equal(h.format(), data) {
		return head{}, errors.New("not written as this program writes it")
	}
	return h, nil
}
