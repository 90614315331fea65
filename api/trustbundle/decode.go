package trustbundle

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"slices"
	"time"

	"github.com/trialog/trialog/api/internal/strictjson"
	"github.com/trialog/trialog/api/loglist"
	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/api/verify"
)

// maxCommas is more than the payload of any bundle has.
const maxCommas = 1 << 10

func digestOf(payload []byte) statement.Digest { return sha256.Sum256(payload) }

// Decode reads the payload of a trust bundle strictly, with everything that is in
// it: the policy is one, the keyring is signed by an auditor that the policy
// names, the log list by a key that the policy names, and all are of one log. It
// verifies no signature of the bundle itself; see Parse.
func Decode(payload []byte) (*Draft, error) {
	// Long bundles have long members, not many: others are not worth the memory.
	if bytes.Count(payload, []byte(",")) > maxCommas {
		return nil, fmt.Errorf("trust bundle: %w", strictjson.Errorf("", "has more members than a trust bundle may have"))
	}
	o, err := strictjson.ParseObject(payload)
	if err != nil {
		return nil, fmt.Errorf("trust bundle: %w", err)
	}
	if got := o.Text("format"); got != Format {
		o.Fail("format", "expected %q", Format)
	}
	d := &Draft{payload: bytes.Clone(payload), content: Content{
		Log: o.Text("log"), Version: o.Unsigned("version"), Issued: millis(o, "issuedMillis"), Expires: millis(o, "expiresMillis"),
	}}
	c := &d.content
	o.Take(statement.CheckLog("log", c.Log))
	if c.Version == 0 {
		o.Fail("version", "expected at least 1")
	}
	if !c.Expires.After(c.Issued) {
		o.Fail("expiresMillis", "expected a time after issuedMillis")
	}
	c.readPrevious(o)
	c.readSigners(o)
	c.PolicyText = base64Text(o, "policy", o.Text("policy"))
	c.Sidecar = base64Text(o, "sidecar", o.Text("sidecar"))
	if text := o.OptionalText("keyring"); text != "" {
		c.KeyringRaw = base64Text(o, "keyring", text)
	}
	if text := o.OptionalText("logList"); text != "" {
		c.LogListRaw = base64Text(o, "logList", text)
	}
	if err := o.Done(); err != nil {
		return nil, fmt.Errorf("trust bundle: %w", err)
	}
	if err := d.readParts(); err != nil {
		return nil, fmt.Errorf("trust bundle: %w", err)
	}
	return d, nil
}

// millis reads a time in ms since 1970, up to the end of the year 9999.
func millis(o *strictjson.Object, name string) time.Time {
	t := time.UnixMilli(int64(o.Unsigned(name))).UTC() //nolint:gosec // at most 2^53-1
	if t.Year() > 9999 {
		o.Fail(name, "expected a time up to the end of the year 9999")
	}
	return t
}

// base64Text reads the value of member name, standard base64 in its one form.
func base64Text(o *strictjson.Object, name, text string) []byte {
	raw, ok := strictjson.Base64(text)
	if !ok || len(raw) == 0 {
		o.Fail(name, "expected standard base64 with padding, not empty")
	}
	return raw
}

// readPrevious reads the digest of the bundle before.
func (c *Content) readPrevious(o *strictjson.Object) {
	text := o.OptionalText("previous")
	switch {
	case text == "" && c.Version > 1:
		o.Fail("previous", "missing, expected the fingerprint of the bundle before")
	case text != "" && c.Version == 1:
		o.Fail("previous", "there is no bundle before version 1")
	case text != "":
		var err error
		if c.Previous, err = statement.ParseDigest(text); err != nil || c.Previous.IsZero() {
			o.Fail("previous", "expected 64 lower-case hexadecimal digits, not all of them zero")
		}
	}
}

// readSigners reads who may sign, and how many must.
func (c *Content) readSigners(o *strictjson.Object) {
	items := o.Required("signers", strictjson.Array).Items
	if len(items) < 1 || len(items) > MaxSigners {
		o.Fail("signers", "expected 1 to %d keys, found %d", MaxSigners, len(items))
		items = nil
	}
	for i, item := range items {
		name := fmt.Sprintf("signers[%d]", i)
		if item.Kind != strictjson.String {
			o.Fail(name, "expected a string, found %s", item.Kind)
			return
		}
		key, err := statement.ParsePublicKey(base64Text(o, name, item.Text))
		if err != nil {
			o.Fail(name, "expected the base64 of a SubjectPublicKeyInfo: %s", err)
			return
		}
		if slices.ContainsFunc(c.Signers, func(k *statement.PublicKey) bool { return k.ID() == key.ID() }) {
			o.Fail(name, "is there twice")
		}
		c.Signers = append(c.Signers, key)
	}
	n := o.Unsigned("threshold")
	if n < 1 || n > uint64(len(items)) {
		o.Fail("threshold", "expected 1 to %d, the number of signers", len(items))
		return
	}
	c.Threshold = int(n) //nolint:gosec // at most MaxSigners
}

// readParts reads what the bundle holds.
func (d *Draft) readParts() error {
	c := &d.content
	var err error
	if d.policy, err = verify.ParsePolicy(c.PolicyText, c.Sidecar); err != nil {
		return err
	}
	trust := d.policy.Trust()
	if trust.Log != c.Log {
		return strictjson.Errorf("log", "is %q, the policy is about %q", c.Log, trust.Log)
	}
	if c.KeyringRaw != nil {
		if d.keyring, err = verify.ParseKeyring(c.KeyringRaw, trust.Auditors); err != nil {
			return fmt.Errorf("keyring: %w", err)
		}
		if d.keyring.Log != c.Log || place(d.policy, d.keyring.Origin) < 0 {
			return strictjson.Errorf("keyring", "is of shard %q of log %q, which the policy does not know", d.keyring.Origin, d.keyring.Log)
		}
	}
	if c.LogListRaw != nil {
		if d.list, err = loglist.Parse(c.LogListRaw, trust.LogListKeys...); err != nil {
			return fmt.Errorf("logList: %w", err)
		}
		if d.list.Log != c.Log {
			return strictjson.Errorf("logList", "is of log %q", d.list.Log)
		}
	}
	return nil
}
