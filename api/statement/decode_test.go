package statement_test

import (
	"encoding/json"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/trialog/trialog/api/internal/strictjson"
	"github.com/trialog/trialog/api/statement"
)

var zeros = strings.Repeat("0", 64)

// edit is one change to the text of a payload and the error that it must give.
type edit struct{ old, replacement, field, words string }

// rejects applies each edit alone to payload and decodes the result.
func rejects(t *testing.T, payload []byte, edits map[string]edit) {
	t.Helper()
	if _, err := statement.Decode(payload); err != nil {
		t.Fatalf("without an edit: %v", err)
	}
	for name, e := range edits {
		t.Run(name, func(t *testing.T) {
			s, err := statement.Decode([]byte(with(t, string(payload), e.old, e.replacement)))
			checkField(t, err, e.field, e.words)
			if s != nil {
				t.Error("Decode returned a statement beside its error")
			}
		})
	}
}

func TestDecodeRejectsForm(t *testing.T) {
	payload := build(t, sealedProtocol(t))
	rejects(t, payload, map[string]edit{
		"no type":                   {`"_type":"https://in-toto.io/Statement/v1",`, ``, "_type", "missing, expected a string"},
		"type of version 0.1":       {`in-toto.io/Statement/v1`, `in-toto.io/Statement/v0.1`, "_type", "in-toto.io/Statement/v1"},
		"type with a slash":         {`Statement/v1",`, `Statement/v1/",`, "_type", "expected"},
		"type is a number":          {`"https://in-toto.io/Statement/v1"`, `1`, "_type", "found an integer"},
		"case variant of the type":  {`"_type"`, `"_Type"`, "_type", `found "_Type"`},
		"second type, other case":   {`{"_type"`, `{"_TYPE":"","_type"`, "_TYPE", `case-sensitive: "_type"`},
		"duplicate type":            {`{"_type"`, `{"_type":"https://in-toto.io/Statement/v1","_type"`, "_type", "duplicate"},
		"duplicate type, escaped":   {`{"_type"`, `{"\u005ftype":"","_type"`, "_type", "duplicate"},
		"no predicate type":         {`"predicateType":"https://trialog.dev/statement/v1",`, ``, "predicateType", "missing"},
		"other predicate type":      {`trialog.dev/statement/v1`, `trialog.dev/statement/v2`, "predicateType", "expected"},
		"predicate type is null":    {`"https://trialog.dev/statement/v1"`, `null`, "predicateType", "found null"},
		"no predicate":              {`,"predicate":{`, `,"predicat":{`, "predicate", "missing, expected an object"},
		"predicate is an array":     {`"predicate":{`, `"predicate":[],"x":{`, "predicate", "found an array"},
		"unknown member at the top": {`{"_type"`, `{"note":"","_type"`, "note", "unknown member"},
		"unknown member inside":     {`"log":`, `"lag":1,"log":`, "predicate.lag", "unknown member"},
		"empty name":                {`"log":`, `"":1,"log":`, "predicate.", "unknown member"},
		"duplicate member inside":   {`"log":`, `"kind":"sap","log":`, "predicate.kind", "duplicate"},
		"case variant inside":       {`"log":`, `"Log":`, "predicate.log", `found "Log"`},
		"both cases inside":         {`"log":`, `"LOG":"x","log":`, "predicate.LOG", `case-sensitive: "log"`},
		"Kelvin sign for a k":       {`"kind":`, `"` + "\u212a" + `ind":`, "predicate.kind", "missing"},
		"a string ends early":       {`"reason":"`, `"reason":"" "`, "predicate.attributes", "expected ',' or '}'"},
		"surrogate alone":           {`halved`, `\ud83d`, "predicate.attributes.reason", "bad escape"},
		"invalid UTF-8":             {`halved`, "\xf0\x28\x8c\x28", "", "not valid UTF-8"},
		"line feed in a string":     {`halved`, "hal\nved", "predicate.attributes.reason", "control character"},
		"chain number of 2^53":      {`"number":2`, `"number":9007199254740992`, "predicate.chain.number", "2^53-1"},
		"chain number of 2^64+2":    {`"number":2`, `"number":18446744073709551618`, "predicate.chain.number", "2^53-1"},
		"chain number with point":   {`"number":2`, `"number":2.0`, "predicate.chain.number", "without fraction"},
		"beacon size of 2^53":       {`"size":7`, `"size":9007199254740992`, "predicate.beacon.size", "2^53-1"},
		"deep":                      {`"A1"`, strings.Repeat("[", 15) + strings.Repeat("]", 15), "predicate.attributes.amendment" + strings.Repeat("[0]", 13), "too deeply"},
		"a comment":                 {`"log":`, `/* */"log":`, "predicate", "name of a member"},
	})
	for name, tt := range map[string]struct{ text, field, words string }{
		"empty":             {"", "", "ends too early"},
		"an array":          {"[" + string(payload) + "]", "", "expected an object, found an array"},
		"two statements":    {string(payload) + string(payload), "", "after the end"},
		"trailing NUL":      {string(payload) + "\x00", "", "after the end"},
		"byte order mark":   {"\ufeff" + string(payload), "", "expected a JSON value"},
		"one byte too long": {string(payload) + strings.Repeat(" ", statement.MaxPayload+1-len(payload)), "payload", "is 46081 bytes, expected at most 46080"},
		"cut off":           {string(payload[:len(payload)-1]), "", "expected ',' or '}'"},
		"UTF-16":            {"\xff\xfe{\x00}\x00", "", "not valid UTF-8"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := statement.Decode([]byte(tt.text))
			checkField(t, err, tt.field, tt.words)
		})
	}
	if _, err := statement.Decode([]byte(string(payload) + strings.Repeat("\n", statement.MaxPayload-len(payload)))); err != nil {
		t.Errorf("a payload of the greatest length: %v", err)
	}
}

