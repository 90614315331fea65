package verify_test

import (
	"fmt"
	"time"

	"github.com/trialog/trialog/api/vectors"
	"github.com/trialog/trialog/api/verify"
)

// read stands for os.ReadFile.
func read(name string) []byte {
	raw, err := vectors.File(name)
	if err != nil {
		panic(err)
	}
	return raw
}

// A regulator's program: is this the protocol that was logged, who signed it,
// and when? It needs no network and no account.
func Example() {
	policy, err := verify.ParsePolicy(read("common/policy"), read("common/trust.json"))
	if err != nil {
		fmt.Println(err)
		return
	}
	verdict, err := verify.Verify(verify.Input{
		Policy:   policy,
		Receipt:  read("verify/verify-two-signers.receipt"),
		Document: read("common/protocol-2.pdf"),
		Now:      time.Date(2026, 4, 1, 0, 0, 0, 0, time.UTC),
	})
	if err != nil {
		fmt.Println("NOT VERIFIED:", err)
		return
	}
	s := verdict.Statement
	fmt.Printf("%s %s of %s, said by %s\n", s.Kind, s.Version, s.Trial, s.Organisation)
	fmt.Println("signed not before", verdict.NotBefore.Time.Format(time.RFC3339))
	fmt.Println("logged not after ", verdict.NotAfter.Time.Format(time.RFC3339))
	fmt.Printf("seen by %d of %d operators, %s\n", verdict.Inclusion.OperatorsSeen, verdict.Inclusion.Operators, verdict.Assurance)
	for _, caveat := range verdict.Caveats {
		fmt.Println("but:", caveat)
	}
	// Output:
	// protocol 2.0 of T-2026-001, said by sponsor-a
	// signed not before 2026-03-01T01:30:02Z
	// logged not after  2026-03-01T04:50:02Z
	// seen by 3 of 3 operators, independent
	// but: key status unknown: no keyring was given; not known are a revocation, and whether the enrolments were the organisation's own
}

// The same receipt beside an altered document.
func Example_altered() {
	policy, err := verify.ParsePolicy(read("common/policy"), read("common/trust.json"))
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = verify.Verify(verify.Input{
		Policy:   policy,
		Receipt:  read("verify/verify-document-altered.receipt"),
		Document: read("verify/verify-document-altered.document"),
		Now:      time.Date(2026, 4, 1, 0, 0, 0, 0, time.UTC),
	})
	fmt.Println("NOT VERIFIED:", err)
	// Output:
	// NOT VERIFIED: document: this is not the document that was logged: its SHA-256 differs
}
