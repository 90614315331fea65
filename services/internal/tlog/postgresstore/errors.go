package postgresstore

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/trialog/trialog/services/internal/tlog"
)

// The SQLSTATEs that mean something here (PostgreSQL documentation, appendix A).
const (
	stateFenced         = "TL001" // ours: see schema/0001.sql
	stateUnique         = "23505" // unique_violation
	stateSerialization  = "40001" // serialization_failure
	stateDeadlock       = "40P01" // deadlock_detected
	stateLockTimeout    = "55P03" // lock_not_available
	stateNoDatabase     = "3D000" // invalid_catalog_name
	stateNoPassword     = "28P01" // invalid_password
	stateNoLogin        = "28000" // invalid_authorization_specification
	stateNoPrivilege    = "42501" // insufficient_privilege
	stateNoTable        = "42P01" // undefined_table
	stateDataCorrupted  = "XX001" // data_corrupted
	stateIndexCorrupted = "XX002" // index_corrupted
)

// dbError is a failure of the database in words that give away neither where it
// is nor who uses it nor what it holds: the server's own message may.
type dbError struct {
	doing string
	kind  error  // one of tlog's errors
	state string // SQLSTATE; empty if the server did not say
	what  string
	cause error // of the caller's context, or nil
}

// Error says what failed, how, and the SQLSTATE.
func (e *dbError) Error() string {
	s := e.doing + ": " + e.kind.Error() + ": " + e.what
	if e.state != "" {
		s += " (SQLSTATE " + e.state + ")"
	}
	return s
}

// Unwrap returns the kind of error and the error of the caller's context.
func (e *dbError) Unwrap() []error {
	if e.cause == nil {
		return []error{e.kind}
	}
	return []error{e.kind, e.cause}
}

// classify is for an error of anything but a COMMIT: nothing was stored. Errors
// that are not the database's are passed on.
func classify(doing string, err error) error {
	var known *dbError
	var caller *callerError
	if err == nil || errors.As(err, &known) || errors.As(err, &caller) {
		return err
	}
	for _, own := range []error{tlog.ErrUnsafe, tlog.ErrInvalid, tlog.ErrOwned, tlog.ErrCorrupt, tlog.ErrNotFound} {
		if errors.Is(err, own) {
			return err
		}
	}
	e := &dbError{doing: doing, kind: tlog.ErrUnavailable, what: "the connection failed"}
	for _, cause := range []error{context.Canceled, context.DeadlineExceeded} {
		if errors.Is(err, cause) {
			e.cause, e.what = cause, "the call was given up"
		}
	}
	if _, ok := errors.AsType[*pgconn.ConnectError](err); ok {
		e.what = "it cannot be connected to"
	}
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return e
	}
	e.state, e.what = pg.Code, "the server refused"
	switch pg.Code {
	case stateFenced:
		e.kind, e.what = tlog.ErrOwned, "somebody else has taken it over"
	case stateDataCorrupted, stateIndexCorrupted:
		e.kind, e.what = tlog.ErrCorrupt, "the server found damage"
	case stateNoTable:
		e.kind, e.what = tlog.ErrNotFound, "a table is missing"
	case stateUnique:
		e.what = "a row is there already"
	case stateSerialization, stateDeadlock:
		e.what = "another transaction came in between"
	}
	return e
}

// outOfTime is for what a deadline of ours ended before a COMMIT was sent.
func outOfTime(doing string) error {
	return &dbError{doing: doing, kind: tlog.ErrUnavailable, what: "it does not answer in time"}
}

// classifyCommit is for an error of COMMIT. Only where the server says in an
// ERROR (a word that is not translated) that it rolled back is the outcome known; with FATAL it ends the session,
// maybe after it has committed.
func classifyCommit(doing string, err error) error {
	if err == nil {
		return nil
	}
	var pg *pgconn.PgError
	if errors.Is(err, pgx.ErrTxCommitRollback) || errors.As(err, &pg) && pg.SeverityUnlocalized == "ERROR" {
		return classify(doing, err)
	}
	return &dbError{doing: doing, kind: tlog.ErrUnknownOutcome, what: "the connection was lost during the commit"}
}

// permanent reports whether waiting does not help.
func permanent(err error) bool {
	var e *dbError
	if !errors.As(err, &e) || e.kind != tlog.ErrUnavailable || e.cause != nil { //nolint:errorlint // kind is a sentinel, not a chain
		return true
	}
	switch e.state {
	case stateNoDatabase, stateNoPassword, stateNoLogin, stateNoPrivilege, stateUnique:
		return true
	}
	// Classes 22, 42 and XX: it will not be otherwise next time.
	return len(e.state) > 2 && (e.state[:2] == "22" || e.state[:2] == "42" || e.state[:2] == "XX")
}

// isState reports whether the server answered with a SQLSTATE.
func isState(err error, state string) bool {
	var e *dbError
	return errors.As(err, &e) && e.state == state
}

func errLost(epoch int64) error {
	return fmt.Errorf("%w: it was taken over from owner %d", tlog.ErrOwned, epoch)
}
