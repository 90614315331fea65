package witness

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.etcd.io/bbolt"

	"github.com/trialog/trialog/api/loglist"
	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/services/internal/run"
)

// List is a signed list of the shards of one log (package loglist), all of which
// are followed.
type List struct {
	// URL is where the list is fetched, over http or https; File is a path that
	// it is read from instead.
	URL, File string
	// Log is the name of the log whose list it is; empty for whichever comes first.
	Log string
	// Keys are those that may sign it.
	Keys []*statement.PublicKey
	// Rate is each shard's; nil for no limit.
	Rate *Rate
}

// name is what messages and the state file call the list.
func (l *List) name() string {
	if l.File != "" {
		return l.File
	}
	return l.URL
}

// listed is a list as it is kept up with. One goroutine has it.
type listed struct {
	c List
	// seen is the digest of what was read last and needs no second look.
	seen [sha256.Size]byte
	// told is what was logged last, so that a list that stays away is told once.
	told string
}

func newListed(l List) (*listed, error) {
	if (l.URL == "") == (l.File == "") {
		return nil, errors.New("expected a URL or a file")
	}
	if len(l.Keys) == 0 {
		return nil, errors.New("expected at least one key")
	}
	if l.Rate != nil {
		if _, err := newBucket(*l.Rate, time.Time{}); err != nil {
			return nil, err
		}
	}
	return &listed{c: l}, nil
}

const (
	// urlInterval and fileInterval are the longest time between two looks.
	urlInterval  = 5 * time.Minute
	fileInterval = 5 * time.Second
	// firstRetry doubles up to longRetry while a list stays away, for as many
	// attempts as patient: a log that is just being started is back in a moment.
	firstRetry = 100 * time.Millisecond
	longRetry  = 2 * time.Second
	patient    = 30
)

// keepUp looks at a list until ctx ends.
func (w *Witness) keepUp(ctx context.Context, l *listed) {
	interval := w.pause
	if interval == 0 && l.c.File != "" {
		interval = fileInterval
	} else if interval == 0 {
		interval = urlInterval
	}
	for failures := 0; ; {
		wait := run.Backoff(1, interval, interval)
		failures++
		switch {
		case w.refresh(ctx, l):
			failures = 0
		case failures < patient:
			wait = min(wait, run.Backoff(failures, firstRetry, longRetry))
		}
		if run.Pause(ctx, wait) != nil {
			return
		}
	}
}

// refresh looks at a list once, and says whether it was there and is in force, or
// an older one that says nothing else. What is wrong is logged when it is new.
func (w *Witness) refresh(ctx context.Context, l *listed) bool {
	err := w.readList(ctx, l)
	switch {
	case ctx.Err() != nil:
		return true
	case err == nil:
		l.told = ""
		return true
	}
	if err.Error() != l.told {
		w.log.ErrorContext(ctx, "a log list was not taken over", "list", l.c.name(), "error", err)
	}
	l.told = err.Error()
	return false
}

func (w *Witness) readList(ctx context.Context, l *listed) error {
	raw, err := w.read(ctx, &l.c)
	if err != nil {
		return err
	}
	digest := sha256.Sum256(raw)
	if digest == l.seen {
		return nil
	}
	list, err := loglist.Parse(raw, l.c.Keys...)
	if err != nil {
		return fmt.Errorf("reading the list: %w", err)
	}
	if l.c.Log != "" && list.Log != l.c.Log {
		return fmt.Errorf("reading the list: expected that of %q, got that of %q", l.c.Log, list.Log)
	}
	if err := w.accept(ctx, l, list, raw); err != nil {
		return err
	}
	l.seen = digest
	return nil
}

// storedList is the last list of a log that was accepted.
type storedList struct {
	// From is the list's name in the configuration that it came by.
	From string `json:"from"`
	// Taken is when it was accepted, by the witness's clock, in Unix seconds.
	Taken int64 `json:"taken"`
	// List is the list as it was signed.
	List []byte `json:"list"`
}

// ListsApart is a log list that was refused, and the one in force that it
// contradicts. Both are signed, and so evidence against who signed them.
type ListsApart struct {
	// Seen is when it was refused, by the witness's clock, in Unix seconds.
	Seen    int64  `json:"seen"`
	Reason  string `json:"reason"`
	InForce []byte `json:"in_force"`
	Refused []byte `json:"refused"`
}

// maxDisputed bounds the refused lists of one log; the first ones stay.
const maxDisputed = 16

// accept puts a list that one of its keys signed in force, if it may take the
// place of the last one.
func (w *Witness) accept(ctx context.Context, l *listed, list *loglist.List, raw []byte) error {
	var refused error
	older := false
	err := w.state.Update(func(tx *bbolt.Tx) (bool, error) {
		named, err := nameList(tx, l.c.name(), list.Log)
		if err != nil {
			return false, err
		}
		known, found, err := readList(tx, list.Log)
		if err != nil {
			return false, err
		}
		if found {
			before, err := parseStored(known.List)
			if err != nil {
				return false, err
			}
			news, apart := compareLists(before, list)
			switch {
			case apart != nil:
				wrote, err := w.dispute(tx, list.Log, known.List, raw, apart)
				if err != nil || w.signedByConfigured(known.List) {
					refused = apart
					return wrote, err
				}
				// Whoever runs the witness has taken the key away that signed it.
				w.log.WarnContext(ctx, "a log list takes the place of one that no configured key has signed", "log", list.Log, "error", apart)
			case !news:
				older = list.Version < before.Version
				return named, nil
			}
		}
		return true, writeJSON(tx.Bucket([]byte(listsBucket)), []byte(list.Log),
			&storedList{From: l.c.name(), Taken: w.now().Unix(), List: raw})
	})
	if err := errors.Join(refused, err); err != nil {
		return fmt.Errorf("list of %q, version %d: %w", list.Log, list.Version, err)
	}
	if older {
		return nil // it says nothing that is not followed, and maybe where shards were once
	}
	w.followListed(ctx, l.c.name(), shardsOf(list, l.c.Rate))
	return nil
}

