// Package sequencer is the one owner of a log shard: it admits statements,
// gives them their places, and has witnesses cosign what it publishes.
//
// Each step is durable before the next one begins, so that a crash anywhere
// leaves a state that the next start understands:
//
//	1 admit: verify, identity, chain, beacon; assign index and receive time
//	2 append the entries to the log, with their identities
//	3 integrate
//	4 write bundles and tiles, recompute the root from them; PENDING
//	5 register (size, root) outside the log's store
//	6 sign exactly the registered body, persist the signed note
//	7 have a quorum of witnesses cosign it
//	8 publish the cosigned note, durably
//	9 FINAL: answer with receipts
//
// What needs no order, parsing and verifying, is done before, by as many at a
// time as there are processors; intake sends away, before anything costly is
// done, whoever finds no room. Steps 1 and 2 of a batch are done while 3 and 4 of
// the one before are, and 5 to 8 go on beside them, each on its own newest batch.
// There is nothing that a restart does not repair or refuse, so a failure whose
// outcome nobody knows ends Run.
//
// Add answers with whole receipts, one statement a call. ServeStream answers with
// receipts in parts: what many of them have in common is sent once.
//
// Trust: the submitter for nothing; the gateway for whom it admits; the store,
// the tiles and the ledger for being there; the register for being newer than
// any backup; a witness for its cosignature once it verified.
package sequencer
