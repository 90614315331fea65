// Package statement is what a submitter says and signs: an in-toto Statement v1
// (https://in-toto.io/Statement/v1) in a DSSE envelope
// (https://github.com/secure-systems-lab/dsse, protocol 1.0.2), with a predicate
// that names the log it is meant for, who says it, of which trial, as which
// kind, and its place in the writer's chain.
//
// Nothing is canonicalised: the bytes of the payload are what is signed and
// what is logged. The decoders are strict instead, so that no two readers can
// see different statements in the same bytes, and Build writes the one form
// that this library produces.
//
// A document is public (its SHA-256 stands in the statement) or sealed (only a
// salted commitment does; the Opening stays with the submitter). Kinds is the
// table that says which, for each kind of statement.
package statement
