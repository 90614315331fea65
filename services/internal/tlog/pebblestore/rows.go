package pebblestore

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/trillian"
	"github.com/google/trillian/types"
	"google.golang.org/protobuf/proto"

	"github.com/trialog/trialog/services/internal/tlog"
)

// Rows implements tlog.Rows. The cursor is the key of the last record seen.
func (s *Store) Rows(ctx context.Context, cursor []byte, limit int, visit func(tlog.Row) bool) (next []byte, err error) {
	if err := s.enter(ctx); err != nil {
		return nil, fmt.Errorf("reading the store's rows: %w", err)
	}
	defer s.exit()
	next, err = readRows(s.db, cursor, limit, visit)
	if err != nil {
		return next, fmt.Errorf("reading the store's rows: %w", s.fault.mark(err))
	}
	return next, nil
}

// Inspection is a store that was opened to be looked at. It has nothing but
// Rows.
type Inspection struct {
	db   *pebble.DB
	lock *pebble.Lock
}

// Inspect opens the store in dir without writing to it, and without judging what
// is in it: Open makes a wrong identity index again, and refuses what it cannot
// read. tlog.ErrLocked: somebody else has it open.
func Inspect(dir string, opts Options) (*Inspection, error) {
	if opts.FS == nil {
		opts.FS = vfs.Default
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	lock, err := pebble.LockDirectory(dir, opts.FS)
	if err != nil {
		return nil, fmt.Errorf("locking the store's directory: %w: %w", tlog.ErrLocked, err)
	}
	popts := pebbleOptions(opts, &fault{log: opts.Logger, lock: lock})
	popts.Lock, popts.ReadOnly, popts.ErrorIfNotExists = lock, true, true
	db, err := pebble.Open(dir, popts)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("opening the store to look at it: %w", err), lock.Close())
	}
	return &Inspection{db, lock}, nil
}

// Rows implements tlog.Rows.
func (i *Inspection) Rows(ctx context.Context, cursor []byte, limit int, visit func(tlog.Row) bool) (next []byte, err error) {
	if err := ctx.Err(); err != nil {
		return cursor, err
	}
	next, err = readRows(i.db, cursor, limit, visit)
	if err != nil {
		return next, fmt.Errorf("reading the store's rows: %w", err)
	}
	return next, nil
}

// Close gives the directory back.
func (i *Inspection) Close() error { return errors.Join(i.db.Close(), i.lock.Close()) }

