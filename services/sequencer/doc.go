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
// Steps 1 to 4 are the work of the writer, 5 to 8 of the publisher; they run at
// the same time, each on its own newest batch. There is nothing that a restart
// does not repair or refuse, so a failure whose outcome nobody knows ends Run.
//
// Trust: the submitter for nothing; the gateway for whom it admits; the store,
// the tiles and the ledger for being there; the register for being newer than
// any backup; a witness for its cosignature once it verified.
package sequencer
