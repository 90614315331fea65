package generate

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha3"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/entry"
	"github.com/trialog/trialog/api/loglist"
	"github.com/trialog/trialog/api/receipt"
	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/api/vectors"
	"github.com/trialog/trialog/api/verify"
)

// Outcome is what an operation gave.
type Outcome struct {
	// Err is why the input was refused, nil if it was accepted.
	Err error
	// Link and Field are as in vectors.Vector.
	Link, Field string
	Values      map[string]string
	Verdict     []byte // of op verify
}

// inputs reads the inputs of one vector; the first error sticks.
type inputs struct {
	v    vectors.Vector
	file func(name string) ([]byte, error)
	err  error
}

// get returns the content of an input, nil if the vector has none by that name.
func (in *inputs) get(name string) []byte {
	path, ok := in.v.Inputs[name]
	if !ok || in.err != nil {
		return nil
	}
	raw, err := in.file(path)
	in.err = err
	if raw == nil {
		raw = []byte{} // an empty file is there
	}
	return raw
}

// Run carries out the operation of a vector by the packages of api. The error
// is about the vector, not about its outcome.
func Run(v vectors.Vector, file func(name string) ([]byte, error)) (*Outcome, error) {
	in := &inputs{v: v, file: file}
	run, ok := operations()[v.Op]
	if !ok {
		return nil, fmt.Errorf("unknown operation %q", v.Op)
	}
	out := &Outcome{Values: map[string]string{}}
	out.Err = run(in, out)
	if in.err != nil {
		return nil, in.err
	}
	if out.Err == nil {
		return out, nil
	}
	out.Values = nil
	var failure *verify.Failure
	var field *statement.FieldError
	var format *checkpoint.FormatError
	switch {
	case errors.As(out.Err, &failure):
		out.Link = string(failure.Link)
	case errors.As(out.Err, &field):
		out.Field = field.Field
	case errors.As(out.Err, &format):
		out.Field = format.Object
		if format.Line > 0 {
			out.Field += fmt.Sprintf(", line %d", format.Line)
		}
	}
	return out, nil
}

func operations() map[string]func(*inputs, *Outcome) error {
	return map[string]func(*inputs, *Outcome) error{
		"verify": runVerify, "payload": runPayload, "envelope": runEnvelope, "identity": runIdentity, "key": runKey,
		"signature": runSignature, "commit": runCommit, "opening": runOpening, "entry": runEntry, "checkpoint": runCheckpoint,
		"vkey": runVkey, "policy": runPolicy, "cosigned": runCosigned, "tlog-proof": runProof, "receipt": runReceipt,
		"record": runRecord, "batch": runBatch, "request": runRequest, "pending": runPending,
		"loglist": runLogList, "loglist-follows": runLogListFollows,
		"token":        runToken,
		"trust-bundle": runTrustBundle, "trust-bundle-follows": runTrustBundleFollows,
		"evidence": runEvidence,
	}
}

func runVerify(in *inputs, out *Outcome) error {
	policy, err := verify.ParsePolicy(in.get("policy"), in.get("trust"))
	if err != nil {
		return err
	}
	now, err := time.Parse(time.RFC3339, in.v.Args["now"])
	if err != nil {
		return err
	}
	verdict, err := verify.Verify(verify.Input{
		Policy: policy, Receipt: in.get("receipt"), Document: in.get("document"), Opening: in.get("opening"),
		Keyring: in.get("keyring"), StatementOnly: in.v.Args["statementOnly"] == "true", Now: now,
	})
	if err != nil {
		return err
	}
	raw, err := json.MarshalIndent(verdict, "", " ")
	if err != nil {
		return err
	}
	out.Verdict = slices.Concat(raw, []byte("\n"))
	return nil
}

func runPayload(in *inputs, out *Outcome) error {
	payload := in.get("payload")
	s, err := statement.Decode(payload)
	if err != nil {
		return err
	}
	out.Values["identity"] = s.Identity(payload).String()
	out.Values["organisation"] = s.Organisation
	out.Values["kind"] = string(s.Kind)
	out.Values["grade"] = string(s.Grade())
	out.Values["writer"] = s.Writer().String()
	out.Values["chainNumber"] = strconv.FormatUint(s.Chain.Number, 10)
	return nil
}

func runEnvelope(in *inputs, out *Outcome) error {
	e, err := statement.ParseEnvelope(in.get("envelope"))
	if err != nil {
		return err
	}
	sum := sha256.Sum256(statement.PAE(statement.PayloadType, e.Payload))
	out.Values["payloadBytes"] = strconv.Itoa(len(e.Payload))
	out.Values["signatures"] = strconv.Itoa(len(e.Signatures))
	out.Values["paeSha256"] = hex.EncodeToString(sum[:])
	return nil
}

