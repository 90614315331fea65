// Package tile holds the names and the simplest formats of C2SP tlog-tiles: the
// paths of hash tiles and entry bundles, and the bytes of a bundle.
package tile
