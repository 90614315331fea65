package main

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/api/verify"
	"github.com/trialog/trialog/services/config"
	"github.com/trialog/trialog/services/internal/signing"
)

// Names of the files with the keys of a shard, in its folder of keys.
const (
	logKeyEd25519 = "log-ed25519.key"
	logKeyMLDSA   = "log-mldsa44.key"
)

// Names of the files with the other keys of a log, in the folder keys.
const (
	pendingKey  = "pending.pem"
	gatewayKey  = "gateway.pem"
	recoveryKey = "operator-recovery.pem"
	listKey     = "loglist.pem"
	trustKey    = "trust.pem"
)

// makeKeysAndPolicy makes every key, the witnesses' configurations, and the
// policy that names them all.
func makeKeysAndPolicy(l layout, s *config.Log, listen string) error {
	var policy strings.Builder
	trust := map[string]any{
		"format": verify.TrustFormat2, "log": s.Log, "logOperator": s.Operator, "acceptReceived": true,
	}
	logKeys, err := makeLogKeys(s.Shards[0].Under(l.dir).Keys, s.Shards[0].Origin)
	if err != nil {
		return err
	}
	for _, vkey := range logKeys {
		fmt.Fprintf(&policy, "log %s http://%s\n", vkey, listen)
	}
	trust["requiredLogKeys"] = logKeys
	// The witnesses' configurations name it.
	listPublic, err := makeKey(l.key(listKey))
	if err != nil {
		return err
	}
	trust["logListKeys"] = []string{base64.StdEncoding.EncodeToString(listPublic.DER())}
	operators := map[string]string{}
	var groups []string
	for n := range s.Witnesses {
		name, err := makeWitness(l, s, n+1, witnessTrust{"http://" + listen, logKeys, listPublic}, &policy)
		if err != nil {
			return err
		}
		groups = append(groups, name)
		operators[name] = s.Operator
	}
	trust["operators"] = operators
	fmt.Fprintf(&policy, "group operators 2 %s\nquorum operators\n", strings.Join(groups, " "))
	for _, k := range []struct{ file, member string }{
		{pendingKey, "pendingKeys"}, {gatewayKey, "gateways"}, {recoveryKey, ""}, {trustKey, ""},
	} {
		public, err := makeKey(l.key(k.file))
		if err != nil {
			return err
		}
		switch k.member {
		case "pendingKeys":
			trust[k.member] = []string{base64.StdEncoding.EncodeToString(public.DER())}
		case "gateways":
			trust[k.member] = []string{public.ID().String()}
		}
	}
	sidecar, err := json.MarshalIndent(trust, "", "  ")
	if err != nil {
		return err
	}
	if _, err := verify.ParsePolicy([]byte(policy.String()), sidecar); err != nil {
		return fmt.Errorf("the new policy: %w", err)
	}
	return errors.Join(
		writeNew(l.policy(), []byte(policy.String()), 0o644),
		writeNew(l.sidecar(), append(sidecar, '\n'), 0o644),
	)
}

// withShard returns policy and sidecar with the log keys of one more shard,
// behind those of the others: the order of the lines is the order of the shards.
// What is in them already is left as it is; other keys of the shard are refused.
func withShard(policy, sidecar []byte, origin string, logKeys []string, url string) (newPolicy, newSidecar []byte, err error) {
	notes, err := checkpoint.ParsePolicy(policy)
	if err != nil {
		return nil, nil, err
	}
	for _, known := range notes.Logs() {
		if known.Key.Name() == origin && !slices.Contains(logKeys, known.Key.String()) {
			return nil, nil, fmt.Errorf("the policy names another key of %s: its keys were lost; put them back, or take another name", origin)
		}
	}
	lines := strings.Split(strings.TrimSuffix(string(policy), "\n"), "\n")
	last := -1
	for i, line := range lines {
		if strings.HasPrefix(line, "log ") {
			last = i
		}
	}
	var trust map[string]any
	dec := json.NewDecoder(bytes.NewReader(sidecar))
	dec.UseNumber()
	if err := dec.Decode(&trust); err != nil {
		return nil, nil, fmt.Errorf("the policy's sidecar: %w", err)
	}
	if trust == nil {
		return nil, nil, errors.New("the policy's sidecar: expected an object")
	}
	required, _ := trust["requiredLogKeys"].([]any) // ParsePolicy below says what is wrong with another one
	for _, vkey := range logKeys {
		if !bytes.Contains(policy, []byte("log "+vkey+" ")) {
			last++
			lines = slices.Insert(lines, last, "log "+vkey+" "+url)
		}
		if !slices.Contains(required, any(vkey)) {
			required = append(required, vkey)
		}
	}
	trust["requiredLogKeys"] = required
	newPolicy = []byte(strings.Join(lines, "\n") + "\n")
	newSidecar, err = json.MarshalIndent(trust, "", "  ")
	if err != nil {
		return nil, nil, err
	}
	if _, err := verify.ParsePolicy(newPolicy, newSidecar); err != nil {
		return nil, nil, fmt.Errorf("the policy with the new shard: %w", err)
	}
	return newPolicy, append(newSidecar, '\n'), nil
}

// makeLogKeys makes the keys that sign a shard's checkpoints, unless they are
// there, and returns their verifier keys.
func makeLogKeys(dir, origin string) ([]string, error) {
	var vkeys []string
	for _, k := range []struct {
		file string
		alg  checkpoint.Algorithm
	}{{logKeyEd25519, checkpoint.AlgEd25519}, {logKeyMLDSA, checkpoint.AlgMLDSA44}} {
		path := filepath.Join(dir, k.file)
		vkey, err := knownLogKey(path, origin, k.alg)
		if vkey == nil && err == nil {
			vkey, err = signing.MakeNoteKey(path, origin, k.alg)
		}
		if err != nil {
			return nil, err
		}
		vkeys = append(vkeys, vkey.String())
	}
	return vkeys, nil
}

// makeKey makes a key that signs statements, unless a reference file says where it
// is.
func makeKey(path string) (*statement.PublicKey, error) {
	if known, err := referencedKey(path); known != nil || err != nil {
		return known, err
	}
	k, err := statement.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	pem, err := k.EncodePEM()
	if err != nil {
		return nil, err
	}
	return k.Public(), writeNew(path, pem, 0o600)
}
