package trustbundle

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/trialog/trialog/api/loglist"
	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/api/verify"
)

// HistoryError says what a bundle changes that no bundle may change, or who has
// not vouched for it.
type HistoryError struct {
	// Part is what of the bundle it is about, such as "signatures" or "policy".
	Part   string
	Reason string
}

// Error implements error.
func (e *HistoryError) Error() string { return e.Part + ": " + e.Reason }

func broken(part, format string, args ...any) error {
	return &HistoryError{Part: part, Reason: fmt.Sprintf(format, args...)}
}

// Follows returns nil if next may take the place of old: FollowsContent, and next is
// signed by as many of old's signers as old asks for (Parse has counted its own). It
// says nothing about time; see Update.
func Follows(old, next *Bundle) error {
	if err := FollowsContent(&old.Draft, &next.Draft); err != nil {
		return err
	}
	o := &old.content
	vouched, err := next.SignedBy(next.sigs, o.Signers)
	if err != nil {
		return err
	}
	if len(vouched) < o.Threshold {
		return broken("signatures", "%d of the signers of version %d signed it, expected %d", len(vouched), o.Version, o.Threshold)
	}
	return nil
}

// FollowsContent returns nil if what next says may follow what old says: a greater
// version of the same log's bundle that names old as the one before, was not issued
// earlier, and takes back nothing that old says of the past. See FollowsPolicy for
// the policy; the log list follows that of old; the keyring was read at least as
// far, holds every key as it was, and every revocation; it is the same if it was read
// no further. The error is a
// *HistoryError, or a *loglist.HistoryError inside.
func FollowsContent(old, next *Draft) error {
	o, n := &old.content, &next.content
	switch {
	case n.Log != o.Log:
		return broken("log", "is %q, not %q", n.Log, o.Log)
	case n.Version <= o.Version:
		return broken("version", "is %d, expected more than %d", n.Version, o.Version)
	case n.Previous != old.Digest():
		return broken("previous", "names another bundle than version %d, which is held", o.Version)
	case n.Issued.Before(o.Issued):
		return broken("issuedMillis", "is before that of version %d", o.Version)
	}
	if err := FollowsPolicy(old.policy, next.policy); err != nil {
		return err
	}
	if err := followsKeyring(next.policy, old.keyring, next.keyring); err != nil {
		return err
	}
	return followsList(old, next)
}

// followsList holds the log lists against each other.
func followsList(old, next *Draft) error {
	switch {
	case old.list == nil:
		return nil
	case next.list == nil:
		return broken("logList", "is missing, and was there")
	case next.list.Version == old.list.Version:
		// The same version is the same list, or its signer has signed two.
		if a, b := encoded(old.list), encoded(next.list); a == "" || a != b {
			return broken("logList", "is another list of version %d", next.list.Version)
		}
		return nil
	}
	if err := loglist.Follows(old.list, next.list); err != nil {
		return fmt.Errorf("logList: %w", err)
	}
	return nil
}

func encoded(l *loglist.List) string {
	payload, err := l.Encode()
	if err != nil {
		return "" // it was decoded: this cannot be
	}
	return string(payload)
}

// followsKeyring holds the keyrings against each other: an older one would not
// know what was revoked since.
func followsKeyring(policy *verify.Policy, old, next *verify.Keyring) error {
	switch {
	case old == nil:
		return nil
	case next == nil:
		return broken("keyring", "is missing, and was there")
	}
	was, is := place(policy, old.Origin), place(policy, next.Origin)
	if is < was || is == was && next.Size < old.Size {
		return broken("keyring", "ends at %d of %s, the one before at %d of %s", next.Size, next.Origin, old.Size, old.Origin)
	}
	if is == was && next.Size == old.Size && !slices.Equal(old.Keys, next.Keys) {
		return broken("keyring", "is another keyring as of entry %d of %s", old.Size, old.Origin)
	}
	now := make(map[statement.KeyID]verify.KeyringKey, len(next.Keys))
	for _, k := range next.Keys {
		now[k.Key] = k
	}
	for _, k := range old.Keys {
		found, ok := now[k.Key]
		switch {
		case !ok || found.Organisation != k.Organisation || found.Origin != k.Origin || found.Enrolled != k.Enrolled:
			return broken("keyring", "does not hold key %s as it was enrolled", k.Key)
		case k.Revoked && !found.Revoked:
			return broken("keyring", "does not hold the revocation of key %s", k.Key)
		}
	}
	return nil
}

// ahead is by how much the clocks of those who issue a bundle and of those who
// take it may differ.
const ahead = 5 * time.Minute

// ErrExpired says that a bundle is too old for an update: its own keys may have
// been lost since, and nobody would know. What it verifies, it goes on to verify.
// A new bundle is taken by its fingerprint, as the first one was.
var ErrExpired = errors.New("has expired")

// Update goes from the bundle that is held to the last one of chain, each of which
// must follow the one before, and returns that. Neither held nor the last one may
// have expired at now; those between may. None may be dated ahead of now, or it
// would keep out those that are issued meanwhile.
func Update(held *Bundle, now time.Time, chain ...*Bundle) (*Bundle, error) {
	if len(chain) == 0 {
		return nil, errors.New("update the trust bundle: there is no newer one")
	}
	if held.Expired(now) {
		return nil, fmt.Errorf("update the trust bundle: version %d, which is held, %w", held.content.Version, ErrExpired)
	}
	for _, next := range chain {
		if next.content.Issued.After(now.Add(ahead)) {
			return nil, fmt.Errorf("update the trust bundle: version %d: %w", next.content.Version,
				broken("issuedMillis", "is %s, which is to come", next.content.Issued.Format(time.RFC3339)))
		}
		if err := Follows(held, next); err != nil {
			return nil, fmt.Errorf("update the trust bundle to version %d: %w", next.content.Version, err)
		}
		held = next
	}
	if held.Expired(now) {
		return nil, fmt.Errorf("update the trust bundle: version %d %w", held.content.Version, ErrExpired)
	}
	return held, nil
}
