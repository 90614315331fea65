package postgresstore

import (
	"context"
	"fmt"
	"strconv"

	"github.com/jackc/pgx/v5"

	"github.com/trialog/trialog/services/internal/tlog"
)

// minVersion is the oldest server that this was tested with, as in
// server_version_num.
const minVersion = 150000

// requirements are settings whose other values may lose what was acknowledged,
// or hide that it was lost.
var requirements = []struct{ setting, want, why string }{ //nolint:gochecknoglobals // a table
	{"fsync", "on", "without it a crash of the machine may damage the whole database"},
	{"full_page_writes", "on", "without it a crash may leave half-written pages"},
	{"zero_damaged_pages", "off", "it empties damaged pages instead of reporting them"},
	{"ignore_checksum_failure", "off", "it passes damaged pages on"},
	{"default_transaction_read_only", "off", "the log is to be written"},
	{"session_replication_role", "origin", "with another one triggers do not keep out a second owner"},
}

// checkSession returns a check of connections that are made with a session's own
// settings: what it chose for itself is not a fault of the server's.
func checkSession(s session) func(context.Context, *pgx.Conn) error {
	return func(ctx context.Context, conn *pgx.Conn) error { return checkSettings(ctx, conn, s) }
}

// checkSettings returns tlog.ErrUnsafe, naming the setting and what is expected,
// unless what the session commits is durable, and tlog.ErrInvalid for a server
// that is too old.
func checkSettings(ctx context.Context, conn *pgx.Conn, own session) error {
	got, err := readSettings(ctx, conn)
	if err != nil {
		return classify("checking the server's settings", err)
	}
	if version, err := strconv.Atoi(got["server_version_num"]); err != nil || version < minVersion {
		return fmt.Errorf("%w: the server's version is %s, expected at least %d", tlog.ErrInvalid, got["server_version_num"], minVersion/10000)
	}
	for _, r := range requirements {
		// A setting that this session may not see is not one that is set.
		if v, ok := got[r.setting]; ok && v != r.want && v != own[r.setting] {
			return fmt.Errorf("%w: %s is %s, expected %s: %s", tlog.ErrUnsafe, r.setting, v, r.want, r.why)
		}
	}
	return checkCommit(got["synchronous_commit"], got["synchronous_standby_names"])
}

// checkCommit judges synchronous_commit. off: COMMIT answers before the disk has
// it, unsafe always. local and remote_write: durable on this server, but where
// standbys are to be synchronous a failover may lose it, so that they are unsafe
// then. on and remote_apply: on disk wherever it has to be.
func checkCommit(value, standbys string) error {
	switch {
	case value == "on" || value == "remote_apply":
		return nil
	case (value == "local" || value == "remote_write") && standbys == "":
		return nil
	case value == "off":
		return fmt.Errorf("%w: synchronous_commit is off, expected on: a crash loses what was acknowledged last", tlog.ErrUnsafe)
	}
	return fmt.Errorf("%w: synchronous_commit is %s, expected on: with synchronous_standby_names a failover loses what was acknowledged last",
		tlog.ErrUnsafe, value)
}

func readSettings(ctx context.Context, conn *pgx.Conn) (map[string]string, error) {
	rows, err := conn.Query(ctx, `SELECT name, setting FROM pg_settings WHERE name IN ('server_version_num', 'fsync',
		'full_page_writes', 'synchronous_commit', 'synchronous_standby_names', 'zero_damaged_pages',
		'ignore_checksum_failure', 'default_transaction_read_only', 'session_replication_role', 'data_checksums')`)
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	var name, setting string
	_, err = pgx.ForEachRow(rows, []any{&name, &setting}, func() error {
		out[name] = setting
		return nil
	})
	return out, err
}

// fenced are the tables that nobody but the owner writes.
var fenced = []string{"trees", "subtree", "treehead", "leafdata", "sequencedleafdata", "unsequenced"} //nolint:gochecknoglobals // a table

// checkFence returns tlog.ErrUnsafe, naming the table, unless each one has its
// fence: a trigger that is on, before every statement that writes (62 is the sum of
// the bits BEFORE, INSERT, DELETE, UPDATE and TRUNCATE of tgtype, without ROW).
func checkFence(ctx context.Context, conn *pgx.Conn) error {
	rows, err := conn.Query(ctx, `SELECT name FROM unnest($1::text[]) AS name WHERE NOT EXISTS (
		SELECT FROM pg_trigger WHERE tgrelid = to_regclass(name) AND tgname = 'fence' AND tgenabled IN ('O', 'A')
			AND tgfoid = to_regproc('trialog_fence') AND tgtype = 62 AND tgqual IS NULL)`, fenced)
	if err != nil {
		return classify("checking the fence", err)
	}
	open, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return classify("checking the fence", err)
	}
	if len(open) > 0 {
		return fmt.Errorf("%w: table %s has no trigger fence that is enabled: a second owner could write it", tlog.ErrUnsafe, open[0])
	}
	return nil
}