func TestDecodeRejectsSubject(t *testing.T) {
	commitment := digest("commitment").String()
	whole := `[{"name":"document","digest":{"trialogCommitV1":"` + commitment + `"}}]`
	one := whole[1 : len(whole)-1]
	value := `"` + commitment + `"`
	rejects(t, build(t, sealedProtocol(t)), map[string]edit{
		"no subject":          {`"subject":` + whole + `,`, ``, "subject", "missing, expected an array"},
		"subject is object":   {whole, one, "subject", "found an object"},
		"empty":               {whole, `[]`, "subject", "exactly one subject, found 0"},
		"two":                 {whole, `[` + one + `,` + one + `]`, "subject", "exactly one subject, found 2"},
		"a string":            {whole, `["document"]`, "subject[0]", "expected an object, found a string"},
		"no name":             {`"name":"document",`, ``, "subject[0].name", "missing"},
		"a file's name":       {`"name":"document"`, `"name":"protocol.pdf"`, "subject[0].name", `expected "document"`},
		"name of another":     {`"name":"document"`, `"name":"trial"`, "subject[0].name", `expected "document"`},
		"unknown member":      {`{"name":"document"`, `{"uri":"","name":"document"`, "subject[0].uri", "unknown member"},
		"no digest":           {`,"digest":{"trialogCommitV1":` + value + `}`, ``, "subject[0].digest", "missing"},
		"empty digest set":    {`{"trialogCommitV1":` + value + `}`, `{}`, "subject[0].digest", "exactly one digest"},
		"two digests":         {`{"trialogCommitV1":`, `{"sha256":` + value + `,"trialogCommitV1":`, "subject[0].digest", "exactly one digest"},
		"digest is a number":  {`"trialogCommitV1":` + value, `"trialogCommitV1":1`, "subject[0].digest", "exactly one digest, a string"},
		"unknown algorithm":   {`"trialogCommitV1"`, `"sha512"`, "subject[0].digest", "unknown algorithm"},
		"algorithm's case":    {`"trialogCommitV1"`, `"trialogcommitv1"`, "subject[0].digest", "unknown algorithm"},
		"empty algorithm":     {`"trialogCommitV1"`, `""`, "subject[0].digest", "unknown algorithm"},
		"upper-case digits":   {commitment, strings.ToUpper(commitment), "subject[0].digest.trialogCommitV1", "64 lower-case"},
		"63 digits":           {commitment, commitment[1:], "subject[0].digest.trialogCommitV1", "64 lower-case"},
		"65 digits":           {commitment, commitment + "0", "subject[0].digest.trialogCommitV1", "64 lower-case"},
		"no hexadecimal":      {commitment, "g" + commitment[1:], "subject[0].digest.trialogCommitV1", "64 lower-case"},
		"base64":              {commitment, "4ITM7aTnyb9QcMzT2HAkbXChmhBPDJAaKFSHBeymQ4M=", "subject[0].digest.trialogCommitV1", "64 lower-case"},
		"zero digest":         {commitment, zeros, "subject[0].digest", "not zero"},
		"a bare subject":      {`{"name":"document","digest":{"trialogCommitV1"`, `{"name":"trial","digest":{"trialogStatementV1"`, "subject[0].digest", "has a document"},
		"no media type":       {`"mediaType":"application/pdf",`, ``, "predicate.mediaType", "expected a media type"},
		"empty media type":    {`"application/pdf"`, `""`, "predicate.mediaType", "leave it out"},
		"upper-case media":    {`application/pdf`, `application/PDF`, "predicate.mediaType", "lower case"},
		"media parameters":    {`application/pdf`, `text/plain; charset=utf-8`, "predicate.mediaType", "without parameters"},
		"media wildcard":      {`application/pdf`, `application/*`, "predicate.mediaType", "expected a media type"},
		"media of one part":   {`application/pdf`, `pdf`, "predicate.mediaType", "expected a media type"},
		"media of 3 parts":    {`application/pdf`, `application/pdf/a`, "predicate.mediaType", "expected a media type"},
		"media without kind":  {`application/pdf`, `/pdf`, "predicate.mediaType", "expected a media type"},
		"media ends early":    {`application/pdf`, `application/`, "predicate.mediaType", "expected a media type"},
		"media of attributes": {`application/pdf`, `application/vnd.trialog.attributes+json`, "predicate.mediaType", "not the media type of a document"},
		"media too long":      {`application/pdf`, `application/` + strings.Repeat("x", 97), "predicate.mediaType", "expected a media type"},
		"media kind too long": {`application/pdf`, strings.Repeat("x", 65) + `/pdf`, "predicate.mediaType", "expected a media type"},
		"media is an array":   {`"application/pdf"`, `["application/pdf"]`, "predicate.mediaType", "found an array"},
	})
}