func runIdentity(in *inputs, out *Outcome) error {
	var signers []statement.KeyID
	for text := range strings.SplitSeq(in.v.Args["signers"], " ") {
		id, err := statement.ParseDigest(text)
		if err != nil {
			return err
		}
		signers = append(signers, id)
	}
	out.Values["identity"] = statement.Identify(in.get("payload"), signers).String()
	return nil
}

func runKey(in *inputs, out *Outcome) error {
	k, err := statement.ParsePublicKey(in.get("key"))
	if err != nil {
		return err
	}
	out.Values["id"] = k.ID().String()
	out.Values["algorithm"] = k.Algorithm()
	return nil
}

func runSignature(in *inputs, _ *Outcome) error {
	k, err := statement.ParsePublicKey(in.get("key"))
	if err != nil {
		return err
	}
	return k.Verify(in.get("message"), in.get("signature"))
}

func runRequest(in *inputs, out *Outcome) error {
	out.Values["request"] = statement.RequestDigest(in.v.Args["principal"], in.v.Args["requestId"]).String()
	return nil
}

func runPending(in *inputs, out *Outcome) error {
	policy, err := verify.ParsePolicy(in.get("policy"), in.get("trust"))
	if err != nil {
		return err
	}
	p, err := receipt.ParsePending(in.get("pending"), policy.Trust().PendingKeys...)
	if err != nil {
		return err
	}
	out.Values["log"] = p.Log
	out.Values["origin"] = p.Origin
	out.Values["identity"] = p.Identity.String()
	out.Values["index"] = strconv.FormatUint(p.Index, 10)
	out.Values["leafHash"] = p.LeafHash.String()
	out.Values["receivedMillis"] = strconv.FormatInt(p.Received.UnixMilli(), 10)
	out.Values["deadlineMillis"] = strconv.FormatInt(p.Deadline.UnixMilli(), 10)
	return nil
}

// logList reads a signed log list, and the key that must have signed it.
func logList(in *inputs, name string) (*loglist.List, error) {
	key, err := statement.ParsePublicKey(in.get("key"))
	if err != nil {
		return nil, err
	}
	return loglist.Parse(in.get(name), key)
}

func runLogList(in *inputs, out *Outcome) error {
	l, err := logList(in, "list")
	if err != nil {
		return err
	}
	out.Values["log"] = l.Log
	out.Values["version"] = strconv.FormatUint(l.Version, 10)
	out.Values["issuedMillis"] = strconv.FormatInt(l.Issued.UnixMilli(), 10)
	out.Values["shards"] = strconv.Itoa(len(l.Shards))
	if active := l.Active(); active != nil {
		out.Values["active"] = active.Origin
	}
	return nil
}

func runLogListFollows(in *inputs, _ *Outcome) error {
	before, err := logList(in, "old")
	if err != nil {
		return err
	}
	next, err := logList(in, "next")
	if err != nil {
		return err
	}
	return loglist.Follows(before, next)
}

func runCommit(in *inputs, out *Outcome) error {
	nonce, err := statement.ParseDigest(in.v.Args["nonce"])
	if err != nil {
		return err
	}
	document, args := in.get("document"), in.v.Args
	sum2, sum3 := statement.Digest(sha256.Sum256(document)), statement.Digest(sha3.Sum256(document))
	c := statement.Context{Organisation: args["organisation"], Trial: args["trial"], Kind: statement.Kind(args["kind"])}
	out.Values["sha256"] = sum2.String()
	out.Values["sha3-256"] = sum3.String()
	out.Values["commitment"] = statement.Commit(c, nonce, sum2, sum3, args["mediaType"]).String()
	return nil
}

func runOpening(in *inputs, out *Outcome) error {
	o, err := statement.ParseOpening(in.get("opening"))
	if err != nil {
		return err
	}
	if o.MediaType != "" {
		out.Values["document"] = o.Commitment().String()
	}
	if c := o.AttributesCommitment(); !c.IsZero() {
		out.Values["attributes"] = c.String()
	}
	return nil
}

func runEntry(in *inputs, out *Outcome) error {
	raw := in.get("entry")
	e, err := entry.Parse(raw)
	if err != nil {
		return err
	}
	leaf := entry.LeafHash(raw)
	out.Values["receivedMs"] = strconv.FormatInt(e.Received.UnixMilli(), 10)
	out.Values["leafHash"] = hex.EncodeToString(leaf[:])
	return nil
}

