package postgresstore

import (
	"context"
	"fmt"
	"maps"
	"net"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/trialog/trialog/services/internal/tlog"
)

// address is a parsed URL. Nothing that is in it is ever put into an error.
type address struct{ config *pgxpool.Config }

// parseURL parses a URL; connections that are made by it notice within about
// patience that the server has gone silent.
func parseURL(url string, patience time.Duration) (address, error) {
	cfg, err := pgxpool.ParseConfig(url)
	if err != nil {
		// Not wrapped: the parser's error repeats most of the URL.
		return address{}, fmt.Errorf("%w: the database's URL cannot be read, expected postgres://USER@HOST:PORT/DATABASE", tlog.ErrInvalid)
	}
	c := cfg.ConnConfig
	if c.ConnectTimeout == 0 || c.ConnectTimeout > patience {
		c.ConnectTimeout = patience
	}
	c.DialFunc = dialer(patience).DialContext
	// A standby answers reads from the past.
	c.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsPrimary
	return address{cfg}, nil
}

// dialer makes connections that break if the other end says nothing any more:
// idle ones after 11 seconds, and, where the system can, those whose data are not
// acknowledged after patience.
func dialer(patience time.Duration) *net.Dialer {
	return &net.Dialer{
		Timeout:         patience,
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 5 * time.Second, Interval: 2 * time.Second, Count: 3},
		Control:         giveUpAfter(patience),
	}
}

// session is what a connection is for, as the settings that it starts with.
type session map[string]string

// common are the settings of every session.
func common(name string) session {
	return session{
		"application_name": name,
		// The planner knows nothing of a tree that has just been made, and then scans
		// it once for each leaf. Every query here has one right plan, by an index.
		"plan_cache_mode":               "force_generic_plan",
		"enable_seqscan":                "off",
		"enable_hashjoin":               "off",
		"enable_mergejoin":              "off",
		"jit":                           "off",
		"default_transaction_isolation": "repeatable read",
		// A client that vanished holds locks for at most so long, in seconds.
		"tcp_keepalives_idle":     "10",
		"tcp_keepalives_interval": "5",
		"tcp_keepalives_count":    "3",
	}
}

func ownerSession() session { return common("trialog owner") }

func readSession(epoch int64) session {
	s := common("trialog read " + strconv.FormatInt(epoch, 10))
	s["default_transaction_read_only"] = "on"
	return s
}

// writeName is the name of the sessions in which an owner writes.
func writeName(epoch int64) string { return "trialog write " + strconv.FormatInt(epoch, 10) }

func writeSession(epoch int64) session {
	s := common(writeName(epoch))
	s["trialog.epoch"] = strconv.FormatInt(epoch, 10)
	// A stopped owner in the middle of a transaction must not keep the next one out
	// for ever; in milliseconds.
	s["idle_in_transaction_session_timeout"] = "60000"
	return s
}

func (a address) connConfig(s session) *pgx.ConnConfig {
	cfg := a.config.ConnConfig.Copy()
	maps.Copy(cfg.RuntimeParams, s)
	return cfg
}

func (a address) pool(s session, conns int32) *pgxpool.Config {
	cfg := a.config.Copy()
	cfg.ConnConfig = a.connConfig(s)
	cfg.MaxConns = conns
	cfg.MinConns = 0
	// Each time, because behind an address there may be another server tomorrow.
	check := checkSession(s)
	cfg.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
		// The pool makes connections in the background, without a deadline.
		ctx, cancel := context.WithTimeout(ctx, cfg.ConnConfig.ConnectTimeout)
		defer cancel()
		return check(ctx, conn)
	}
	return cfg
}