func TestDecodeRejectsNames(t *testing.T) {
	rejects(t, build(t, sealedProtocol(t)), map[string]edit{
		"no log":                  {`"log":"` + logName + `",`, ``, "predicate.log", "missing"},
		"empty log":               {`"log":"` + logName + `"`, `"log":""`, "predicate.log", "schema-less URL"},
		"log with a scheme":       {`"log":"log`, `"log":"https://log`, "predicate.log", "schema-less URL"},
		"log in upper case":       {`"log":"log`, `"log":"Log`, "predicate.log", "lower case"},
		"log ends in a slash":     {logName + `",`, logName + `/",`, "predicate.log", "trailing slash"},
		"log begins with a slash": {`"log":"log`, `"log":"/log`, "predicate.log", "schema-less URL"},
		"log goes up":             {`"log":"log`, `"log":"log/../log`, "predicate.log", "schema-less URL"},
		"log of six parts":        {logName + `",`, logName + `/2/3/4/5",`, "predicate.log", "schema-less URL"},
		"log with a line feed":    {logName + `",`, logName + `\n",`, "predicate.log", "schema-less URL"},
		"log with a plus":         {logName + `",`, logName + `+1",`, "predicate.log", "schema-less URL"},
		"log host too long":       {`"log":"log`, `"log":"` + strings.Repeat("x", 118), "predicate.log", "schema-less URL"},
		"log segment too long":    {logName + `",`, logName + strings.Repeat("x", 59) + `",`, "predicate.log", "schema-less URL"},
		"no organisation":         {`"organisation":"acme",`, ``, "predicate.organisation", "missing"},
		"empty organisation":      {`"acme"`, `""`, "predicate.organisation", "1 to 64"},
		"organisation of 65":      {`"acme"`, `"` + strings.Repeat("a", 65) + `"`, "predicate.organisation", "1 to 64"},
		"organisation with space": {`"acme"`, `"acme inc"`, "predicate.organisation", "1 to 64"},
		"an e-mail address":       {`"acme"`, `"a@acme.example"`, "predicate.organisation", "1 to 64"},
		"organisation with dash":  {`"acme"`, `"-acme"`, "predicate.organisation", "beginning with a letter or digit"},
		"Cyrillic look-alike":     {`"acme"`, `"` + "\u0430" + `cme"`, "predicate.organisation", "1 to 64"},
		"organisation with LF":    {`"acme"`, `"acme\n"`, "predicate.organisation", "1 to 64"},
		"no trial":                {`"trial":"NCT-1",`, ``, "predicate.trial", "1 to 64"},
		"empty trial":             {`"trial":"NCT-1"`, `"trial":""`, "predicate.trial", "leave it out"},
		"trial with a slash":      {`"trial":"NCT-1"`, `"trial":"NCT/1"`, "predicate.trial", "1 to 64"},
		"trial is null":           {`"trial":"NCT-1"`, `"trial":null`, "predicate.trial", "found null"},
		"no kind":                 {`"kind":"protocol",`, ``, "predicate.kind", "missing"},
		"unknown kind":            {`"kind":"protocol"`, `"kind":"poem"`, "predicate.kind", "unknown kind, expected one of those that this version knows"},
		"kind in upper case":      {`"kind":"protocol"`, `"kind":"Protocol"`, "predicate.kind", "unknown kind, expected one of those that this version knows"},
		"kind with a space":       {`"kind":"protocol"`, `"kind":"protocol "`, "predicate.kind", "unknown kind, expected one of those that this version knows"},
		"a scope's kind":          {`"kind":"protocol"`, `"kind":"rule"`, "predicate.trial", "names no trial"},
		"empty version":           {`"version":"2.0"`, `"version":""`, "predicate.version", "leave it out"},
		"version as a number":     {`"version":"2.0"`, `"version":2`, "predicate.version", "found an integer"},
		"version with a space":    {`"version":"2.0"`, `"version":"2 0"`, "predicate.version", "1 to 64"},
		"zero amends":             {digest("amended").String(), zeros, "predicate.amends", "not zero"},
		"amends is short":         {digest("amended").String(), "ab", "predicate.amends", "64 lower-case"},
		"amends is null":          {`"` + digest("amended").String() + `"`, "null", "predicate.amends", "found null"},
		"zero supersedes":         {digest("superseded").String(), zeros, "predicate.supersedes", "not zero"},
		"supersedes is a list":    {`"` + digest("superseded").String() + `"`, "[]", "predicate.supersedes", "found an array"},
	})
}

