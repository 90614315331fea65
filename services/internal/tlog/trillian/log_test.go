package trillian_test

import (
	"context"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/trialog/trialog/services/internal/tlog"
	"github.com/trialog/trialog/services/internal/tlog/pebblestore"
	"github.com/trialog/trialog/services/internal/tlog/tlogtest"
	"github.com/trialog/trialog/services/internal/tlog/trillian"
)

const origin = "log.example/2026"

// openLog opens the log in dir; Close closes the store too.
func openLog(t testing.TB, fs vfs.FS, dir string, change func(*trillian.Config)) (*trillian.Log, error) {
	t.Helper()
	s, err := pebblestore.Open(dir, pebblestore.Options{FS: fs})
	if err != nil {
		return nil, err
	}
	cfg := trillian.Config{Storage: s, Admin: s.Admin(), Origin: origin, Create: true, CloseStorage: s.Close}
	if change != nil {
		change(&cfg)
	}
	l, err := trillian.Open(context.Background(), cfg)
	if err != nil {
		if cerr := s.Close(); cerr != nil {
			t.Errorf("closing the store: %v", cerr)
		}
		return nil, err
	}
	return l, nil
}

func mustOpen(t testing.TB, fs vfs.FS, dir string, change func(*trillian.Config)) *trillian.Log {
	t.Helper()
	l, err := openLog(t, fs, dir, change)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestSuite(t *testing.T) {
	for _, c := range []struct {
		name   string
		fs     func() vfs.FS
		change func(*trillian.Config)
	}{
		{"Memory", func() vfs.FS { return vfs.NewMem() }, nil},
		{"Disk", func() vfs.FS { return vfs.Default }, nil},
		{"SmallBatches", func() vfs.FS { return vfs.NewMem() }, func(c *trillian.Config) { c.BatchLimit = 7 }},
		{"PickyStorage", func() vfs.FS { return vfs.NewMem() }, func(c *trillian.Config) { c.Storage = pickyStorage{c.Storage} }},
		{"ClockRunsBackwards", func() vfs.FS { return vfs.NewMem() }, func(c *trillian.Config) {
			now := time.Unix(2e9, 0)
			c.Now = steppingClock(now, -time.Second)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			tlogtest.Run(t, func(t *testing.T) tlogtest.Opener {
				fs, dir := c.fs(), t.TempDir()
				return func(t *testing.T) tlog.Log { return mustOpen(t, fs, dir, c.change) }
			})
		})
	}
}
