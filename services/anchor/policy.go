package anchor

import (
	"fmt"
	"strings"

	"github.com/trialog/trialog/api/checkpoint"
)

// WitnessPolicy returns the policy of a pool that asks the witnesses: the log's
// keys, and all witnesses in one quorum, so that as many as answer in time are
// gathered. It judges nothing that goes out.
func WitnessPolicy(logs []checkpoint.LogEntry, witnesses []Witness) (*checkpoint.Policy, error) {
	var text strings.Builder
	for _, l := range logs {
		fmt.Fprintf(&text, "log %s\n", l.Key)
	}
	var members []string
	for i, w := range witnesses {
		for j, key := range w.Keys {
			// Names of lines must not meet with the words of the format.
			member := fmt.Sprintf("w%d-%d", i, j)
			members = append(members, member)
			fmt.Fprintf(&text, "witness %s %s %s\n", member, key, w.URL)
		}
	}
	fmt.Fprintf(&text, "group asked all %s\nquorum asked\n", strings.Join(members, " "))
	p, err := checkpoint.ParsePolicy([]byte(text.String()))
	if err != nil {
		return nil, fmt.Errorf("anchor: the witnesses: %w", err)
	}
	return p, nil
}