func TestDecodeRejectsSigners(t *testing.T) {
	s := sealedProtocol(t)
	author, approver := s.Signers[0].Key.String(), s.Signers[1].Key.String()
	const utc = "expected a UTC time YYYY-MM-DDThh:mm:ssZ"
	first := `{"key":"` + author + `","meaning":"authorship","at":"2026-01-02T03:04:05Z"}`
	second := `{"key":"` + approver + `","meaning":"approval","at":"2026-01-03T10:00:00Z"}`
	var nine []string
	for i := range 9 {
		nine = append(nine, with(t, first, author, digest(strconv.Itoa(i)).String()))
	}
	eight := "[" + strings.Join(nine[:8], ",") + "]"
	list := "[" + first + "," + second + "]"
	payload := build(t, s)
	if _, err := statement.Decode([]byte(with(t, string(payload), list, eight))); err != nil {
		t.Errorf("eight signers: %v", err)
	}
	rejects(t, payload, map[string]edit{
		"no signers":            {`"signers":` + list + `,`, ``, "predicate.signers", "missing"},
		"one object":            {list, first, "predicate.signers", "found an object"},
		"none":                  {list, `[]`, "predicate.signers", "1 to 8 signers, found 0"},
		"nine":                  {list, "[" + strings.Join(nine, ",") + "]", "predicate.signers", "1 to 8 signers, found 9"},
		"a string":              {second, `"` + approver + `"`, "predicate.signers[1]", "found a string"},
		"one key twice":         {approver, author, "predicate.signers[1].key", "named twice"},
		"no key":                {`"key":"` + approver + `",`, ``, "predicate.signers[1].key", "missing"},
		"zero key":              {approver, zeros, "predicate.signers[1].key", "not zero"},
		"key in upper case":     {approver, strings.ToUpper(approver), "predicate.signers[1].key", "64 lower-case"},
		"key is short":          {approver, approver[2:], "predicate.signers[1].key", "64 lower-case"},
		"no meaning":            {`"meaning":"approval",`, ``, "predicate.signers[1].meaning", "missing"},
		"unknown meaning":       {`"approval"`, `"applause"`, "predicate.signers[1].meaning", "expected one of [authorship review"},
		"meaning in upper case": {`"approval"`, `"Approval"`, "predicate.signers[1].meaning", "expected one of"},
		"empty meaning":         {`"approval"`, `""`, "predicate.signers[1].meaning", "expected one of"},
		"reception unreceived":  {`"approval"`, `"reception"`, "predicate.signers[1].meaning", "goes with the member received"},
		"no time":               {`,"at":"2026-01-03T10:00:00Z"`, ``, "predicate.signers[1].at", "missing"},
		"empty time":            {`"at":"2026-01-03T10:00:00Z"`, `"at":""`, "predicate.signers[1].at", utc},
		"time as a number":      {`"at":"2026-01-03T10:00:00Z"`, `"at":1767398400`, "predicate.signers[1].at", "found an integer"},
		"time with an offset":   {`05Z"`, `05+00:00"`, "predicate.signers[0].at", utc},
		"time of a small z":     {`05Z"`, `05z"`, "predicate.signers[0].at", utc},
		"time with a fraction":  {`05Z"`, `05.0Z"`, "predicate.signers[0].at", utc},
		"time without seconds":  {`04:05Z"`, `04Z"`, "predicate.signers[0].at", utc},
		"leap second":           {`03:04:05Z`, `23:59:60Z`, "predicate.signers[0].at", utc},
		"hour 24":               {`03:04:05Z`, `24:00:00Z`, "predicate.signers[0].at", utc},
		"space for T":           {`2T03`, `2 03`, "predicate.signers[0].at", utc},
		"a year":                {`-01-03T10:00:00Z`, ``, "predicate.signers[1].at", utc},
		"a month":               {`-03T10:00:00Z`, ``, "predicate.signers[1].at", utc},
		"a day":                 {`-03T10:00:00Z`, `-03`, "predicate.signers[1].at", utc},
		"day that is not":       {`2026-01-03T`, `2026-02-29T`, "predicate.signers[1].at", utc},
		"month 13":              {`2026-01-03T`, `2026-13-03T`, "predicate.signers[1].at", utc},
		"year 1899":             {`2026-01-03T`, `1899-01-03T`, "predicate.signers[1].at", utc},
		"year of five digits":   {`2026-01-03T`, `12026-01-03T`, "predicate.signers[1].at", utc},
		"another order":         {`2026-01-03T`, `03-01-2026T`, "predicate.signers[1].at", utc},
		"fraction for the zone": {`10:00:00Z`, `10:00:00.`, "predicate.signers[1].at", utc},
		"unknown member":        {`"meaning":"approval"`, `"name":"Jo","meaning":"approval"`, "predicate.signers[1].name", "unknown member"},
		"duplicate member":      {`"meaning":"approval"`, `"at":"2026","meaning":"approval"`, "predicate.signers[1].at", "duplicate"},
	})
}

