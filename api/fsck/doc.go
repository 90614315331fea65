// Package fsck re-derives a log from what is stored of it and says where it is
// wrong: for an auditor, with nothing but a policy and a copy of the files that
// C2SP tlog-tiles serves.
//
// What is believed is the checkpoint that the policy accepts, and nothing else.
// From its root down, each hash tile is held against the hash above it and
// against the hashes of what lies below it, each entry against its leaf hash. So
// for every object that differs from another there is a third word: which of the
// two the signed root supports. A wrong hash is named by its first wrong byte, a
// wrong entry by its bytes, and by the exact byte if a second copy is at hand or
// a single wrong bit explains it.
//
// Findings hold places, hashes and reasons, never what an entry says.
package fsck
