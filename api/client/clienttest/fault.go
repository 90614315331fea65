package clienttest

import (
	"net/http"

	trialogv1 "github.com/trialog/trialog/api/gen/trialog/v1"
	"github.com/trialog/trialog/api/internal/testlog"
	"github.com/trialog/trialog/api/receipt"
)

// Fault is what goes wrong with one submission.
type Fault string

// The faults. Those that end in After happen when the statement is stored.
const (
	None            Fault = "none"
	CutBefore       Fault = "cut-before"
	CutAfter        Fault = "cut-after"
	HalfAfter       Fault = "half-after" // the answer breaks off in its middle
	BusyBefore      Fault = "busy-before"
	UnavailAfter    Fault = "unavailable-after"
	QuotaBefore     Fault = "quota-before" // 429 with Retry-After
	HoldBefore      Fault = "hold-before"  // until Release, then the connection is cut
	HoldAfter       Fault = "hold-after"
	LieOther        Fault = "lie-other"         // the receipt of another entry
	LieIndex        Fault = "lie-index"         // the right receipt, a wrong index
	LieUnwitnessed  Fault = "lie-unwitnessed"   // one witness only
	LieForged       Fault = "lie-forged"        // the entry was altered
	LieIdentity     Fault = "lie-identity"      // the answer is about another statement
	LiePromise      Fault = "lie-promise"       // a promise that somebody else signed
	LieOtherPromise Fault = "lie-other-promise" // a promise about another entry
	ForbiddenAfter  Fault = "forbidden-after"   // 403 of something before the log
)

// Script says what goes wrong with the next submissions, one after the other;
// those beyond it succeed.
func (l *Log) Script(faults ...Fault) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.faults = faults
}

// RefuseDocuments makes uploads fail with a status; 0 ends that.
func (l *Log) RefuseDocuments(status int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.documents = status
}

// Held receives once for each call that is held.
func (l *Log) Held() <-chan struct{} { return l.held }

// Release lets one held call go on.
func (l *Log) Release() { l.release <- struct{}{} }

func (l *Log) next() Fault {
	if len(l.faults) == 0 {
		return None
	}
	f := l.faults[0]
	l.faults = l.faults[1:]
	return f
}

// hold waits for Release without keeping others out.
func (l *Log) hold() {
	l.mu.Unlock()
	defer l.mu.Lock()
	l.held <- struct{}{}
	<-l.release
}

// before does what goes wrong before the statement is stored, and tells whether
// it did.
func (l *Log) before(w http.ResponseWriter, f Fault) bool {
	switch f {
	case CutBefore:
		panic(http.ErrAbortHandler)
	case HoldBefore:
		l.hold()
		panic(http.ErrAbortHandler)
	case BusyBefore:
		w.Header().Set("Retry-After", "1")
		(&problem{Status: http.StatusServiceUnavailable, Detail: "the log takes nothing in at the moment"}).write(w)
	case QuotaBefore:
		w.Header().Set("Retry-After", "7")
		(&problem{Status: http.StatusTooManyRequests, Detail: "the quota is used up"}).write(w)
	default:
		return false
	}
	return true
}

// after does what goes wrong when the statement is stored, and tells whether
// the answer is given.
func (l *Log) after(w http.ResponseWriter, f Fault, resp *trialogv1.SubmitResponse) bool {
	switch f {
	case CutAfter:
		panic(http.ErrAbortHandler)
	case HoldAfter:
		l.hold()
		panic(http.ErrAbortHandler)
	case HalfAfter:
		w.Header().Set("Content-Length", "1000000")
		_, _ = w.Write([]byte(`{"state":"STATE_FINAL",`))
		panic(http.ErrAbortHandler)
	case UnavailAfter:
		w.WriteHeader(http.StatusBadGateway)
		_, _ = w.Write([]byte("<html>a proxy's page</html>"))
		return true
	case ForbiddenAfter:
		w.WriteHeader(http.StatusForbidden)
		_, _ = w.Write([]byte("<html>a proxy's page</html>"))
		return true
	default:
		l.lie(f, resp)
	}
	return false
}

// lie makes an answer untrue.
func (l *Log) lie(f Fault, resp *trialogv1.SubmitResponse) {
	switch f {
	case LieOther:
		for _, e := range l.entries {
			if e.Index == 0 {
				resp.Receipt = l.receipt(e)
			}
		}
	case LieIndex:
		resp.Index++
	case LieIdentity:
		resp.Identity = resp.GetIdentity()[2:] + "00"
	case LieUnwitnessed, LieForged:
		r := testlog.Must(receipt.Parse(resp.GetReceipt()))
		if f == LieForged {
			r.Entry[9]++
		} else {
			size, shard := l.world.First.Size(), l.world.First
			r.Proof = shard.Proof(resp.GetIndex(), shard.Note(size, l.world.CosignAt(shard.Time(size)+1)...))
		}
		resp.Receipt = testlog.Must(r.Encode())
	case LiePromise:
		honest := l.pending
		l.pending = testlog.Ed25519Key("somebody else")
		l.promiseAgain(resp)
		l.pending = honest
	case LieOtherPromise:
		l.world.First.Entries = append(l.world.First.Entries, l.world.First.Entries[0])
		resp.Index++
		l.promiseAgain(resp)
	default:
	}
}

// promiseAgain replaces the promise of an answer.
func (l *Log) promiseAgain(resp *trialogv1.SubmitResponse) {
	for id, e := range l.entries {
		if id.String() == resp.GetIdentity() {
			other := *e
			other.Index = resp.GetIndex()
			resp.Pending = l.promise(id, &other)
		}
	}
}