func TestDecodeRejectsLinks(t *testing.T) {
	s := sealedProtocol(t)
	previous, note := s.Chain.Previous.String(), s.Beacon.Note.String()
	const shard = "expected the origin of a shard of " + logName
	dates := `{"approved":"2026-01","effective":"2027"}`
	var many []string
	for i := range 17 {
		many = append(many, `"d`+strconv.Itoa(i)+`":"2026"`)
	}
	payload := build(t, s)
	if _, err := statement.Decode([]byte(with(t, string(payload), dates, "{"+strings.Join(many[:16], ",")+"}"))); err != nil {
		t.Errorf("16 dates: %v", err)
	}
	rejects(t, payload, map[string]edit{
		"no chain":                 {`"chain":{"number":2,"previous":"` + previous + `"},`, ``, "predicate.chain", "missing"},
		"chain is a number":        {`{"number":2,"previous":"` + previous + `"}`, `2`, "predicate.chain", "found an integer"},
		"no number":                {`"number":2,`, ``, "predicate.chain.number", "missing"},
		"number 0":                 {`"number":2`, `"number":0`, "predicate.chain.number", "at least 1"},
		"number -1":                {`"number":2`, `"number":-1`, "predicate.chain.number", "at least 0, found -1"},
		"number is text":           {`"number":2`, `"number":"2"`, "predicate.chain.number", "found a string"},
		"number 1 with previous":   {`"number":2`, `"number":1`, "predicate.chain.previous", "absent for number 1"},
		"number 2 without":         {`,"previous":"` + previous + `"`, ``, "predicate.chain.previous", "present for every other"},
		"zero previous":            {previous, zeros, "predicate.chain.previous", "not zero"},
		"short previous":           {previous, "00", "predicate.chain.previous", "64 lower-case"},
		"unknown member of chain":  {`"number":2`, `"head":1,"number":2`, "predicate.chain.head", "unknown member"},
		"beacon is null":           {`"beacon":{"origin":"` + logName + `/2026","size":7,"sha256":"` + note + `"}`, `"beacon":null`, "predicate.beacon", "found null"},
		"no origin":                {`"origin":"` + logName + `/2026",`, ``, "predicate.beacon.origin", "missing"},
		"origin with a scheme":     {`"origin":"`, `"origin":"https://`, "predicate.beacon.origin", shard},
		"origin of two lines":      {`/2026"`, `/2026\n7"`, "predicate.beacon.origin", shard},
		"origin of another log":    {`"origin":"` + logName, `"origin":"log.example.org/other`, "predicate.beacon.origin", shard},
		"origin is the log":        {`"origin":"` + logName + `/2026"`, `"origin":"` + logName + `"`, "predicate.beacon.origin", shard},
		"origin is a longer name":  {`"origin":"` + logName + `/2026"`, `"origin":"` + logName + `2/2026"`, "predicate.beacon.origin", shard},
		"origin of no shard":       {`"origin":"` + logName + `/2026"`, `"origin":"` + logName + `/"`, "predicate.beacon.origin", shard},
		"origin in upper case":     {`/2026"`, `/A"`, "predicate.beacon.origin", shard},
		"no size":                  {`"size":7,`, ``, "predicate.beacon.size", "missing"},
		"size 0":                   {`"size":7`, `"size":0`, "predicate.beacon.size", "not empty"},
		"size -7":                  {`"size":7`, `"size":-7`, "predicate.beacon.size", "at least 0"},
		"no digest of the note":    {`,"sha256":"` + note + `"`, ``, "predicate.beacon.sha256", "missing"},
		"zero digest of the note":  {note, zeros, "predicate.beacon.sha256", "not zero"},
		"unknown member of beacon": {`"size":7`, `"time":7,"size":7`, "predicate.beacon.time", "unknown member"},
		"no dates":                 {dates, `{}`, "predicate.dates", "1 to 16 members"},
		"dates in an array":        {dates, `["2026"]`, "predicate.dates", "1 to 16 members"},
		"17 dates":                 {dates, "{" + strings.Join(many, ",") + "}", "predicate.dates", "1 to 16 members"},
		"date is a number":         {`"2027"`, `2027`, "predicate.dates.effective", "found an integer"},
		"date is empty":            {`"2027"`, `""`, "predicate.dates.effective", "expected a date"},
		"date of February 30":      {`"2027"`, `"2027-02-30"`, "predicate.dates.effective", "expected a date"},
		"date of month 13":         {`"2027"`, `"2027-13"`, "predicate.dates.effective", "expected a date"},
		"date of a short month":    {`"2027"`, `"2027-1"`, "predicate.dates.effective", "expected a date"},
		"date of two digits":       {`"2027"`, `"27"`, "predicate.dates.effective", "expected a date"},
		"date of 1899":             {`"2027"`, `"1899"`, "predicate.dates.effective", "expected a date"},
		"date of five digits":      {`"2027"`, `"12027-01-03"`, "predicate.dates.effective", "expected a date"},
		"date in another order":    {`"2027"`, `"03-01-2027"`, "predicate.dates.effective", "expected a date"},
		"date with a space":        {`"2027"`, `"2027 "`, "predicate.dates.effective", "expected a date"},
		"duplicate date":           {`"effective"`, `"approved"`, "predicate.dates.approved", "duplicate"},
		"a name for a date":        {`"effective"`, `"birthday of Jo"`, "predicate.dates", "expected names of 1 to 64"},
		"received unreceived":      {`"beacon"`, `"received":{"principal":"p","method":"token"},"beacon"`, "predicate.signers[0].meaning", "goes with the member received"},
		"sealed attributes":        {`"beacon"`, `"sealedAttributes":{"trialogCommitV1":"` + note[1:] + `0"},"beacon"`, "predicate.sealedAttributes", "no sealed attributes"},
		"bare sealed attributes":   {`"beacon"`, `"sealedAttributes":"` + note[1:] + `0","beacon"`, "predicate.sealedAttributes", "found a string"},
		"zero sealed attributes":   {`"beacon"`, `"sealedAttributes":{"trialogCommitV1":"` + zeros + `"},"beacon"`, "predicate.sealedAttributes.trialogCommitV1", "not zero"},
		"no sealed attributes":     {`"beacon"`, `"sealedAttributes":{},"beacon"`, "predicate.sealedAttributes.trialogCommitV1", "missing"},
		"sealed by plain digest":   {`"beacon"`, `"sealedAttributes":{"trialogCommitV1":"` + note[1:] + `0","sha256":""},"beacon"`, "predicate.sealedAttributes.sha256", "unknown member"},
	})
}

