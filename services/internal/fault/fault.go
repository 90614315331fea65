// Package fault lets a test stop a service at a named place, where a crash or a
// failed write would hurt most. The places are compiled away unless the binary
// is built with the tag "faults".
package fault

import "errors"

// ErrInjected is the error that an injected failure returns.
var ErrInjected = errors.New("injected failure")
