package tile

import "testing"

func TestCacheIsBounded(t *testing.T) {
	t.Parallel()
	c := tileCache{limit: 3}
	id := func(i int) tileID { return tileID{level: i % 2, index: uint64(i)} }
	tiles := make([]*nodes, 10)
	for i := range tiles {
		tiles[i] = new(nodes)
		c.put(id(i), tiles[i])
		c.put(id(i), tiles[i]) // twice is once
		if len(c.items) > 3 || c.order.Len() != len(c.items) {
			t.Fatalf("%d tiles and %d in order, want at most 3", len(c.items), c.order.Len())
		}
		if c.get(id(0)) != nil && i > 2 && i < 5 {
			continue // used last each time, so it stays
		}
		if i > 2 && i < 5 {
			t.Errorf("the tile that was used last was evicted at %d", i)
		}
	}
	if c.get(id(1)) != nil || c.get(id(9)) != tiles[9] {
		t.Error("kept an old tile, or lost the newest")
	}
	none := tileCache{}
	none.put(id(1), tiles[1])
	if none.get(id(1)) != nil {
		t.Error("a cache of no tiles has one")
	}
}
