package evidence_test

import (
	"fmt"

	"github.com/trialog/trialog/api/evidence"
	"github.com/trialog/trialog/api/internal/testlog"
)

// Two checkpoints of one size, signed by one log. Whoever has them makes a file of
// them, and whoever gets the file checks it by a policy of their own.
func ExampleVerify() {
	world := testlog.New()
	honest, forked := world.First, testlog.NewShard(world.First.Origin, testlog.Start)
	honest.AddEntry([]byte("what some were shown"))
	forked.AddEntry([]byte("what others were shown"))

	raw, err := evidence.NewFork(honest.Note(1), forked.Note(1)).Encode()
	if err != nil {
		fmt.Println(err)
		return
	}
	finding, err := evidence.Verify(raw, world.Policy())
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(finding.Conclusive, finding.Against)
	fmt.Println(finding.Sentences[0])
	// Output:
	// true [the log log.example.org/trials/2026 (run by Log Operator L)]
	// The log log.example.org/trials/2026 (run by Log Operator L) signed two different trees of the same size, 1 entry.
}
