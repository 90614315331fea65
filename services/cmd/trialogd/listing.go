package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/loglist"
	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/api/verify"
	"github.com/trialog/trialog/services/config"
	"github.com/trialog/trialog/services/internal/blob"
	"github.com/trialog/trialog/services/internal/register"
	"github.com/trialog/trialog/services/sequencer"
)

// listing keeps the signed list of the log's shards.
type listing struct {
	layout layout
	path   string
	key    *statement.PrivateKey
	now    func() time.Time

	changing sync.Mutex // held while a new list is made, which reads registers and tiles

	mu   sync.Mutex // of what follows
	raw  []byte
	list *loglist.List
}

// openListing reads the list, and makes its key where a log has none yet.
func openListing(l layout, now func() time.Time) (*listing, error) {
	if err := l.checkPolicyWhole(); err != nil {
		return nil, err
	}
	key, err := readKey(l.key(listKey))
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := makeKey(l.key(listKey)); err != nil {
			return nil, err
		}
		key, err = readKey(l.key(listKey))
	}
	if err != nil {
		return nil, err
	}
	s := &listing{layout: l, path: l.logList(), key: key, now: now}
	raw, err := os.ReadFile(s.path)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	} else if err != nil {
		return nil, err
	}
	if s.list, err = loglist.Parse(raw, key.Public()); err != nil {
		return nil, fmt.Errorf("%s: %w", s.path, err)
	}
	s.raw = raw
	return s, nil
}

// ServeHTTP hands the newest list out, or a trust bundle.
func (s *listing) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if version, ok := trustVersion(r.URL.EscapedPath()); ok {
		s.layout.serveTrust(w, r, version)
		return
	}
	s.mu.Lock()
	raw := s.raw
	s.mu.Unlock()
	if raw == nil {
		http.Error(w, "there is no list yet", http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-cache")
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(raw))
}

// shard returns what the list says of a shard; nil if it does not name it.
func (s *listing) shard(origin string) *loglist.Shard {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.list == nil {
		return nil
	}
	return s.list.Shard(origin)
}

// opens returns when a shard opens; the zero time if the list does not say.
func (s *listing) opens(origin string) time.Time {
	if shard := s.shard(origin); shard != nil {
		return shard.Opens
	}
	return time.Time{}
}

// change signs a new list if edit makes one that differs. A list that the one
// before cannot go over into is not written.
func (s *listing) change(log string, edit func([]loglist.Shard) ([]loglist.Shard, error)) error {
	s.changing.Lock()
	defer s.changing.Unlock()
	next := &loglist.List{Log: log, Version: 1, Issued: s.now().UTC().Truncate(time.Millisecond)}
	var known []loglist.Shard
	if s.list != nil {
		known, next.Version = s.list.Shards, s.list.Version+1
	}
	var err error
	if next.Shards, err = edit(slices.Clone(known)); err != nil {
		return err
	}
	if slices.EqualFunc(known, next.Shards, sameShard) {
		return nil
	}
	if s.list != nil {
		if err := loglist.Follows(s.list, next); err != nil {
			return err
		}
	}
	raw, err := next.Sign(s.key)
	if err != nil {
		return err
	}
	if err := replace(s.path, raw, 0o644); err != nil {
		return err
	}
	s.mu.Lock()
	s.raw, s.list = raw, next
	s.mu.Unlock()
	return nil
}

func sameShard(a, b loglist.Shard) bool {
	return a.Origin == b.Origin && a.URL == b.URL && a.State == b.State && a.Forced == b.Forced &&
		a.Opens.Equal(b.Opens) && (a.Final == nil) == (b.Final == nil)
}

// announced returns the entry of a shard that opens at a time.
func announced(place config.Shard, url string, now, opens time.Time) (loglist.Shard, error) {
	s := loglist.Shard{
		Origin: place.Origin, URL: url, State: loglist.Announced,
		Announced: now.UTC().Truncate(time.Millisecond), Opens: opens.UTC().Truncate(time.Millisecond),
	}
	s.Forced = s.Opens.Sub(s.Announced) < loglist.Notice
	for _, file := range []string{logKeyEd25519, logKeyMLDSA} {
		k, err := readLogVerifier(filepath.Join(place.Keys, file))
		if err != nil {
			return s, err
		}
		s.Keys = append(s.Keys, k)
	}
	return s, nil
}

// listed returns the list with the shard at place n in it: as it was if the shard
// is there, or with the shard announced behind the others.
func listed(list []loglist.Shard, n int, place config.Shard, url string, now, opens time.Time) ([]loglist.Shard, error) {
	s, err := announced(place, url, now, opens)
	if err != nil {
		return nil, err
	}
	switch at := slices.IndexFunc(list, func(s loglist.Shard) bool { return s.Origin == place.Origin }); {
	case at < 0 && len(list) == n:
		return append(list, s), nil
	case at != n:
		return nil, fmt.Errorf("the log list does not have %s at the place %d that the settings give it", place.Origin, n+1)
	case !slices.EqualFunc(list[at].Keys, s.Keys, sameKey):
		return nil, fmt.Errorf("the log list names other keys of %s", place.Origin)
	}
	return list, nil
}

func sameKey(a, b *checkpoint.VerifierKey) bool { return a.String() == b.String() }

// relist makes the list say what the shards are doing.
func (e *engine) relist(ctx context.Context) error {
	return e.list.change(e.c.Log, func(list []loglist.Shard) ([]loglist.Shard, error) {
		now := e.now().UTC().Truncate(time.Millisecond)
		for i, sh := range e.shards {
			var err error
			if list, err = listed(list, i, sh.place, "", now, now); err != nil {
				return nil, err
			}
			first := i == 0 || list[i-1].State == loglist.Ended
			if err := e.update(ctx, sh, &list[i], first, now); err != nil {
				return nil, err
			}
		}
		return list, nil
	})
}

// update makes entry say what a shard is doing; first tells that all shards before
// it have ended.
func (e *engine) update(ctx context.Context, sh *shard, entry *loglist.Shard, first bool, now time.Time) error {
	if entry.State == loglist.Ended {
		return nil
	}
	record, err := sh.register.Read(ctx)
	if err != nil {
		return err
	}
	opened := sh == e.shards[0] || sh.opened()
	if !first || !opened {
		return nil
	}
	if entry.State == loglist.Announced && now.Before(entry.Opens) {
		entry.Opens, entry.Forced = now, true
	}
	entry.State = loglist.Active
	if record.Sealed {
		entry.State = loglist.Ended
		entry.Final, err = finalOf(ctx, e.policy, sh.tiles, record)
	}
	return err
}

// finalOf reads the last checkpoint of a shard that has ended.
func finalOf(ctx context.Context, policy *verify.Policy, tiles blob.Store, record register.Record) (*loglist.Final, error) {
	raw, err := tiles.Get(ctx, sequencer.CheckpointKey)
	if err != nil {
		return nil, err
	}
	note, err := policy.CheckNote(raw)
	if err != nil {
		return nil, fmt.Errorf("the last checkpoint: %w", err)
	}
	if note.Size != record.Size || note.Root != checkpoint.Hash(record.Root) {
		return nil, fmt.Errorf("the last checkpoint is of size %d, root %s; the register is sealed at %d",
			note.Size, hex.EncodeToString(note.Root[:]), record.Size)
	}
	parsed, err := checkpoint.Parse(raw)
	if err != nil {
		return nil, err
	}
	return &loglist.Final{Size: note.Size, Root: note.Root, Note: statement.Digest(parsed.Digest())}, nil
}