// compareLists says whether next is news after before, and what is wrong with it.
// A cache may hand out an older list: that is no news, and no misdeed either.
func compareLists(before, next *loglist.List) (news bool, err error) {
	if next.Version > before.Version {
		if err := loglist.Follows(before, next); err != nil {
			return false, err
		}
		return true, nil
	}
	if next.Version < before.Version {
		return false, loglist.Follows(next, before)
	}
	one, err := before.Encode()
	if err != nil {
		return false, fmt.Errorf("comparing lists: %w", err)
	}
	other, err := next.Encode()
	if err != nil {
		return false, fmt.Errorf("comparing lists: %w", err)
	}
	if !bytes.Equal(one, other) {
		return false, &loglist.HistoryError{Reason: "another list of the same version is in force"}
	}
	return false, nil
}

// signedByConfigured tells whether a list carries the signature of a key that may
// sign any of the lists in the configuration.
func (w *Witness) signedByConfigured(raw []byte) bool {
	return slices.ContainsFunc(w.lists, func(l *listed) bool {
		_, err := loglist.Parse(raw, l.c.Keys...)
		return err == nil
	})
}

// nameList notes whose list comes by a name, and refuses that of another log than
// the first one: who may sign one list may not bring in any log. It says whether
// it wrote.
func nameList(tx *bbolt.Tx, name, log string) (bool, error) {
	b := tx.Bucket([]byte(namesBucket))
	switch known := b.Get([]byte(name)); {
	case known == nil:
		return true, b.Put([]byte(name), []byte(log))
	case string(known) != log:
		return false, fmt.Errorf("expected the list of %q", known)
	}
	return false, nil
}

// dispute keeps a list that was refused. It says whether it wrote.
func (w *Witness) dispute(tx *bbolt.Tx, log string, inForce, refused []byte, reason error) (bool, error) {
	b, err := tx.Bucket([]byte(disputedBucket)).CreateBucketIfNotExists([]byte(log))
	if err != nil {
		return false, fmt.Errorf("keeping a refused list: %w", err)
	}
	key := sha256.Sum256(refused)
	if b.Get(key[:]) != nil || b.Stats().KeyN >= maxDisputed {
		return false, nil
	}
	return true, writeJSON(b, key[:], &ListsApart{Seen: w.now().Unix(), Reason: reason.Error(), InForce: inForce, Refused: refused})
}

// readList returns the stored list of a log, and whether there is one.
func readList(tx *bbolt.Tx, log string) (s storedList, found bool, err error) {
	raw := tx.Bucket([]byte(listsBucket)).Get([]byte(log))
	if raw == nil {
		return s, false, nil
	}
	if err := json.Unmarshal(raw, &s); err != nil {
		return s, false, fmt.Errorf("decoding the list of %q: %w", log, err)
	}
	return s, true, nil
}

// parseStored reads a list from the state file, where only lists are whose
// signature was verified.
func parseStored(raw []byte) (*loglist.List, error) {
	payload, _, err := statement.ParseDSSE(raw, loglist.PayloadType, loglist.MaxSize)
	if err != nil {
		return nil, fmt.Errorf("reading the list in force: %w", err)
	}
	list, err := loglist.Decode(payload)
	if err != nil {
		return nil, fmt.Errorf("reading the list in force: %w", err)
	}
	return list, nil
}

func writeJSON(b *bbolt.Bucket, key []byte, v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encoding a record: %w", err)
	}
	if err := b.Put(key, raw); err != nil {
		return fmt.Errorf("writing a record: %w", err)
	}
	return nil
}

// recallLists follows what the lists in the state file name, without waiting for
// their servers. A list that no configured key has signed is not followed any more.
func (w *Witness) recallLists(ctx context.Context) error {
	found := map[string]*storedList{}
	err := w.state.View(func(tx *bbolt.Tx) error {
		return tx.Bucket([]byte(listsBucket)).ForEach(func(log, raw []byte) error {
			var s storedList
			if err := json.Unmarshal(raw, &s); err != nil {
				return fmt.Errorf("decoding the list of %q: %w", log, err)
			}
			found[string(log)] = &s
			return nil
		})
	})
	if err != nil {
		return err
	}
	for log, s := range found {
		// By the name that it came by, if that is configured still.
		by := slices.Clone(w.lists)
		if i := slices.IndexFunc(by, func(l *listed) bool { return l.c.name() == s.From }); i > 0 {
			by[0], by[i] = by[i], by[0]
		}
		taken := slices.ContainsFunc(by, func(l *listed) bool {
			list, err := loglist.Parse(s.List, l.c.Keys...)
			if err != nil || l.c.Log != "" && l.c.Log != log {
				return false
			}
			w.followListed(ctx, l.c.name(), shardsOf(list, l.c.Rate))
			return true
		})
		if !taken {
			w.log.WarnContext(ctx, "a log list is followed no more: no configured key has signed it", "log", log, "from", s.From)
		}
	}
	return nil
}

// shardsOf are the logs that a list names. A list names shards of its own log
// only (package loglist), so who signs one cannot get ahead of another log.
func shardsOf(list *loglist.List, rate *Rate) []Log {
	logs := make([]Log, len(list.Shards))
	for i, s := range list.Shards {
		logs[i] = Log{Origin: s.Origin, Keys: s.Keys, URL: s.URL, Rate: rate}
	}
	return logs
}
