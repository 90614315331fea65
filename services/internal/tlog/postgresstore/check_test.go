package postgresstore_test

import (
	"context"
	"errors"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/trialog/trialog/internal/pgtest"
	"github.com/trialog/trialog/services/internal/tlog"
	"github.com/trialog/trialog/services/internal/tlog/postgresstore"
)

// refusal opens a database and returns why it is refused.
func refusal(t *testing.T, database string) error {
	t.Helper()
	s, err := postgresstore.Create(context.Background(), database, postgresstore.Options{Patience: time.Second})
	if err == nil {
		s.Close()
	}
	return err
}

// TestUnsafeSessions refuses settings that a database or a role may have.
func TestUnsafeSessions(t *testing.T) {
	server := shared.Server(t)
	for _, c := range []struct{ setting, value string }{
		{"synchronous_commit", "off"},
		{"default_transaction_read_only", "on"},
		{"zero_damaged_pages", "on"},
		{"ignore_checksum_failure", "on"},
		{"session_replication_role", "replica"},
		{"session_replication_role", "local"},
	} {
		database := server.Database(t)
		u, err := url.Parse(database)
		if err != nil {
			t.Fatal(err)
		}
		server.Exec(t, database, "ALTER DATABASE "+strings.TrimPrefix(u.Path, "/")+" SET "+c.setting+" = "+c.value)
		err = refusal(t, database)
		if !errors.Is(err, tlog.ErrUnsafe) || !strings.Contains(err.Error(), c.setting+" is "+c.value+", expected o") { // on, off, origin
			t.Errorf("%s = %s: %v", c.setting, c.value, err)
		}
	}
	for _, ok := range []string{"on", "remote_apply", "local", "remote_write"} {
		database := server.Database(t)
		u, err := url.Parse(database)
		if err != nil {
			t.Fatal(err)
		}
		server.Exec(t, database, "ALTER DATABASE "+strings.TrimPrefix(u.Path, "/")+" SET synchronous_commit = "+ok)
		if err := refusal(t, database); err != nil {
			t.Errorf("synchronous_commit = %s without synchronous standbys: %v", ok, err)
		}
	}
}

// TestFenceMissing refuses tables that somebody could write who is not the owner,
// also when only another kind of session could.
func TestFenceMissing(t *testing.T) {
	server := shared.Server(t)
	for _, c := range []struct{ change, table string }{
		{"ALTER TABLE LeafData DISABLE TRIGGER fence", "leafdata"},
		{"ALTER TABLE Trees ENABLE REPLICA TRIGGER fence", "trees"},
		{"DROP TRIGGER fence ON Subtree", "subtree"},
		{"ALTER TRIGGER fence ON TreeHead RENAME TO other", "treehead"},
		{"DROP TRIGGER fence ON SequencedLeafData; CREATE TRIGGER fence BEFORE INSERT ON SequencedLeafData " +
			"FOR EACH STATEMENT EXECUTE FUNCTION trialog_fence()", "sequencedleafdata"},
	} {
		database := server.Database(t)
		if err := refusal(t, database); err != nil {
			t.Fatal(err)
		}
		server.Exec(t, database, c.change)
		if err := refusal(t, database); !errors.Is(err, tlog.ErrUnsafe) || !strings.Contains(err.Error(), "table "+c.table+" ") {
			t.Errorf("%s: %v", c.change, err)
		}
	}
	database := server.Database(t)
	if err := refusal(t, database); err != nil {
		t.Fatal(err)
	}
	if n := count(t, database, `SELECT count(*) FROM pg_trigger WHERE tgname = 'fence' AND tgenabled <> 'A'`); n != 0 {
		t.Errorf("%d fences let sessions pass that replicate", n)
	}
}

// TestStandby: a server that became a standby behind an open handle is not read.
func TestStandby(t *testing.T) {
	ctx := context.Background()
	server := pgtest.New(t)
	s := openStore(t, server.Database(t), postgresstore.Options{Patience: time.Second})
	if err := s.CheckDatabaseAccessible(ctx); err != nil {
		t.Fatal(err)
	}
	if err := server.RestartAsStandby(); err != nil {
		t.Fatal(err)
	}
	// The first answer may be that the old connection is gone.
	for range 2 {
		if err := s.CheckDatabaseAccessible(ctx); !errors.Is(err, tlog.ErrUnavailable) {
			t.Errorf("a ping: %v", err)
		}
	}
	if err := s.CheckSoleTree(ctx, origin); !errors.Is(err, tlog.ErrUnavailable) {
		t.Errorf("a read: %v", err)
	}
	if err := server.Promote(); err != nil {
		t.Fatal(err)
	}
	if err := s.CheckSoleTree(ctx, origin); err != nil {
		t.Errorf("a read from what is a primary again: %v", err)
	}
}

