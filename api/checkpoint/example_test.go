package checkpoint_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"

	"github.com/trialog/trialog/api/checkpoint"
)

// A log signs a checkpoint, two witnesses cosign it, and a policy judges it.
func Example() {
	key := func(name string, alg checkpoint.Algorithm) *checkpoint.SigningKey {
		// Real keys come from crypto/rand; these are the same every time.
		seed := sha256.Sum256([]byte(name))
		k, err := checkpoint.GenerateKey(bytes.NewReader(seed[:]), name, alg)
		if err != nil {
			panic(err)
		}
		return k
	}
	log := key("log.example/2026", checkpoint.AlgEd25519)
	uni := key("wit.example/university", checkpoint.AlgEd25519Cosignature)
	board := key("wit.example/ethics-board", checkpoint.AlgMLDSA44)

	policy, err := checkpoint.ParsePolicy(fmt.Appendf(nil, `# one log, two operators, both wanted
log %v
witness university %v
witness ethics-board %v
group both all university ethics-board
quorum both
`, log, uni, board))
	if err != nil {
		fmt.Println(err)
		return
	}

	note, err := checkpoint.SignLog(checkpoint.Checkpoint{Origin: "log.example/2026", Size: 7, Root: checkpoint.Hash{1}}, 0, log)
	if err != nil {
		fmt.Println(err)
		return
	}
	for i, witness := range []*checkpoint.SigningKey{uni, board} {
		_, err = policy.Check(note)
		fmt.Println(err)
		signature, err := witness.SignCheckpoint(note.Text(), uint64(1_800_000_000+i))
		if err != nil {
			fmt.Println(err)
			return
		}
		if note, err = note.With(signature); err != nil {
			fmt.Println(err)
			return
		}
	}
	cosigned, err := policy.Check(note)
	if err != nil {
		fmt.Println(err)
		return
	}
	notBefore, _ := cosigned.NotBefore()
	notAfter, _ := cosigned.NotAfter()
	fmt.Println(cosigned.Origin, cosigned.Size, notBefore, notAfter)

	// Output:
	// checking note: quorum not met: want all of (university, ethics-board), signed by nobody
	// checking note: quorum not met: want all of (university, ethics-board), signed by university at 1800000000
	// log.example/2026 7 1800000000 1800000001
}
