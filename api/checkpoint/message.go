package checkpoint

import (
	"encoding/binary"
	"fmt"
	"math"
	"strconv"
)

const (
	timestampSize = 8
	// maxSignedName is the longest cosigner name and origin that fit the
	// message of an ML-DSA-44 cosignature.
	maxSignedName = math.MaxUint8
)

// checkTime holds the bound on times.
//
// SPEC (tlog-cosignature): It MUST NOT exceed 2^63 - 1
func checkTime(t uint64) error {
	if t > math.MaxInt64 {
		return fmt.Errorf("%w: %d is beyond 2^63-1", ErrTime, t)
	}
	return nil
}

// ed25519Message returns what a 0x04 cosignature signs.
//
// SPEC (tlog-cosignature): two newline (U+000A) terminated lines (one header
// line and one timestamp line) followed by the whole note body of the cosigned
// checkpoint (including the final newline, but not including any signature
// lines). […] The timestamp line MUST consist of the string `time`, a single
// space (0x20), and `timestamped_signature.timestamp` encoded as an ASCII
// decimal with no leading zeroes.
func ed25519Message(t uint64, text []byte) ([]byte, error) {
	if err := checkTime(t); err != nil {
		return nil, err
	}
	b := append(make([]byte, 0, 64+len(text)), "cosignature/v1\ntime "...)
	b = strconv.AppendUint(b, t, 10)
	b = append(b, '\n')
	return append(b, text...), nil
}

// mldsaMessage returns what a 0x06 cosignature by the cosigner signs.
//
// SPEC (tlog-cosignature):
//
//	struct {
//	    uint8 label[12] = "subtree/v1\n\0";
//	    opaque cosigner_name<1..2^8-1>;
//	    uint64 timestamp;
//	    opaque log_origin<1..2^8-1>;
//	    uint64 start;
//	    uint64 end;
//	    uint8 hash[32];
//	} cosigned_message;
//
// If signing a checkpoint, `start` MUST be zero and `end` is the size of the
// tree.
//
// A checkpoint with extension lines is refused: the message does not cover
// them, so that whoever relays the note could change them unseen.
func mldsaMessage(cosigner string, t uint64, c Checkpoint, extensions []string) ([]byte, error) {
	if err := checkTime(t); err != nil {
		return nil, err
	}
	if len(extensions) != 0 {
		return nil, fmt.Errorf("%w: ML-DSA-44 does not sign extension lines", ErrUnsignable)
	}
	if len(c.Origin) > maxSignedName {
		return nil, fmt.Errorf("%w: origin is %d bytes, ML-DSA-44 signs at most 255", ErrUnsignable, len(c.Origin))
	}
	const label = "subtree/v1\n\x00"
	b := make([]byte, 0, len(label)+1+len(cosigner)+8+1+len(c.Origin)+8+8+len(c.Root))
	b = append(b, label...)
	b = append(b, byte(len(cosigner))) //nolint:gosec // 1 to 255: newVerifierKey saw to it
	b = append(b, cosigner...)
	b = binary.BigEndian.AppendUint64(b, t)
	b = append(b, byte(len(c.Origin))) //nolint:gosec // at most 255: checked above
	b = append(b, c.Origin...)
	b = binary.BigEndian.AppendUint64(b, 0)
	b = binary.BigEndian.AppendUint64(b, c.Size)
	return append(b, c.Root[:]...), nil
}
