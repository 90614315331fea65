package commit

import (
	"context"

	"github.com/trialog/trialog/services/internal/tlog"
)

// Stored is something that Store has stored, on its way to the tiles.
type Stored struct {
	// Size is that of the log with it.
	Size uint64
	// Done is called when it is past step 4, or never. root covers Size.
	Done func(root tlog.Root)
}

// Follow integrates what comes through stored, in its order, until the channel
// is closed; one integration serves everything that has come before it. grown
// is told of each new root, before the Done of what it covers. After an error
// it returns at once: Done of the rest is not called.
func (l *Log) Follow(ctx context.Context, stored <-chan Stored, grown func(tlog.Root)) error {
	root := tlog.Root{Size: l.tiles.Size(), Hash: l.tiles.Root()}
	for next := range stored {
		if root.Size < next.Size {
			var err error
			if root, err = l.Integrate(ctx); err != nil {
				return err
			}
			grown(root)
		}
		next.Done(root)
	}
	return nil
}