func runCheckpoint(in *inputs, out *Outcome) error {
	n, err := checkpoint.Parse(in.get("note"))
	if err != nil {
		return err
	}
	c, digest, text := n.Checkpoint(), n.Digest(), sha256.Sum256(n.Text())
	out.Values["origin"] = c.Origin
	out.Values["size"] = strconv.FormatUint(c.Size, 10)
	out.Values["root"] = hex.EncodeToString(c.Root[:])
	out.Values["signatures"] = strconv.Itoa(len(n.Signatures()))
	out.Values["sha256"] = hex.EncodeToString(digest[:])
	out.Values["textSha256"] = hex.EncodeToString(text[:])
	return nil
}

func runVkey(in *inputs, out *Outcome) error {
	k, err := checkpoint.ParseVerifierKey(string(bytes.TrimSuffix(in.get("vkey"), []byte("\n"))))
	if err != nil {
		return err
	}
	out.Values["name"] = k.Name()
	out.Values["id"] = fmt.Sprintf("%08x", k.ID())
	out.Values["type"] = fmt.Sprintf("%02x", byte(k.Algorithm()))
	return nil
}

func runPolicy(in *inputs, out *Outcome) error {
	p, err := verify.ParsePolicy(in.get("policy"), in.get("trust"))
	if err != nil {
		return err
	}
	var names []string
	for _, op := range p.Notes().Operators() {
		names = append(names, op.Name)
	}
	out.Values["fingerprint"] = p.Fingerprint()
	out.Values["operators"] = strings.Join(names, " ")
	return nil
}

func runCosigned(in *inputs, out *Outcome) error {
	p, err := verify.ParsePolicy(in.get("policy"), in.get("trust"))
	if err != nil {
		return err
	}
	c, err := p.CheckNote(in.get("note"))
	if err != nil {
		return err
	}
	for name, bound := range map[string]func() (uint64, bool){"notBefore": c.NotBefore, "notAfter": c.NotAfter} {
		if t, ok := bound(); ok {
			out.Values[name] = strconv.FormatUint(t, 10)
		}
	}
	out.Values["operatorsSeen"] = strconv.Itoa(len(c.Operators()))
	return nil
}

func runProof(in *inputs, out *Outcome) error {
	p, err := receipt.ParseProof(in.get("proof"))
	if err != nil {
		return err
	}
	out.Values["index"] = strconv.FormatUint(p.Index, 10)
	out.Values["hashes"] = strconv.Itoa(len(p.Path))
	out.Values["size"] = strconv.FormatUint(p.Note.Checkpoint().Size, 10)
	return nil
}

func runReceipt(in *inputs, out *Outcome) error {
	r, err := receipt.Parse(in.get("receipt"))
	if err != nil {
		return err
	}
	leaf := entry.LeafHash(r.Entry)
	out.Values["index"] = strconv.FormatUint(r.Proof.Index, 10)
	out.Values["leafHash"] = hex.EncodeToString(leaf[:])
	out.Values["enrolments"] = strconv.Itoa(len(r.Enrolments))
	out.Values["tokens"] = strconv.Itoa(len(r.Tokens))
	return nil
}

func runRecord(in *inputs, out *Outcome) error {
	raw := in.get("record")
	r, err := statement.ParseRecord(raw)
	if err != nil {
		return err
	}
	leaf := entry.LeafHash(raw) // RFC 6962 leaf hashes are the same everywhere
	out.Values["type"] = r.Type
	out.Values["bodyBytes"] = strconv.Itoa(len(r.Body))
	out.Values["leafHash"] = hex.EncodeToString(leaf[:])
	return nil
}

func runBatch(in *inputs, out *Outcome) error {
	records := make([][]byte, 0, len(in.v.Inputs))
	for i := range len(in.v.Inputs) {
		records = append(records, in.get(fmt.Sprintf("record-%d", i)))
	}
	root, err := statement.BatchRoot(records)
	if err != nil {
		return err
	}
	index, err := strconv.Atoi(in.v.Args["index"])
	if err != nil {
		return err
	}
	path, err := statement.BatchPath(records, index)
	if err != nil {
		return err
	}
	hashes := make([]string, len(path))
	for i, h := range path {
		hashes[i] = hex.EncodeToString(h)
	}
	out.Values["root"] = root.String()
	out.Values["path"] = strings.Join(hashes, " ")
	return nil
}
