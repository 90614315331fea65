// Package gateway is the only public door of a log: the SubmissionService over
// gRPC and over REST, and the store of public documents.
//
// It is trusted for who may submit, and for nothing that a receipt proves: it
// can say "received from P", never "signed by P". What it hands on as a receipt
// it has verified offline before, by the policy that it publishes, so that a
// sequencer that errs or lies is noticed here and not years later.
//
// REST and gRPC end in the same methods of one server, behind the same checks
// of who calls, how often, and with what; they differ in spelling only.
package gateway
