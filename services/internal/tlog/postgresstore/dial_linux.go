package postgresstore

import (
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// giveUpAfter sets for how long data that was sent may stay unacknowledged before
// the connection breaks (tcp(7), TCP_USER_TIMEOUT); by default that is some 15
// minutes.
func giveUpAfter(patience time.Duration) func(network, address string, c syscall.RawConn) error {
	return func(network, _ string, c syscall.RawConn) error {
		if !strings.HasPrefix(network, "tcp") {
			return nil
		}
		var err error
		millis := int(max(patience.Milliseconds(), 1))
		cerr := c.Control(func(fd uintptr) {
			err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, millis)
		})
		if cerr != nil {
			return cerr
		}
		return err
	}
}
