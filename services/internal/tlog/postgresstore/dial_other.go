//go:build !linux

package postgresstore

import (
	"syscall"
	"time"
)

// giveUpAfter does nothing: keep-alive and the deadlines of calls must do.
func giveUpAfter(time.Duration) func(network, address string, c syscall.RawConn) error { return nil }
