package verify_test

import (
	"testing"

	"github.com/trialog/trialog/api/internal/testlog"
	"github.com/trialog/trialog/api/receipt"
	"github.com/trialog/trialog/api/verify"
)

// tell makes the story once for a test.
func tell(tb testing.TB) *testlog.Story {
	tb.Helper()
	var s *testlog.Story
	if err := testlog.Do(func() { s = testlog.Tell() }); err != nil {
		tb.Fatal(err)
	}
	return s
}

func encode(tb testing.TB, r *receipt.Receipt) []byte {
	tb.Helper()
	raw, err := r.Encode()
	if err != nil {
		tb.Fatalf("encode the receipt: %v", err)
	}
	return raw
}

// honest is the input of an honest receipt with its document.
func honest(tb testing.TB, s *testlog.Story, l *testlog.Logged, document []byte) verify.Input {
	tb.Helper()
	return verify.Input{
		Receipt: encode(tb, s.Receipt(l, s.Final)), Policy: s.Policy(), Document: document, Now: testlog.Now(),
	}
}
