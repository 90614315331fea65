package scrub

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/trialog/trialog/services/internal/blob"
)

const (
	stateKey   = "scrub"
	stateMagic = "trialog-scrub@v1"
)

// position is how far a cycle has come.
type position struct{ next uint64 }

// format writes the position as it is stored: two lines.
func (p position) format() []byte { return fmt.Appendf(nil, "%s\n%d\n", stateMagic, p.next) }

// parsePosition parses what format wrote, and nothing else.
func parsePosition(data []byte) (position, error) {
	lines := strings.Split(string(data), "\n")
	if len(lines) != 3 || lines[0] != stateMagic {
		return position{}, fmt.Errorf("want two lines, the first %q", stateMagic)
	}
	next, err := strconv.ParseUint(lines[1], 10, 63)
	if err != nil {
		return position{}, errors.New("the second line is no index")
	}
	p := position{next}
	if !bytes.Equal(p.format(), data) {
		return position{}, errors.New("not written as this program writes it")
	}
	return p, nil
}

// load reads the position. One that cannot be read costs a part of a cycle.
func (s *Scrubber) load(ctx context.Context) {
	if s.c.State == nil {
		return
	}
	data, err := s.c.State.Get(ctx, stateKey)
	if errors.Is(err, blob.ErrNotFound) {
		return
	}
	if err == nil {
		s.at, err = parsePosition(data)
	}
	if err != nil {
		s.log.WarnContext(ctx, "the scrub begins anew: its position cannot be read", "error", err)
		return
	}
	s.metrics.position.Set(float64(s.at.next))
}

// save keeps the position. If that fails, a restart repeats some of the work.
func (s *Scrubber) save(ctx context.Context) {
	if s.c.State == nil {
		return
	}
	if err := s.c.State.Put(ctx, blob.Object{Key: stateKey, Data: s.at.format()}); err != nil {
		s.log.WarnContext(ctx, "the scrub's position cannot be kept", "error", err)
	}
}
