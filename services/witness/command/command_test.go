package command

import (
	"log/slog"
	"net/http"
	"testing"

	"github.com/trialog/trialog/services/internal/run"
)

// TestServerLimits: a stranger has less time than other servers of ours give.
func TestServerLimits(t *testing.T) {
	s, other := server(http.NotFoundHandler(), slog.New(slog.DiscardHandler)), run.Server(http.NotFoundHandler(), slog.New(slog.DiscardHandler))
	if s.ReadTimeout >= other.ReadTimeout || s.IdleTimeout >= other.IdleTimeout || s.ReadTimeout < s.ReadHeaderTimeout {
		t.Errorf("%s, %s, %s", s.ReadHeaderTimeout, s.ReadTimeout, s.IdleTimeout)
	}
}
