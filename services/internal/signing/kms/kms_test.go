//go:build kms

package kms

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sigstore/sigstore/pkg/signature"

	"github.com/trialog/trialog/services/internal/signing/kms/kmstest"
)

func testKey() ed25519.PrivateKey { return ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)) }

// TestTimeout: a service that does not answer does not keep its caller.
func TestTimeout(t *testing.T) {
	s := kmstest.Vault(t, testKey())
	k, err := open(t.Context(), s.Ref(), time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	end := make(chan struct{})
	defer close(end)
	s.Break(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-end:
		case <-r.Context().Done():
		}
	})
	short, ok := k.(*signer)
	if !ok {
		t.Fatalf("%T", k)
	}
	short.timeout = time.Millisecond
	// More calls than may be under way: those that wait for their turn end as well.
	for range concurrent + 2 {
		if sig, err := short.Sign(nil, []byte("m"), crypto.Hash(0)); sig != nil || !errors.Is(err, ErrTimeout) {
			t.Fatalf("%x, %v", sig, err)
		}
	}
	if _, err := open(t.Context(), s.Ref(), time.Millisecond); !errors.Is(err, ErrTimeout) {
		t.Errorf("open: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := open(ctx, s.Ref(), time.Minute); !errors.Is(err, context.Canceled) {
		t.Errorf("open, cancelled: %v", err)
	}
}

// deaf heeds no context, as some clients do not.
type deaf struct {
	remote
	began chan struct{}
	end   chan struct{}
}

func (d *deaf) SignMessage(io.Reader, ...signature.SignOption) ([]byte, error) {
	d.began <- struct{}{}
	<-d.end
	return []byte("late"), nil
}

// TestDeafClient: calls that were given up do not pile up, and their answers are
// nobody's.
func TestDeafClient(t *testing.T) {
	d := &deaf{began: make(chan struct{}, 100), end: make(chan struct{})}
	s := newSigner(time.Millisecond)
	s.remote, s.public = d, testKey().Public()
	for range 3 * concurrent {
		if sig, err := s.Sign(nil, []byte("m"), crypto.Hash(0)); sig != nil || !errors.Is(err, ErrTimeout) {
			t.Fatalf("%x, %v", sig, err)
		}
	}
	if n := len(d.began); n > concurrent {
		t.Errorf("%d calls are under way, want at most %d", n, concurrent)
	}
	close(d.end)
	s.timeout = time.Minute
	if sig, err := s.Sign(nil, []byte("m"), crypto.Hash(0)); err != nil || string(sig) != "late" {
		t.Errorf("once they have ended: %q, %v", sig, err)
	}
}

// TestNoPlugins: no program is started for a scheme that is not known.
func TestNoPlugins(t *testing.T) {
	for _, ref := range []string{"", "what", "sh://x", "openbao://x", "fakekms://x"} {
		if _, err := Open(t.Context(), ref); err == nil || !strings.Contains(err.Error(), "expected a reference to a key management service") {
			t.Errorf("%q: %v", ref, err)
		}
	}
	for _, scheme := range Schemes() {
		if _, err := Open(t.Context(), scheme+"://a b"); err == nil || !strings.Contains(err.Error(), "expected no user") {
			t.Errorf("%s: %v", scheme, err)
		}
	}
}
