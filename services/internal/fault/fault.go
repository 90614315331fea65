// Package fault lets a test stop a service at a named place, where a crash or a
// failed write would hurt most. The places are compiled away unless the binary
// is built with the tag "faults".
package fault

import "errors"

// ErrInjected is the error that an injected failure returns.
var ErrInjected = errors.New("injected failure")

// Variable is the environment variable that arms one place:
//
//	NAME=kill@N   the process is killed with SIGKILL at the N-th hit
//	NAME=stop@N   the process is stopped with SIGSTOP at the N-th hit
//	NAME=error@N  the N-th hit returns ErrInjected
//
// A place named "step.after" stands behind a write that has taken effect, so
// that an error there is an error of something that persisted.
const Variable = "TRIALOG_FAULT"