func TestDecodeRejectsReceived(t *testing.T) {
	payload := build(t, received(sealedProtocol(t)))
	key := edKey(t, "author").ID().String()
	signer := `{"key":"` + key + `","meaning":"reception","at":"2026-01-02T03:04:05Z"}`
	rejects(t, payload, map[string]edit{
		"meaning of a signer":   {`"reception"`, `"authorship"`, "predicate.signers[0].meaning", "goes with the member received"},
		"two signers":           {signer, signer + "," + with(t, signer, key, digest("k").String()), "predicate.signers", "the gateway as its one signer"},
		"no received":           {`,"received":{"principal":"p-17","method":"token"}`, ``, "predicate.signers[0].meaning", "goes with the member received"},
		"received is null":      {`{"principal":"p-17","method":"token"}`, `null`, "predicate.received", "found null"},
		"no principal":          {`"principal":"p-17",`, ``, "predicate.received.principal", "missing"},
		"empty principal":       {`"p-17"`, `""`, "predicate.received.principal", "1 to 64"},
		"principal by e-mail":   {`"p-17"`, `"jo@site.example"`, "predicate.received.principal", "1 to 64"},
		"principal is a number": {`"p-17"`, `17`, "predicate.received.principal", "found an integer"},
		"no method":             {`,"method":"token"`, ``, "predicate.received.method", "missing"},
		"method with a space":   {`"token"`, `"a token"`, "predicate.received.method", "1 to 64"},
		"request is null":       {`"method":"token"`, `"method":"token","request":null`, "predicate.received.request", "found null"},
		"zero request":          {`"method":"token"`, `"method":"token","request":"` + zeros + `"`, "predicate.received.request", "expected a digest that is not zero"},
		"short request":         {`"method":"token"`, `"method":"token","request":"` + key[1:] + `"`, "predicate.received.request", "64 lower-case"},
		"request in clear":      {`"method":"token"`, `"method":"token","request":"r-1"`, "predicate.received.request", "64 lower-case"},
		"unknown member":        {`"method":"token"`, `"method":"token","ip":"::1"`, "predicate.received.ip", "unknown member"},
	})
	s, err := statement.Decode(payload)
	if err != nil || s.Grade() != statement.Received {
		t.Errorf("Decode = grade %v, %v; want received", s, err)
	}
}

