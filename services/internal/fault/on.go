//go:build faults

package fault

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

var state struct {
	sync.Mutex
	hits map[string]int
}

// Hit counts a hit of the place and does what Variable says.
func Hit(name string) error {
	place, action, ok := strings.Cut(os.Getenv(Variable), "=")
	if !ok || place != name {
		return nil
	}
	kind, at, _ := strings.Cut(action, "@")
	n, err := strconv.Atoi(at)
	if err != nil {
		n = 1
	}
	state.Lock()
	defer state.Unlock()
	if state.hits == nil {
		state.hits = map[string]int{}
	}
	state.hits[name]++
	if state.hits[name] != n {
		return nil
	}
	switch kind {
	case "kill":
		_ = syscall.Kill(syscall.Getpid(), syscall.SIGKILL)
		select {}
	case "stop":
		return syscall.Kill(syscall.Getpid(), syscall.SIGSTOP)
	}
	return fmt.Errorf("%w at %s", ErrInjected, name)
}
