package pgtest_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/trialog/trialog/internal/pgtest"
)

func query(t *testing.T, url, q string) string {
	t.Helper()
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	var out string
	if err := conn.QueryRow(ctx, q).Scan(&out); err != nil {
		t.Fatalf("%s: %v", q, err)
	}
	return out
}

// TestServer kills and stops a server: what was committed is there afterwards.
func TestServer(t *testing.T) {
	s := pgtest.New(t, "synchronous_commit=local")
	db, other := s.Database(t), s.Database(t)
	if db == other {
		t.Fatalf("one database for two: %s", db)
	}
	for setting, want := range map[string]string{"fsync": "on", "data_checksums": "on", "synchronous_commit": "local"} {
		if got := query(t, db, "SHOW "+setting); got != want {
			t.Errorf("%s = %s, want %s", setting, got, want)
		}
	}
	s.Exec(t, db, "CREATE TABLE kept (v TEXT)", "INSERT INTO kept VALUES ('x')")
	for _, end := range []func(){s.Kill, s.StopImmediately, s.Kill} {
		end()
		if conn, err := pgx.Connect(context.Background(), db); err == nil {
			conn.Close(context.Background())
			t.Fatal("a server that was ended answers")
		}
		if err := s.Start(); err != nil {
			t.Fatal(err)
		}
		if got := query(t, db, "SELECT v FROM kept"); got != "x" {
			t.Fatalf("after a restart: %q", got)
		}
	}
	if err := s.Restart(); err != nil {
		t.Fatal(err)
	}
	if got := query(t, db, "SELECT v FROM kept"); got != "x" {
		t.Fatalf("after a restart: %q", got)
	}
}
