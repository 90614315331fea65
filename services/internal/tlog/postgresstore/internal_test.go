package postgresstore

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/google/trillian"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/trialog/trialog/services/internal/tlog"
)

// TestEncodeLeaves compares with bytes that were written down from PostgreSQL's
// description of the format.
func TestEncodeLeaves(t *testing.T) {
	id, hash := make([]byte, 32), make([]byte, 32)
	id[0], hash[31] = 0xaa, 0xbb
	l := &trillian.LogLeaf{LeafIndex: 7, LeafIdentityHash: id, MerkleLeafHash: hash, LeafValue: []byte("v")}
	extra := &trillian.LogLeaf{LeafIndex: 8, LeafIdentityHash: id, MerkleLeafHash: hash, ExtraData: []byte{}}
	data, places := encodeLeaves(3, []*trillian.LogLeaf{l, extra}, 5)
	const (
		header = "5047434f50590aff0d0a00" + "00000000" + "00000000"
		tree   = "00000008" + "0000000000000003"
		queued = "00000008" + "0000000000000005"
		seven  = "00000008" + "0000000000000007"
		eight  = "00000008" + "0000000000000008"
		zero   = "00000008" + "0000000000000000"
		null   = "ffffffff"
		empty  = "00000000"
	)
	idField := "00000020" + hex.EncodeToString(id)
	hashField := "00000020" + hex.EncodeToString(hash)
	for _, c := range []struct{ name, got, want string }{
		{
			"LeafData", hex.EncodeToString(data),
			header + "0006" + tree + idField + "00000001" + "76" + null + queued + seven +
				"0006" + tree + idField + empty + empty + queued + eight + "ffff",
		},
		{
			"SequencedLeafData", hex.EncodeToString(places),
			header + "0005" + tree + seven + idField + hashField + zero + "0005" + tree + eight + idField + hashField + zero + "ffff",
		},
	} {
		if c.got != c.want {
			t.Errorf("%s:\n%s, want\n%s", c.name, c.got, c.want)
		}
	}
}

// TestClassify says of each error what was stored and whether to try again.
func TestClassify(t *testing.T) {
	pg := func(severity, code string) error {
		return fmt.Errorf("secret: %w", &pgconn.PgError{Severity: "übersetzt", SeverityUnlocalized: severity, Code: code, Message: "secret", Detail: "secret"})
	}
	broken := &net.OpError{Op: "read", Err: errors.New("secret")}
	for _, c := range []struct {
		name     string
		err      error
		kind     error // before a commit
		again    bool
		inCommit error
	}{
		{"connection", broken, tlog.ErrUnavailable, true, tlog.ErrUnknownOutcome},
		{"cancelled", fmt.Errorf("secret: %w", context.Canceled), context.Canceled, false, tlog.ErrUnknownOutcome},
		{"deadline", fmt.Errorf("secret: %w", context.DeadlineExceeded), context.DeadlineExceeded, false, tlog.ErrUnknownOutcome},
		{"serialization", pg("ERROR", "40001"), tlog.ErrUnavailable, true, tlog.ErrUnavailable},
		{"deadlock", pg("ERROR", "40P01"), tlog.ErrUnavailable, true, tlog.ErrUnavailable},
		{"fenced", pg("ERROR", "TL001"), tlog.ErrOwned, false, tlog.ErrOwned},
		{"shut down", pg("FATAL", "57P01"), tlog.ErrUnavailable, true, tlog.ErrUnknownOutcome},
		{"crash of another backend", pg("FATAL", "57P02"), tlog.ErrUnavailable, true, tlog.ErrUnknownOutcome},
		{"panic", pg("PANIC", "53100"), tlog.ErrUnavailable, true, tlog.ErrUnknownOutcome},
		{"too many connections", pg("FATAL", "53300"), tlog.ErrUnavailable, true, tlog.ErrUnknownOutcome},
		{"read only", pg("ERROR", "25006"), tlog.ErrUnavailable, true, tlog.ErrUnavailable},
		{"unique", pg("ERROR", "23505"), tlog.ErrUnavailable, false, tlog.ErrUnavailable},
		{"syntax", pg("ERROR", "42601"), tlog.ErrUnavailable, false, tlog.ErrUnavailable},
		{"no table", pg("ERROR", "42P01"), tlog.ErrNotFound, false, tlog.ErrNotFound},
		{"damage", pg("ERROR", "XX001"), tlog.ErrCorrupt, false, tlog.ErrCorrupt},
		{"damaged index", pg("ERROR", "XX002"), tlog.ErrCorrupt, false, tlog.ErrCorrupt},
		{"password", pg("FATAL", "28P01"), tlog.ErrUnavailable, false, tlog.ErrUnknownOutcome},
		{"rolled back", pgx.ErrTxCommitRollback, tlog.ErrUnavailable, true, tlog.ErrUnavailable},
	} {
		before, commit := classify("doing", c.err), classifyCommit("doing", c.err)
		if !errors.Is(before, c.kind) || errors.Is(before, tlog.ErrUnknownOutcome) || permanent(before) == c.again {
			t.Errorf("%s: %v, to be tried again: %v; want %v, %v", c.name, before, !permanent(before), c.kind, c.again)
		}
		if !errors.Is(commit, c.inCommit) {
			t.Errorf("%s in a commit: %v, want %v", c.name, commit, c.inCommit)
		}
		if errors.Is(commit, tlog.ErrUnknownOutcome) && !permanent(commit) {
			t.Errorf("%s in a commit would be tried again", c.name)
		}
		if text := before.Error() + commit.Error(); strings.Contains(text, "secret") {
			t.Errorf("%s: the error gives it away: %s", c.name, text)
		}
		if again := classify("other", before); again.Error() != before.Error() {
			t.Errorf("%s: classified twice: %v", c.name, again)
		}
	}
	if classify("doing", nil) != nil || classifyCommit("doing", nil) != nil {
		t.Error("no error is one")
	}
}

func TestCheckCommit(t *testing.T) {
	for _, c := range []struct {
		value, standbys string
		ok              bool
	}{
		{"on", "", true},
		{"on", "other", true},
		{"remote_apply", "other", true},
		{"local", "", true},
		{"remote_write", "", true},
		{"local", "other", false},
		{"remote_write", "other", false},
		{"off", "", false},
		{"off", "other", false},
		{"", "", false},
	} {
		if err := checkCommit(c.value, c.standbys); c.ok != (err == nil) || err != nil && !errors.Is(err, tlog.ErrUnsafe) {
			t.Errorf("synchronous_commit %q, standbys %q: %v", c.value, c.standbys, err)
		}
	}
}
