// Package parts reads receipts that a log sends in parts, on a stream of many
// (SubmitStream in proto/trialog/v1/submission.proto): what receipts have in
// common, a checkpoint, a beacon, an enrolment, is sent once, and each answer
// refers to it by number.
//
// A Checker holds answers against the policy and the envelopes that were sent:
// each checkpoint note is judged once, when it arrives, and each inclusion path
// leads to its root or the answer is refused. An Assembler does the same and
// makes the receipts whole again, to the bytes that the log would have written
// into one .receipt file.
//
// A Checker does not read statements. So what it lets pass proves that the
// envelope is in a tree that a quorum has cosigned, and no more: that the signers
// were enrolled, that their signatures hold and that the beacon is the one that
// the statement names is for package verify to say, of the assembled receipt.
package parts
