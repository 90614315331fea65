package socket_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/trialog/trialog/services/internal/socket"
)

// TestSocket: in a folder that lies deep, over a socket that was left behind, and
// for its owner only.
func TestSocket(t *testing.T) {
	for _, depth := range []int{1, 8} {
		path := filepath.Join(t.TempDir(), strings.Repeat("a-deep-folder/", depth), "admin", "socket")
		if _, err := socket.Dial(t.Context(), path); !errors.Is(err, socket.ErrNobody) {
			t.Errorf("no socket: %v", err)
		}
		for range 2 {
			listener, err := socket.Listen(t.Context(), path)
			if err != nil {
				t.Fatal(err)
			}
			for path, want := range map[string]os.FileMode{path: 0o600, filepath.Dir(path): 0o700} {
				if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
					t.Errorf("%s: %v, %v", path, info, err)
				}
			}
			conn, err := socket.Dial(t.Context(), path)
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(conn.Close(), listener.Close()); err != nil {
				t.Fatal(err)
			}
			// As a process that was killed does, this one leaves its socket behind.
			if _, err := os.Lstat(path); err != nil {
				t.Error(err)
			}
			if _, err := socket.Dial(t.Context(), path); !errors.Is(err, socket.ErrNobody) {
				t.Errorf("nobody has it: %v", err)
			}
		}
	}
}
