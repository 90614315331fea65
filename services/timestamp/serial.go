package timestamp

import (
	"encoding/binary"
	"encoding/hex"
	"io"
	"math/big"
	"strings"
	"sync"
	"time"
)

// serial is the serial number of a token: 18 bytes, big endian,
//
//	u48 milliseconds since 1970 of the life ‖ u48 random number of the life ‖ u48 count
//
// A life begins when a process issues its first token, by the verified clock, and
// the state file has it later than all lives before. So numbers grow within a life
// and across restarts, however a life ended. If the state file was put back to an
// older copy, they still grow, because time does; and should two lives begin in
// the same millisecond, as those of two copies might, 48 random bits keep them
// apart. 141 bits at most, of the 160 that RFC 3161 allows.
type serial [18]byte

func (s serial) int() *big.Int { return new(big.Int).SetBytes(s[:]) }

// text is the serial number in hexadecimal without leading zeros, as it stands in
// the record of a token.
func (s serial) text() string { return strings.TrimLeft(hex.EncodeToString(s[:]), "0") }

// life counts the serial numbers of one process.
type life struct {
	mu    sync.Mutex
	begun bool
	last  serial
}

// next returns the next number. begin is called for the first one: it returns the
// time of the life, in milliseconds, once that is durable.
func (l *life) next(t time.Time, random io.Reader, begin func(ms uint64) (uint64, error)) (serial, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.begun {
		ms, err := begin(uint64(t.UnixMilli()))
		if err != nil {
			return serial{}, err
		}
		var s serial
		binary.BigEndian.PutUint64(s[:8], ms<<16)
		if _, err := io.ReadFull(random, s[6:12]); err != nil {
			return serial{}, err
		}
		l.last, l.begun = s, true
	}
	// A count of 48 bits does not end.
	for i := len(l.last) - 1; i >= 12; i-- {
		l.last[i]++
		if l.last[i] != 0 {
			break
		}
	}
	return l.last, nil
}
