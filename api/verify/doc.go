// Package verify judges a receipt offline: bytes, a policy and the time in, a
// verdict with its evidence out. It reads no file, opens no connection, asks no
// clock, and links neither the log nor a cluster.
//
// A verified receipt proves that exactly this document (or statement) was in
// the log, signed by these keys, not before one time and not after another, as
// seen by these witnesses. It does not prove that what was said is true, and it
// says nothing about when the document itself was made.
package verify
