package witness

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"

	"go.etcd.io/bbolt"
)

// Report is how a witness stands.
type Report struct {
	// Running tells that the process told it; otherwise it is read from the state
	// file, which does not say which logs are configured.
	Running bool         `json:"running"`
	Logs    []LogStatus  `json:"logs"`
	Lists   []ListStatus `json:"lists,omitempty"`
}

// LogStatus is how a witness stands with one log.
type LogStatus struct {
	Origin string `json:"origin"`
	// Size and Time, in Unix seconds, are those of the newest cosignature; both
	// are 0 if there was none.
	Size uint64 `json:"size,string"`
	Time uint64 `json:"time,string"`
	// State is "cosigning", "quarantine" or "held"; empty if it is not known.
	State  string `json:"state,omitempty"`
	Reason string `json:"reason,omitempty"`
	// List is the list that named the log; empty if it is configured.
	List string `json:"list,omitempty"`
	// Evidence is how many entries the journal has about the log.
	Evidence int `json:"evidence"`
}

// ListStatus is a log list that is in force.
type ListStatus struct {
	Log     string `json:"log"`
	From    string `json:"from"`
	Version uint64 `json:"version,string"`
	Taken   int64  `json:"taken,string"` // Unix seconds
	// Disputed is how many lists were refused because they contradict it.
	Disputed int `json:"disputed"`
}

// Paths of the Inspect handler.
const (
	InspectStatus  = "/status"
	InspectJournal = "/journal" // ?origin=…
)

// Inspect serves the Report, and the journal of one log, as JSON. It is for the
// witness's operator, over a socket of his own.
func (w *Witness) Inspect() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+InspectStatus, func(rw http.ResponseWriter, r *http.Request) {
		report, err := w.Report()
		w.inspected(rw, r, report, err)
	})
	mux.HandleFunc("GET "+InspectJournal, func(rw http.ResponseWriter, r *http.Request) {
		journal, err := w.state.journal(r.URL.Query().Get("origin"))
		w.inspected(rw, r, journal, err)
	})
	return mux
}

func (w *Witness) inspected(rw http.ResponseWriter, r *http.Request, v any, err error) {
	raw, encoding := json.Marshal(v)
	if err = errors.Join(err, encoding); err != nil {
		w.log.ErrorContext(r.Context(), "reading the state file failed", "error", err)
		refuse(http.StatusInternalServerError, "state", "", errors.New("the state could not be read")).write(rw)
		return
	}
	answer{status: http.StatusOK, contentType: "application/json", body: append(raw, '\n')}.write(rw)
}

// Report says how the witness stands with every log that it follows, by origin.
func (w *Witness) Report() (*Report, error) {
	report, err := w.state.report(w.origins())
	if err != nil {
		return nil, err
	}
	report.Running = true
	t := w.table.Load()
	for i := range report.Logs {
		l := &report.Logs[i]
		if f := t.byOrigin[l.Origin]; f != nil {
			state, reason := f.gate.now()
			l.State, l.Reason, l.List = state.String(), reason, f.list
		}
	}
	return report, nil
}

// File is the state file of a witness that is not running, opened to be read.
type File struct{ state *state }

// OpenFile opens a state file to be read. It fails while a witness has it.
func OpenFile(path string) (*File, error) {
	s, err := openState(path, true)
	if err != nil {
		return nil, err
	}
	return &File{s}, nil
}

// Report says what the file holds, by origin.
func (f *File) Report() (*Report, error) { return f.state.report(nil) }

// Journal returns the evidence about one log.
func (f *File) Journal(origin string) (*Journal, error) { return f.state.journal(origin) }

// Close closes the file.
func (f *File) Close() error { return f.state.Close() }

// report says what the file holds about these logs and all that it has.
func (s *state) report(followed []string) (*Report, error) {
	logs := make(map[string]*LogStatus, len(followed))
	of := func(origin string) *LogStatus {
		if logs[origin] == nil {
			logs[origin] = &LogStatus{Origin: origin}
		}
		return logs[origin]
	}
	for _, origin := range followed {
		of(origin)
	}
	r := &Report{}
	err := s.View(func(tx *bbolt.Tx) error {
		if err := each(tx, logsBucket, func(k, v []byte) error {
			rec, _, err := decodeRecord(string(k), v)
			if err == nil {
				of(string(k)).Size, of(string(k)).Time = rec.Size, rec.Time
			}
			return err
		}); err != nil {
			return err
		}
		if err := each(tx, heldBucket, func(k, v []byte) error {
			of(string(k)).State, of(string(k)).Reason = held.String(), string(v)
			return nil
		}); err != nil {
			return err
		}
		if err := each(tx, evidenceBucket, func(k, _ []byte) error {
			of(string(k)).Evidence = tx.Bucket([]byte(evidenceBucket)).Bucket(k).Stats().KeyN
			return nil
		}); err != nil {
			return err
		}
		return each(tx, listsBucket, func(k, v []byte) error {
			l, err := listStatus(tx, string(k), v)
			r.Lists = append(r.Lists, l)
			return err
		})
	})
	if err != nil {
		return nil, fmt.Errorf("reading the state file: %w", err)
	}
	for _, origin := range slices.Sorted(maps.Keys(logs)) {
		r.Logs = append(r.Logs, *logs[origin])
	}
	return r, nil
}

func listStatus(tx *bbolt.Tx, log string, raw []byte) (ListStatus, error) {
	var s storedList
	if err := json.Unmarshal(raw, &s); err != nil {
		return ListStatus{}, fmt.Errorf("decoding the list of %q: %w", log, err)
	}
	list, err := parseStored(s.List)
	if err != nil {
		return ListStatus{}, err
	}
	out := ListStatus{Log: log, From: s.From, Version: list.Version, Taken: s.Taken}
	if b := tx.Bucket([]byte(disputedBucket)).Bucket([]byte(log)); b != nil {
		out.Disputed = b.Stats().KeyN
	}
	return out, nil
}

// each goes through a bucket, which files of the first witnesses may not have.
func each(tx *bbolt.Tx, name string, fn func(k, v []byte) error) error {
	b := tx.Bucket([]byte(name))
	if b == nil {
		return nil
	}
	return b.ForEach(fn)
}