// TestBuildDecode holds that a statement with every optional member comes back
// as it was, and that the payload is JSON to others too.
func TestBuildDecode(t *testing.T) {
	request := received(sealedProtocol(t))
	request.Received.Request = statement.RequestDigest("p-17", "r-1")
	for name, s := range map[string]*statement.Statement{
		"everything": sealedProtocol(t), "received": received(sealedProtocol(t)), "received request": request,
	} {
		payload := build(t, s)
		got, err := statement.Decode(payload)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if diff := cmp.Diff(s, got); diff != "" {
			t.Errorf("%s: Decode of what Build wrote (-want +got):\n%s", name, diff)
		}
		if !json.Valid(payload) {
			t.Errorf("%s: encoding/json does not read the payload", name)
		}
	}
	s := sealedProtocol(t)
	if s.Grade() != statement.Signed || s.Writer() != s.Signers[0].Key || !s.HasDocument() {
		t.Errorf("grade %q, writer %s, document %v", s.Grade(), s.Writer(), s.HasDocument())
	}
}

// TestBuildForm holds the one form that Build writes.
func TestBuildForm(t *testing.T) {
	s := minimal(t, statement.KindMilestone)
	s.Attributes = append(s.Attributes, statement.TextMember("planned", "2026"))
	s.Organisation, s.Signers[0].Key, s.Digest = "a", digest("key"), digest("first")
	want := `{"_type":"https://in-toto.io/Statement/v1",` +
		`"subject":[{"name":"trial","digest":{"trialogStatementV1":"` + digest("first").String() + `"}}],` +
		`"predicateType":"https://trialog.dev/statement/v1","predicate":{"log":"log.example.org/trials",` +
		`"organisation":"a","trial":"NCT-1","kind":"milestone",` +
		`"signers":[{"key":"` + digest("key").String() + `","meaning":"authorship","at":"2026-01-02T10:00:00Z"}],"chain":{"number":1},` +
		`"attributes":{"milestone":"token-1","planned":"2026"}}}`
	if got := string(build(t, s)); got != want {
		t.Errorf("Build wrote %s\nwant %s", got, want)
	}
	// Nothing is escaped that need not be.
	if got := string(build(t, sealedProtocol(t))); !strings.Contains(got, `"reason":"dose “halved” <&> \u2028 😀"`) {
		t.Errorf("Build wrote %s", got)
	}
}

