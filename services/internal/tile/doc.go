// Package tile keeps a log as C2SP tlog-tiles: bundles of entries, and tiles of
// RFC 6962 hashes, in a blob.Store.
//
// A Writer adds entries; a Reader gives entries, proofs, and tiles as they are
// served, after checking them against a root. The store is trusted for
// durability only.
package tile
