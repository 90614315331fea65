//go:build pkcs11 && cgo

package pkcs11

import (
	"errors"
	"fmt"
	"os"
	"sync"

	p11 "github.com/miekg/pkcs11"
)

// modules are the libraries that this process has loaded. PKCS #11 knows one
// C_Initialize a library and process, and a login is the whole process's: so this
// is not a field of anything.
//
//nolint:gochecknoglobals // see above
var modules = struct {
	sync.Mutex
	byPath map[string]*module
}{byPath: map[string]*module{}}

// module is a loaded library. Its functions may be called concurrently.
type module struct {
	path string
	ctx  *p11.Ctx
	uses int // under modules
}

// load loads a library, once for all who use it.
func load(path string) (*module, error) {
	modules.Lock()
	defer modules.Unlock()
	if m := modules.byPath[path]; m != nil {
		m.uses++
		return m, nil
	}
	// The loader would say nothing about it.
	if _, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("module-path: %w", err)
	}
	ctx := p11.New(path)
	if ctx == nil {
		return nil, fmt.Errorf("module-path: %s is not a PKCS#11 library", path)
	}
	m := &module{path: path, ctx: ctx, uses: 1}
	if err := m.initialize(); err != nil {
		ctx.Destroy()
		return nil, err
	}
	modules.byPath[path] = m
	return m, nil
}

func (m *module) initialize() error {
	if err := m.ctx.Initialize(); err != nil && !errors.Is(err, p11.Error(p11.CKR_CRYPTOKI_ALREADY_INITIALIZED)) {
		return fmt.Errorf("initialize the library %s: %w", m.path, err)
	}
	return nil
}

// release ends one use; the last one unloads the library.
func (m *module) release() error {
	modules.Lock()
	defer modules.Unlock()
	m.uses--
	if m.uses > 0 {
		return nil
	}
	delete(modules.byPath, m.path)
	err := m.ctx.Finalize()
	m.ctx.Destroy()
	if err != nil && !errors.Is(err, p11.Error(p11.CKR_CRYPTOKI_NOT_INITIALIZED)) {
		return fmt.Errorf("finalize the library %s: %w", m.path, err)
	}
	return nil
}
