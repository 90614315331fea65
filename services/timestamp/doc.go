// Package timestamp is an RFC 3161 time-stamp authority that issues a token only
// while it can show that its clock is right, and has every token that leaves it
// recorded first, and logged later.
//
// Who trusts what: a verifier trusts the authority's key for the time in a token.
// The sources of time are trusted by majority, and only to stop the authority or
// let it go on: none of them sets its clock. The state file is trusted to keep
// the records until they are logged; if an older copy is put in its place, serial
// numbers stay unique and growing, and tokens that were logged already may be
// logged once more. The log is trusted for nothing: what it answers is verified.
//
// A thief of the key can make tokens of any time. They are in no log, and that is
// how they are told from those of the authority.
package timestamp
