// Package words says in plain words what package verify found: for people who
// know trials and no cryptography.
package words

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/api/verify"
)

// Time writes a time as every line of the program does.
func Time(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

// Kind names a kind of statement.
func Kind(k statement.Kind) string {
	switch k { //nolint:exhaustive // the others' names are their words
	case statement.KindSAP:
		return "statistical analysis plan"
	case statement.KindTrial:
		return "trial record"
	case statement.KindKey:
		return "key enrolment"
	}
	return strings.ReplaceAll(string(k), "-", " ")
}

// version writes the version of a document.
func version(v string) string {
	switch {
	case v == "":
		return ""
	case v[0] >= '0' && v[0] <= '9':
		return " v" + v
	}
	return " version " + v
}

// What says what was logged, by whom: "protocol v2 of NCT00000001 by sponsor-a".
func What(v *verify.Verdict) string {
	s := v.Statement
	if s == nil {
		return "a statement"
	}
	text := Kind(s.Kind) + version(s.Version)
	if r := v.Record; r != nil {
		text = fmt.Sprintf("%s, record %d of %d in batch %s", Kind(statement.Kind(r.Type)), r.Index+1, r.Count, r.Label)
		if s.Trial != "" {
			text += ","
		}
	}
	if s.Trial != "" {
		text += " of " + s.Trial
	}
	return text + " by " + s.Organisation
}

// When says between which times it was signed and logged.
func When(v *verify.Verdict) string {
	verb := "signed"
	if v.Statement != nil && v.Statement.Grade == statement.Received {
		verb = "received by the log's gateway"
	}
	after := "logged not after " + Time(v.NotAfter.Time)
	if v.NotBefore == nil {
		return after
	}
	return fmt.Sprintf("%s not before %s and %s", verb, Time(v.NotBefore.Time), after)
}

// TimeStamp says who stamped the receipt's checkpoint when: "a time-stamp by
// NAME, 2026-05-01 12:00:00 UTC, accurate to 0.1 s".
func TimeStamp(s verify.TimeStamp) string {
	by := s.Authority
	if by == "" {
		by = "somebody whom your policy does not name"
	}
	text := "a time-stamp by " + by
	if !s.Time.IsZero() {
		text += ", " + Time(s.Time)
	}
	if s.Status == verify.StampNotEvaluated {
		return text + ", not looked at" // what it says is not proven
	}
	if s.AccuracyMicroseconds == 0 {
		return text + ", which states no accuracy"
	}
	seconds := strconv.FormatFloat(float64(s.AccuracyMicroseconds)/1e6, 'f', -1, 64)
	return text + ", accurate to " + seconds + " s"
}

// TimeStamps says what the time-stamps are that count. The caveats speak of the
// others.
func TimeStamps(v *verify.Verdict) []string {
	var list []string
	for _, s := range v.TimeStamps {
		if s.Status == verify.StampNarrows || s.Status == verify.StampVerified {
			list = append(list, TimeStamp(s))
		}
	}
	return list
}

// Seen says by how many of the policy's witnesses the log was seen.
func Seen(v *verify.Verdict) string {
	return fmt.Sprintf("seen by %d of %d %s", v.Inclusion.OperatorsSeen, v.Inclusion.Operators, plural(v.Inclusion.Operators, "witness"))
}

func plural(n int, noun string) string {
	if n == 1 {
		return noun
	}
	return noun + "es"
}

// Witnesses names the organisations whose witnesses saw it, each once.
func Witnesses(v *verify.Verdict) string {
	var names []string
	for _, w := range v.Inclusion.Witnesses {
		if name := w.RunBy; !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

// Grade says whose word it is.
func Grade(v *verify.Verdict) string {
	s := v.Statement
	if s.Grade == statement.Received {
		return "received: the gateway vouches that it got this from " + s.ReceivedFrom + "; " + s.Organisation + " did not sign it"
	}
	return "signed by " + s.Organisation + " with its own key"
}

// Verified is the one line of a receipt that holds.
func Verified(v *verify.Verdict) string {
	subject := "this statement"
	switch d := v.Document; {
	case d == nil:
	case d.Checked && d.MediaType == "" && d.Sealed:
		subject = "this statement with its sealed details"
	case d.Checked && v.Record != nil:
		subject = "this record, unchanged,"
	case d.Checked:
		subject = "this document, unchanged,"
	case d.MediaType != "":
		subject = "this statement, its document not looked at,"
	}
	return fmt.Sprintf("VERIFIED  %s: %s was %s, %s", What(v), subject, When(v), Seen(v))
}

// Failure is what does not hold, in plain words, and what it means.
type Failure struct {
	Link    string `json:"link"`
	Found   string `json:"found"`
	Meaning string `json:"meaning"`
}

// Failed explains a verdict that is not Verified.
func Failed(v *verify.Verdict) Failure {
	f := explain(v.Failure.Link)
	// The one link that fails for want of something, not because it is wrong.
	if v.Failure.Link == verify.LinkOpening && strings.Contains(v.Failure.Reason, "is needed") {
		f.Found = "the document is sealed and its .opening file is not here"
		f.Meaning = "Nothing is known to be wrong. Ask whoever sealed the document for the .opening file, and give it with --opening."
	}
	if v.Failure.Link == verify.LinkTime && strings.HasPrefix(v.Failure.Reason, "time-stamp token") {
		f.Found = "a time-stamp in the receipt is not what it says it is"
		f.Meaning = "It was altered, or belongs to another receipt. Do not rely on this receipt; ask for it anew."
	}
	return f
}

// explain has a row for each link of the chain of evidence.
func explain(link verify.Link) Failure {
	rows := map[verify.Link]Failure{
		verify.LinkPolicy: {"the policy", "there is no policy to judge by", "Nothing was judged."},
		verify.LinkReceipt: {
			"the receipt file", "it cannot be read as a receipt",
			"The file is damaged, or something else. Ask for another copy; nothing is known of the document.",
		},
		verify.LinkCheckpoint: {
			"the witnesses", "the log and enough of the policy's witnesses do not vouch for this receipt",
			"The receipt was altered or forged, or it belongs to another log than your policy is about. Do not rely on it.",
		},
		verify.LinkInclusion: {
			"the place in the log", "the log that the witnesses saw does not hold this entry at this place",
			"The receipt was altered or forged. Do not rely on it.",
		},
		verify.LinkEntry: {
			"the entry", "what the receipt says was logged cannot be read, or is meant for another log",
			"The receipt proves nothing about this document. Do not rely on it.",
		},
		verify.LinkEnrolment: {
			"the signer", "it is not proven that the signer may speak for the organisation",
			"Somebody may have used the organisation's name. Do not rely on it before the organisation confirms it.",
		},
		verify.LinkSignature: {
			"the signature", "the named signers did not sign exactly this",
			"The statement was altered after signing, or forged. Do not rely on it.",
		},
		verify.LinkGrade: {
			"the grade", "your policy does not accept statements that a gateway received for somebody else",
			"The statement may be right, but the submitter did not sign it. Ask for one that the submitter signed.",
		},
		verify.LinkKeyStatus: {
			"the signer's key", "the key was reported lost or stolen before this was logged",
			"Somebody else may have signed this. Do not rely on it before the organisation confirms it.",
		},
		verify.LinkBeacon: {
			"the earliest time", "the proof of when it was signed at the earliest does not hold",
			"The receipt was altered, or the times in it were made up. Do not rely on it.",
		},
		verify.LinkTime: {
			"the times", "the times in the receipt cannot be true",
			"Look at this machine's clock first. If it is right, do not rely on the receipt.",
		},
		verify.LinkRecord: {
			"the record", "the record is not part of the batch that was logged",
			"The receipt was altered, or belongs to another batch. Do not rely on it.",
		},
		verify.LinkOpening: {
			"the sealed content", "the .opening file does not fit what was sealed",
			"It is the opening of something else, or was altered. Find the .opening file that was made together with this document.",
		},
		verify.LinkDocument: {
			"the document", "this file is not, byte for byte, the document that was logged",
			"The file was changed after it was logged, or it is another document or version. The receipt itself holds.",
		},
	}
	f, ok := rows[link]
	if !ok {
		return Failure{string(link), "this link of the evidence does not hold", "Do not rely on the receipt."}
	}
	return f
}

// Caveats says what a reader must know beside the verdict, in plain words where
// there are some.
func Caveats(v *verify.Verdict) []string {
	list := make([]string, 0, len(v.Caveats))
	for _, c := range v.Caveats {
		for _, row := range []struct{ part, plain string }{
			{"key status unknown: no keyring", "whether the signer's key was reported lost or stolen was not checked (give --keyring)"},
			{"key status unknown", "whether the signer's key was reported lost or stolen is not known: the keyring ends before this entry"},
			{"the statement names no beacon", "nothing is known of when this was signed, only until when it was logged"},
			{"sealed attributes were not opened", "the sealed details were not looked at (give --opening)"},
			{"1 of 1 time-stamp tokens", "the time-stamp in the receipt is of nobody whom your policy names, and was not looked at"},
			{"time-stamp tokens were not evaluated", "time-stamps by others than your policy names are in the receipt, and were not looked at"},
		} {
			if strings.Contains(c, row.part) {
				c = row.plain
				break
			}
		}
		list = append(list, c)
	}
	return list
}