// TestUnsafeServers refuses settings that only a whole server can have.
func TestUnsafeServers(t *testing.T) {
	for _, c := range []struct{ name, want string }{
		{"fsync=off", "fsync is off, expected on"},
		{"full_page_writes=off", "full_page_writes is off, expected on"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := refusal(t, pgtest.New(t, c.name).Database(t))
			if !errors.Is(err, tlog.ErrUnsafe) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v", err)
			}
		})
	}
	// A failover may lose what only this server has. Nothing is committed here: it
	// would wait for the standby.
	t.Run("Standbys", func(t *testing.T) {
		server := pgtest.New(t)
		database := server.Database(t)
		server.Exec(t, database, "ALTER SYSTEM SET synchronous_standby_names = 'other'", "ALTER SYSTEM SET synchronous_commit = local",
			"SELECT pg_reload_conf()")
		for {
			err := refusal(t, database)
			if err == nil { // the server has not read its settings yet
				continue
			}
			if !errors.Is(err, tlog.ErrUnsafe) || !strings.Contains(err.Error(), "synchronous_commit is local, expected on") {
				t.Fatalf("%v", err)
			}
			break
		}
	})
}

// TestErrorsGiveNothingAway: an error names neither host nor user nor database nor
// password.
func TestErrorsGiveNothingAway(t *testing.T) {
	server := shared.Server(t)
	here := server.URL("postgres")
	u, err := url.Parse(here)
	if err != nil {
		t.Fatal(err)
	}
	dir := u.Query().Get("host")
	for what, database := range map[string]string{
		"no server":   "postgres://secretuser:secretword@127.0.0.1:1/secretbase",
		"no host":     "postgres://secretuser:secretword@secrethost.invalid/secretbase",
		"no database": "postgres://trialog@/secretbase?host=" + url.QueryEscape(dir),
		"no user":     "postgres://secretuser:secretword@/postgres?host=" + url.QueryEscape(dir),
	} {
		err := refusal(t, database)
		if !errors.Is(err, tlog.ErrUnavailable) {
			t.Errorf("%s: %v", what, err)
			continue
		}
		for _, secret := range []string{"secret", "127.0.0.1", dir} {
			if strings.Contains(err.Error(), secret) {
				t.Errorf("%s: the error names %q: %v", what, secret, err)
			}
		}
	}
}

// TestVersions refuses tables of another version, or half of them.
func TestVersions(t *testing.T) {
	ctx := context.Background()
	server := shared.Server(t)
	database := server.Database(t)
	if s, err := postgresstore.Open(ctx, database, postgresstore.Options{}); !errors.Is(err, tlog.ErrNotFound) {
		t.Fatalf("an empty database: %v, %v", s, err)
	}
	if err := refusal(t, database); err != nil {
		t.Fatal(err)
	}
	if err := refusal(t, database); err != nil {
		t.Fatalf("creating a second time: %v", err)
	}
	server.Exec(t, database, `INSERT INTO TrialogSchema (Version) VALUES (99)`)
	if err := refusal(t, database); !errors.Is(err, tlog.ErrInvalid) || !strings.Contains(err.Error(), "version 99") {
		t.Fatalf("tables of a later version: %v", err)
	}
	server.Exec(t, database, `DELETE FROM TrialogSchema`)
	if err := refusal(t, database); !errors.Is(err, tlog.ErrCorrupt) {
		t.Fatalf("tables without a version: %v", err)
	}
}

// TestSoleTree: a database is for one log.
func TestSoleTree(t *testing.T) {
	ctx := context.Background()
	database := shared.Server(t).Database(t)
	if err := mustOpen(t, database, nil).Close(); err != nil {
		t.Fatal(err)
	}
	s := openStore(t, database, postgresstore.Options{})
	if err := s.CheckSoleTree(ctx, origin); err != nil {
		t.Fatal(err)
	}
	if err := s.CheckSoleTree(ctx, "other"); !errors.Is(err, tlog.ErrInvalid) {
		t.Fatalf("another origin: %v", err)
	}
}

// count reads one number.
func count(t *testing.T, database, query string) (n int) {
	t.Helper()
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, database)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	if err := conn.QueryRow(ctx, query).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}
