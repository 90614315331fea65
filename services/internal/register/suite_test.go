package register_test

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/trialog/trialog/services/internal/register"
	"github.com/trialog/trialog/services/internal/register/registertest"
)

func TestFileSuite(t *testing.T) {
	registertest.Run(t, func(t *testing.T) registertest.Opener {
		f, err := register.OpenFile(filepath.Join(t.TempDir(), "register"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = f.Close() })
		return func(*testing.T) register.Register { return f }
	})
}

func TestMemorySuite(t *testing.T) {
	registertest.Run(t, func(*testing.T) registertest.Opener {
		m := new(registertest.Memory)
		return func(*testing.T) register.Register { return m }
	})
}

// suiteS3 runs the suite on a server: each handle of a register is a client of its
// own, as another machine's would be.
func suiteS3(t *testing.T, url string) {
	registertest.Run(t, func(t *testing.T) registertest.Opener {
		c := registertest.S3(url, "shards/"+filepath.Base(t.Name())+"/register")
		return func(t *testing.T) register.Register {
			r, err := register.OpenS3(context.Background(), c)
			if err != nil {
				t.Fatal(err)
			}
			return r
		}
	})
}

func TestS3SuiteStub(t *testing.T) {
	registertest.Credentials(t)
	stub := registertest.NewStub(t, registertest.NoFlaw)
	suiteS3(t, stub.URL)
	if n := stub.Keys(); n != 6 {
		t.Errorf("%d objects are left, expected the 6 registers and no probe", n)
	}
}

func TestS3SuiteVersity(t *testing.T) { suiteS3(t, registertest.Versity(t)) }

func TestS3SuiteFakes3(t *testing.T) { suiteS3(t, registertest.Fakes3(t)) }
