package sequencer

import (
	"context"
	"errors"

	"github.com/trialog/trialog/services/internal/tile"
	"github.com/trialog/trialog/services/internal/tlog"
)

// readTree reads a tree that the writer has just put into the tiles. In an object
// store whoever owned the shard before may write over its newest objects, once
// more, with older ones: the store and the register are fenced, objects are not.
// They are written anew then; what is still wrong afterwards is damage.
func (p *publisher) readTree(ctx context.Context, want tlog.Root) (*tile.Tree, error) {
	tree, err := p.s.reader.Tree(ctx, want.Size, want.Hash)
	if err == nil || !isDamage(err) {
		return tree, err
	}
	// Who has been replaced itself would put older ones back.
	if ownErr := stillOwned(ctx, p.s.c.Register, p.registered); ownErr != nil {
		return nil, ownErr
	}
	p.s.log.Warn("the newest tiles were written over, writing them anew", "size", want.Size, "detail", err.Error())
	if healErr := p.tiles.Rewrite(ctx); healErr != nil {
		return nil, errors.Join(err, healErr)
	}
	return p.s.reader.Tree(ctx, want.Size, want.Hash)
}

// isDamage tells whether tiles were read, and are not what was written.
func isDamage(err error) bool {
	_, corrupt := errors.AsType[*tile.CorruptError](err)
	_, other := errors.AsType[*tile.RootError](err)
	return corrupt || other
}
