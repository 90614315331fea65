package fault

import (
	"testing"

	"github.com/trialog/trialog/e2e/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }
