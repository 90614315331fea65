package tile

import (
	"context"
	"fmt"

	"github.com/trialog/trialog/services/internal/blob"
)

// Rewrite writes tails and head once more, as this Writer knows them. Object
// stores have no fence: a writer that was replaced, and does not know it yet, may
// have put older ones in their place. Full objects are the same whoever writes
// them.
func (w *Writer) Rewrite(ctx context.Context) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	tails := w.edge.tails(new(edge), w.segmented(), false)
	objects := make([]blob.Object, 0, len(tails))
	for _, t := range tails {
		t.from = 0
		objects = append(objects, blob.Object{Key: t.key, Data: t.data()})
	}
	head := Head{w.edge.size, w.root}
	for _, batch := range [][]blob.Object{objects, {{Key: HeadKey, Data: head.Encode()}}} {
		if len(batch) == 0 {
			continue
		}
		if err := w.store.Put(ctx, batch...); err != nil {
			w.settled, w.stray = false, true
			return fmt.Errorf("rewrite tails: %w", err)
		}
	}
	return nil
}