// TestBuildRejects holds what a payload cannot say, but a struct can.
func TestBuildRejects(t *testing.T) {
	tests := map[string]struct {
		change       func(s *statement.Statement)
		field, words string
	}{
		"no signer":     {func(s *statement.Statement) { s.Signers = nil }, "predicate.signers", "found 0"},
		"invalid UTF-8": {func(s *statement.Statement) { s.Attributes[1].Value.Text = "a\xff" }, "predicate.attributes.reason", "UTF-8"},
		"attribute twice": {
			func(s *statement.Statement) { s.Attributes[1] = s.Attributes[0] },
			"predicate.attributes.amendment", "duplicate",
		},
		"date twice": {func(s *statement.Statement) { s.Dates[1] = s.Dates[0] }, "predicate.dates.approved", "duplicate"},
		"17 dates": {func(s *statement.Statement) {
			for i := range 15 {
				s.Dates = append(s.Dates, statement.NamedDate{Name: "d" + strconv.Itoa(i), Date: "2026"})
			}
		}, "predicate.dates", "1 to 16"},
		"chain number 2^53": {func(s *statement.Statement) { s.Chain.Number = 1 << 53 }, "predicate.chain.number", "at least 1"},
		"beacon size 2^53":  {func(s *statement.Statement) { s.Beacon.Size = 1 << 53 }, "predicate.beacon.size", "2^53-1"},
		"beacon without note": {
			func(s *statement.Statement) { s.Beacon.Note = statement.Digest{} },
			"predicate.beacon.sha256", "missing",
		},
		"signer without key": {
			func(s *statement.Statement) { s.Signers[1].Key = statement.KeyID{} },
			"predicate.signers[1].key", "not zero",
		},
		"zero subject":    {func(s *statement.Statement) { s.Digest = statement.Digest{} }, "subject[0].digest", "not zero"},
		"unknown subject": {func(s *statement.Statement) { s.Subject = "md5" }, "subject[0].digest", "has a document"},
		"a value of no kind": {
			func(s *statement.Statement) { s.Attributes[0].Value.Kind = 99 },
			"predicate.attributes.amendment", "expected a string, found no JSON value",
		},
		"too long": {func(s *statement.Statement) {
			s.Kind, s.Attributes = statement.KindEthicsApproval, []statement.Member{statement.TextMember("decision", "approved")}
			var covers []string
			for i := range 65 {
				covers = append(covers, digest(strconv.Itoa(i)).String())
			}
			s.Attributes = append(s.Attributes, statement.ListMember("covers", covers...))
		}, "predicate.attributes.covers", "1 to 64"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := sealedProtocol(t)
			tt.change(s)
			payload, err := statement.Build(s)
			checkField(t, err, tt.field, tt.words)
			if payload != nil {
				t.Error("Build returned a payload beside its error")
			}
		})
	}
}

func TestCountMember(t *testing.T) {
	for _, n := range []uint64{1 << 53, 1<<63 - 1, 1 << 63, 1<<64 - 1} {
		s := minimal(t, statement.KindClose)
		s.Attributes = []statement.Member{statement.CountMember("statements", n)}
		_, err := statement.Build(s)
		checkField(t, err, "predicate.attributes.statements", "0 to 2^53-1")
	}
	s := minimal(t, statement.KindClose)
	s.Attributes = []statement.Member{statement.CountMember("statements", strictjson.MaxInteger)}
	got, err := statement.Decode(build(t, s))
	if err != nil || got.CountAttribute("statements") != 1<<53-1 {
		t.Errorf("greatest count: %v, %v", got, err)
	}
}
