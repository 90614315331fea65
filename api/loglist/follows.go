package loglist

import (
	"fmt"
	"slices"

	"github.com/trialog/trialog/api/checkpoint"
)

// HistoryError says what a list changes that no list may change. Both lists are
// evidence against who signed them.
type HistoryError struct {
	Origin string // of the shard; empty for the list as a whole
	Reason string
}

// Error implements error.
func (e *HistoryError) Error() string {
	if e.Origin == "" {
		return "log list: " + e.Reason
	}
	return fmt.Sprintf("log list: shard %q: %s", e.Origin, e.Reason)
}

// Follows returns nil if next may take the place of old: a greater version of
// the same log's list that keeps every shard with its place, keys and
// announcement, lets none go back, changes no end, and adds shards behind the
// others only. What it adds was not announced before old was issued. An announced
// shard may open at another time than it was to; a URL may change. The error is
// a *HistoryError.
func Follows(old, next *List) error {
	broken := func(origin, format string, args ...any) error {
		return &HistoryError{Origin: origin, Reason: fmt.Sprintf(format, args...)}
	}
	switch {
	case next.Log != old.Log:
		return broken("", "is of log %q, not %q", next.Log, old.Log)
	case next.Version <= old.Version:
		return broken("", "has version %d, expected more than %d", next.Version, old.Version)
	case next.Issued.Before(old.Issued):
		return broken("", "was issued before version %d", old.Version)
	case len(next.Shards) < len(old.Shards):
		return broken("", "names %d shards, version %d names %d", len(next.Shards), old.Version, len(old.Shards))
	}
	for i := range old.Shards {
		was, is := &old.Shards[i], &next.Shards[i]
		if is.Origin != was.Origin {
			return broken(was.Origin, "is not at its place any more")
		}
		if reason := was.changed(is); reason != "" {
			return broken(was.Origin, "%s", reason)
		}
	}
	for i := range next.Shards[len(old.Shards):] {
		if s := &next.Shards[len(old.Shards)+i]; s.Announced.Before(old.Issued) {
			return broken(s.Origin, "is said to be announced before version %d, which does not name it", old.Version)
		}
	}
	return nil
}

// changed says what is has that was may not have become; "" if nothing.
func (s *Shard) changed(is *Shard) string {
	sameKey := func(a, b *checkpoint.VerifierKey) bool { return a.String() == b.String() }
	switch {
	case !slices.EqualFunc(s.Keys, is.Keys, sameKey):
		return "has other keys"
	case !is.Announced.Equal(s.Announced):
		return "was announced at another time"
	case is.State.rank() < s.State.rank():
		return fmt.Sprintf("is %s, and was %s", is.State, s.State)
	case s.Forced && !is.Forced:
		return "was forced"
	case s.State != Announced && (!is.Opens.Equal(s.Opens) || is.Forced != s.Forced):
		return "has opened at another time"
	case s.Final != nil && *is.Final != *s.Final:
		return "has another end"
	}
	return ""
}
