package statement

import (
	"strings"
	"time"
)

// Identifiers are short ASCII tokens: nothing that needs quoting, folding or
// normalising, and too short to hold a sentence about a person. They are
// checked by hand, as a regular expression would be half the cost of reading a
// statement.

// isWord tells whether s is 1 to most characters: a lower-case letter or digit
// (or, with upper, an upper-case letter), then more of these or of marks.
func isWord(s, marks string, most int, upper bool) bool {
	if len(s) < 1 || len(s) > most {
		return false
	}
	for i := range len(s) {
		c := s[i]
		alphanumeric := 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || upper && 'A' <= c && c <= 'Z'
		if !alphanumeric && (i == 0 || strings.IndexByte(marks, c) < 0) {
			return false
		}
	}
	return true
}

// isLog tells whether s is a host name, then up to four path segments.
func isLog(s string) bool {
	host, path, more := strings.Cut(s, "/")
	if !isWord(host, ".-", 128, false) {
		return false
	}
	for n := 0; more; n++ {
		var segment string
		segment, path, more = strings.Cut(path, "/")
		if n == 4 || !isWord(segment, "._-", 64, false) {
			return false
		}
	}
	return true
}

// mediaMarks are the characters that RFC 6838 section 4.2 allows behind the
// first of a restricted-name.
const mediaMarks = "!#$&^_.+-"

// isMedia tells whether s is a type and a subtype.
func isMedia(s string) bool {
	kind, subtype, ok := strings.Cut(s, "/")
	return ok && isWord(kind, mediaMarks, 64, false) && isWord(subtype, mediaMarks, 96, false)
}

// AttributesMediaType is the media type under which sealed attributes are
// committed. No document may have it.
const AttributesMediaType = "application/vnd.trialog.attributes+json"

// CheckToken checks an identifier: 1 to 64 characters A-Z a-z 0-9 . _ : -,
// beginning with a letter or a digit.
func CheckToken(field, s string) error {
	if !isWord(s, "._:-", 64, true) {
		return fieldErrorf(field, "expected 1 to 64 of the characters A-Z a-z 0-9 . _ : -, beginning with a letter or digit")
	}
	return nil
}

// CheckLog checks the name of a TrialLog, the schema-less URL from which the
// origins of its shards derive, such as "log.example.org/trials".
func CheckLog(field, s string) error {
	if !isLog(s) {
		return fieldErrorf(field, "expected a schema-less URL in lower case without a trailing slash, such as log.example.org/trials")
	}
	return nil
}

// CheckMediaType checks the media type of a document: type/subtype in lower
// case, without parameters (RFC 6838 section 4.2).
func CheckMediaType(field, s string) error {
	if !isMedia(s) {
		return fieldErrorf(field, "expected a media type in lower case without parameters, such as application/pdf")
	}
	if s == AttributesMediaType {
		return fieldErrorf(field, "%s is not the media type of a document", s)
	}
	return nil
}

// IsShardOf tells whether origin is that of a shard of log: the log's name, a
// slash, and the shard's.
func IsShardOf(origin, log string) bool {
	return len(origin) > len(log)+1 && strings.HasPrefix(origin, log) && origin[len(log)] == '/'
}

// CheckTime checks a time in UTC to the second, YYYY-MM-DDThh:mm:ssZ (RFC 3339).
func CheckTime(field string, d Date) error {
	if !isTime(d) {
		return fieldErrorf(field, "expected a UTC time YYYY-MM-DDThh:mm:ssZ")
	}
	return nil
}

func isTime(d Date) bool { return len(d) == len("2006-01-02T15:04:05Z") && isDate(d) }

// Date is a date as somebody stated it, with the precision in which they did:
// "2012", "2012-05", "2012-05-01", or a time in UTC "2012-05-01T10:00:00Z"
// (RFC 3339). It is a claim; time bounds come from witnesses.
type Date string

// CheckDate checks the form of d, and that it is a day of the calendar from
// 1900 on.
func CheckDate(field string, d Date) error {
	if !isDate(d) {
		return fieldErrorf(field, "expected a date YYYY, YYYY-MM, YYYY-MM-DD, or a UTC time YYYY-MM-DDThh:mm:ssZ")
	}
	return nil
}

// isDate is CheckDate. As time.Parse forgives much, it would have to be followed
// by formatting again, which together cost many times of this.
func isDate(d Date) bool {
	// Where the digits and the marks are, in all four forms.
	const form = "0000-00-00T00:00:00Z"
	switch len(d) {
	case len("2006"), len("2006-01"), len(time.DateOnly), len(form):
	default:
		return false
	}
	for i := range len(d) {
		if form[i] == '0' && (d[i] < '0' || '9' < d[i]) || form[i] != '0' && d[i] != form[i] {
			return false
		}
	}
	year, month, day := d.digits(0)*100+d.digits(2), 1, 1
	if len(d) >= len("2006-01") {
		month = d.digits(5)
	}
	if len(d) >= len(time.DateOnly) {
		day = d.digits(8)
	}
	if len(d) == len(form) && (d.digits(11) > 23 || d.digits(14) > 59 || d.digits(17) > 59) {
		return false
	}
	return year >= 1900 && 1 <= month && month <= 12 && 1 <= day && day <= daysIn(month, year)
}

// digits is the number that the two digits at i write.
func (d Date) digits(i int) int { return int(d[i]-'0')*10 + int(d[i+1]-'0') }

// daysIn is how many days a month has in the Gregorian calendar.
func daysIn(month, year int) int {
	switch month {
	case 4, 6, 9, 11:
		return 30
	case 2:
		if year%4 == 0 && (year%100 != 0 || year%400 == 0) {
			return 29
		}
		return 28
	}
	return 31
}
