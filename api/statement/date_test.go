package statement_test

import (
	"testing"
	"time"

	"github.com/trialog/trialog/api/statement"
)

// goodDate is CheckDate by the standard library: what is parsed is formatted back.
func goodDate(text string) bool {
	for _, layout := range []string{"2006", "2006-01", time.DateOnly, "2006-01-02T15:04:05Z"} {
		if d, err := time.Parse(layout, text); err == nil && d.Year() >= 1900 && d.Format(layout) == text {
			return true
		}
	}
	return false
}

// TestDates holds CheckDate against the standard library on every day of some
// years, the days that there are not, and texts that are close to dates.
func TestDates(t *testing.T) {
	var texts []string
	for _, year := range []string{"1899", "1900", "1996", "2000", "2023", "2100", "2400", "9999"} {
		texts = append(texts, year)
		for month := range 20 {
			two := func(n int) string { return string([]byte{byte('0' + n/10), byte('0' + n%10)}) }
			texts = append(texts, year+"-"+two(month))
			for day := range 40 {
				texts = append(texts, year+"-"+two(month)+"-"+two(day), year+"-"+two(month)+"-"+two(day)+"T10:00:00Z")
			}
		}
	}
	good := "2024-02-29T23:59:59Z"
	texts = append(texts, "", good, "2024-02-29T24:00:00Z", "2024-02-29T23:60:00Z", "2024-02-29T23:59:60Z", "2024-02-29T23:59:59.0Z",
		"2024-02-29T23:59:59+00:00", "2024-02-29T23:59Z", " 2024", "+2024", "-2024")
	for at := range good {
		for _, c := range []byte("/0:9-.,TtZz \x00\xff") {
			texts = append(texts, good[:at]+string([]byte{c})+good[at+1:])
		}
		texts = append(texts, good[:at])
	}
	for _, text := range texts {
		want := goodDate(text)
		if err := statement.CheckDate("at", statement.Date(text)); (err == nil) != want {
			t.Errorf("CheckDate(%q) = %v, the standard library says %v", text, err, want)
		} else if err != nil {
			checkField(t, err, "at", "expected a date")
		}
		want = want && len(text) == len(good)
		if err := statement.CheckTime("at", statement.Date(text)); (err == nil) != want {
			t.Errorf("CheckTime(%q) = %v, expected %v", text, err, want)
		}
	}
}

// FuzzDate holds CheckDate against the standard library.
func FuzzDate(f *testing.F) {
	for _, seed := range []string{"2012", "2012-05", "2012-05-01", "2012-05-01T10:00:00Z", "2012-02-30", "2012-05-01T10:00:00,5Z"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if err := statement.CheckDate("at", statement.Date(text)); (err == nil) != goodDate(text) {
			t.Errorf("CheckDate(%q) = %v, the standard library differs", text, err)
		}
	})
}