func readRows(db *pebble.DB, cursor []byte, limit int, visit func(tlog.Row) bool) (next []byte, err error) {
	it, err := db.NewIter(&pebble.IterOptions{LowerBound: after(cursor)})
	if err != nil {
		return cursor, err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	next = cursor
	for ok := it.First(); ok; ok = it.Next() {
		if limit == 0 {
			return next, nil
		}
		limit--
		value, err := it.ValueAndErr()
		if err != nil {
			return next, fmt.Errorf("row %x: %w", it.Key(), err)
		}
		next = bytes.Clone(it.Key())
		if !visitRecord(next, value, visit) {
			return next, nil
		}
	}
	if err := it.Error(); err != nil {
		return next, err
	}
	return nil, nil
}

// after is the least key that is greater than key.
func after(key []byte) []byte {
	if key == nil {
		return nil
	}
	return append(bytes.Clone(key), 0)
}

// visitRecord shows what a record of the database holds.
func visitRecord(key, value []byte, visit func(tlog.Row) bool) bool {
	if len(key) == 1 && key[0] == kindFormat {
		if string(value) != formatMark {
			return visit(tlog.Row{Place: "format mark", Err: fmt.Errorf("is not %q", formatMark)})
		}
		return true
	}
	if len(key) < treePrefixSize {
		return visit(unknownRow(key, 0))
	}
	tree := int64(binary.BigEndian.Uint64(key[1:]))
	rest := key[treePrefixSize:]
	switch {
	case key[0] == kindTree && len(rest) == 0:
		if err := proto.Unmarshal(value, new(trillian.Tree)); err != nil {
			return visit(tlog.Row{Place: fmt.Sprintf("tree %d", tree), Tree: tree, Err: fmt.Errorf("cannot be read: %w", err)})
		}
		return true
	case key[0] == kindRoot && len(rest) == 0:
		return visit(rootRow(tree, value))
	case key[0] == kindLeaf && len(rest) == 8:
		return visit(leafRow(tree, binary.BigEndian.Uint64(rest), value))
	case key[0] == kindIdentity && len(rest) == hashSize:
		row, queued := indexRow(tree, [hashSize]byte(rest), value)
		return queued || visit(row)
	case key[0] == kindTile && len(rest) == 1+8:
		return visitTile(tree, tileID{level: rest[0], index: binary.BigEndian.Uint64(rest[1:])}, value, visit)
	case key[0] == kindQueue && len(rest) == 8+hashSize:
		return true // waits, and belongs to no log yet
	case key[0] == kindRebuild && len(rest) == 0:
		return true // the identity rows themselves tell whether they are right
	}
	return visit(unknownRow(key, tree))
}

func unknownRow(key []byte, tree int64) tlog.Row {
	return tlog.Row{Place: fmt.Sprintf("record %x", key), Tree: tree, Err: errors.New("has an unknown key")}
}

func rootRow(tree int64, value []byte) tlog.Row {
	r := tlog.Row{Kind: tlog.RowRoot, Tree: tree, Place: fmt.Sprintf("tree %d, root", tree)}
	var v1 types.LogRootV1
	if err := v1.UnmarshalBinary(value); err != nil {
		r.Err = fmt.Errorf("cannot be read: %w", err)
		return r
	}
	if len(v1.RootHash) != hashSize {
		r.Err = fmt.Errorf("has a hash of %d bytes", len(v1.RootHash))
		return r
	}
	again, err := v1.MarshalBinary()
	if err != nil || !bytes.Equal(again, value) {
		r.Err = errors.New("is not written as this program writes it")
		return r
	}
	r.Root = tlog.Root{Size: v1.TreeSize, Hash: [hashSize]byte(v1.RootHash)}
	return r
}

func leafRow(tree int64, index uint64, value []byte) tlog.Row {
	r := tlog.Row{Kind: tlog.RowLeaf, Tree: tree, Index: index, Place: fmt.Sprintf("tree %d, leaf %d", tree, index)}
	rec, err := parseRecord(value)
	if err != nil {
		r.Err = err
		return r
	}
	r.Identity, r.Hash = [hashSize]byte(rec.identity), [hashSize]byte(rec.merkle)
	r.Value = bytes.Clone(rec.value)
	if len(rec.extra) > 0 {
		r.Err = fmt.Errorf("has %d bytes of extra data, which nothing writes", len(rec.extra))
	}
	return r
}

// indexRow also tells whether the identity is only queued.
func indexRow(tree int64, identity [hashSize]byte, value []byte) (r tlog.Row, queued bool) {
	r = tlog.Row{
		Kind: tlog.RowIdentity, Tree: tree, Identity: identity, Place: fmt.Sprintf("tree %d, identity %x", tree, identity),
	}
	row, err := parseIdentityRow(value)
	if err != nil {
		r.Err = err
		return r, false
	}
	r.Index = uint64(row.number)
	return r, !row.sequenced
}

func visitTile(tree int64, id tileID, value []byte, visit func(tlog.Row) bool) bool {
	place := fmt.Sprintf("tree %d, nodes of level %d from %d", tree, 8*int(id.level), id.index*tileWidth)
	t, err := parseTile(value)
	if err != nil {
		return visit(tlog.Row{
			Kind: tlog.RowNode, Tree: tree, Level: 8 * int(id.level), Index: id.index * tileWidth, Place: place, Err: err,
		})
	}
	for i := range t.width() {
		row := tlog.Row{
			Kind: tlog.RowNode, Tree: tree, Level: 8 * int(id.level), Index: id.index*tileWidth + uint64(i),
			Place: place, Hash: [hashSize]byte(t.at(i)),
		}
		if !visit(row) {
			return false
		}
	}
	return true
}

var (
	_ tlog.Rows = (*Store)(nil)
	_ tlog.Rows = (*Inspection)(nil)
)
