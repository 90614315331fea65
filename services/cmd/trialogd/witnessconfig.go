package main

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/services/config"
	"github.com/trialog/trialog/services/internal/signing"
	"github.com/trialog/trialog/services/witness/command"
)

// witnessTrust is what the witnesses of a log on one machine are told about it.
type witnessTrust struct {
	url     string // of the log
	logKeys []string
	list    *statement.PublicKey // signs the log list
}

// witnessAnswers is how many of a witness's sources must answer at its start: the
// log and the two others, of which one may be away. So it does not matter that the
// log has another address than the one that it was made with.
const witnessAnswers = 2

// makeWitness makes one witness's keys and configuration and adds its lines to
// the policy. It returns the name of its operator's group. Shards that come later
// are in the log list, which is in the log's own folder.
func makeWitness(l layout, s *config.Log, n int, trust witnessTrust, policy *strings.Builder) (string, error) {
	group := fmt.Sprintf("witness-%d", n)
	name := fmt.Sprintf("%s/%s", s.Log, group)
	address := s.Witnesses[n-1]
	list, err := filepath.Rel(l.witness(n), l.logList())
	if err != nil {
		return "", err
	}
	c := config.Witness{
		Listen: address, Name: name, StateFile: "witness.state",
		Logs: []config.WitnessLog{{
			Origin: s.Shards[0].Origin, Keys: trust.logKeys, URL: trust.url + "/shards/" + s.Shards[0].Name(),
		}},
		LogLists:   []config.WitnessLogList{{File: list, Log: s.Log, Keys: []string{base64.StdEncoding.EncodeToString(trust.list.DER())}}},
		Quarantine: &config.WitnessQuarantine{Answers: witnessAnswers, FreshAnswers: witnessAnswers},
	}
	for other, address := range s.Witnesses {
		if other != n-1 {
			c.Peers = append(c.Peers, "http://"+address)
		}
	}
	var members []string
	for _, k := range command.KeyKinds() {
		vkey, err := signing.MakeNoteKey(l.witness(n, k.Suffix+".key"), name, k.Algorithm)
		if err != nil {
			return "", err
		}
		c.KeyFiles = append(c.KeyFiles, k.Suffix+".key")
		member := group + "-" + k.Suffix
		members = append(members, member)
		fmt.Fprintf(policy, "witness %s %s http://%s\n", member, vkey, address)
	}
	fmt.Fprintf(policy, "group %s any %s\n", group, strings.Join(members, " "))
	raw, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return "", err
	}
	if _, err := config.ParseWitness(raw); err != nil {
		return "", err
	}
	return group, writeNew(l.witness(n, "witness.json"), append(raw, '\n'), 0o600)
}

// followShard makes a witness's configuration name one more shard, unless it
// follows the log list: logs that are older than the list have such witnesses.
func followShard(path, origin string, logKeys []string) error {
	raw, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	c, err := config.ParseWitness(raw)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	for _, known := range c.Logs {
		if known.Origin == origin && slices.Equal(known.Keys, logKeys) {
			return nil
		} else if known.Origin == origin {
			return fmt.Errorf("%s: names other keys of %s: its keys were lost; put them back, or take another name", path, origin)
		}
	}
	if len(c.LogLists) > 0 {
		return nil
	}
	c.Logs = append(c.Logs, config.WitnessLog{Origin: origin, Keys: logKeys})
	if err := c.Validate(); err != nil {
		return err
	}
	if raw, err = json.MarshalIndent(c, "", "  "); err != nil {
		return err
	}
	return replace(path, append(raw, '\n'), 0o600)
}
