package timestamp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/trialog/trialog/api/client"
	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/services/internal/run"
	"github.com/trialog/trialog/services/internal/statefile"
)

// Limits and paces of the journal.
const (
	// maxBatchRecords is how many records go into one batch; what is left goes
	// into the next one at once.
	maxBatchRecords = 1 << 15
	// lookInterval is the time between two looks at whether records are due.
	lookInterval = 15 * time.Second
	// After a failure the next try comes within these.
	firstRetry, longestRetry = 5 * time.Second, 5 * time.Minute
	// logProblems is what the types of a log's problems begin with.
	logProblems = "https://trialog.dev/problems/"
	// maxRebuilds is how often one try signs anew because somebody else with the
	// same key was quicker.
	maxRebuilds = 3
)

// Log is the log as the journal uses it. *client.Client is one; its answers are
// verified.
type Log interface {
	// Chain returns where the key's next statement outside trials belongs.
	Chain(ctx context.Context, key statement.KeyID, trial string) (*client.Chain, error)
	// Beacon returns the newest cosigned checkpoint; nil if there is none.
	Beacon(ctx context.Context) (*statement.Beacon, []byte, error)
	// Submit sends a statement. The same one again gives the same entry.
	Submit(ctx context.Context, envelope, beacon []byte, wait client.Wait) (*client.Acknowledgement, error)
}

// JournalConfig says where the records of tokens are logged.
type JournalConfig struct {
	Log Log
	// Name is the log's name, which statements carry.
	Name string
	// Organisation is the one that Key is enrolled for, with the role operator.
	Organisation string
	// Key signs statements; nothing else uses it.
	Key *statement.PrivateKey
	// Interval is the longest that a record waits before it goes into a batch.
	Interval time.Duration
	// Folder is where what was logged is kept; see Logged. It must be there.
	Folder string
	// Now is the machine's clock.
	Now func() time.Time
}

// journal logs the records of tokens, each exactly once: a batch is durable
// before it is sent, and sent with the same bytes until the log has answered for
// it; only then, and once its receipt is durable, are its records forgotten.
type journal struct {
	c      JournalConfig
	state  *state
	random io.Reader
	pause  func(context.Context, time.Duration) error
	log    *slog.Logger
	most   int // records in a batch
}

func newJournal(c JournalConfig, s *state, a Config) (*journal, error) {
	if c.Log == nil || c.Key == nil || c.Now == nil || c.Folder == "" || c.Interval <= 0 {
		return nil, errors.New("journal: expected a log, a key, a clock, a folder and an interval")
	}
	if err := errors.Join(statement.CheckLog("log", c.Name), statement.CheckToken("organisation", c.Organisation)); err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	return &journal{c: c, state: s, random: a.Random, pause: a.Pause, log: a.Logger, most: maxBatchRecords}, nil
}

// run logs records when they are due, until ctx ends.
func (j *journal) run(ctx context.Context) error {
	for failures := 0; ; {
		wait := lookInterval
		switch err := j.logDue(ctx); {
		case err == nil:
			failures = 0
		case ctx.Err() != nil:
			return nil //nolint:nilerr // it was told to end
		case errors.Is(err, statefile.ErrCommit):
			return err
		default:
			failures++
			wait = run.Backoff(failures, firstRetry, longestRetry)
			j.log.Warn("token records are not logged yet", "error", err, "retry_in", wait)
		}
		if j.pause(ctx, wait) != nil {
			return nil //nolint:nilerr // it was told to end
		}
	}
}

// logDue finishes the batch that is under way, if any, and logs all records if
// the oldest one is due. Without records it asks nobody anything.
func (j *journal) logDue(ctx context.Context) error {
	for {
		b, err := j.state.batch()
		if err != nil {
			return err
		}
		if b != nil {
			if err := j.send(ctx, b, true); err != nil {
				return err
			}
			continue
		}
		records, err := j.state.oldest(j.most)
		if err != nil || len(records) == 0 {
			return err
		}
		if age := j.c.Now().Sub(records[0].time); age < j.c.Interval && len(records) < j.most {
			return nil
		}
		if b, err = j.sign(ctx, records); err != nil {
			return err
		}
		if err := j.send(ctx, b, false); err != nil {
			return err
		}
	}
}

// sign makes a batch of records and makes it durable.
func (j *journal) sign(ctx context.Context, records []*record) (*batch, error) {
	chain, err := j.c.Log.Chain(ctx, j.c.Key.ID(), "")
	if err != nil {
		return nil, fmt.Errorf("ask for the chain of the key: %w", err)
	}
	if chain.Organisation != j.c.Organisation {
		return nil, fmt.Errorf("the key %s is enrolled in the log for organisation %q, expected %q",
			j.c.Key.ID(), chain.Organisation, j.c.Organisation)
	}
	beacon, note, err := j.c.Log.Beacon(ctx)
	if err != nil {
		return nil, fmt.Errorf("ask for a beacon: %w", err)
	}
	b := &batch{label: "tokens-" + records[0].serial.text(), beacon: note}
	for _, r := range records {
		rec, err := statement.NewRecord(string(statement.KindToken), r.item(j.c.Organisation), j.random)
		if err != nil {
			return nil, fmt.Errorf("make the record of a token: %w", err)
		}
		b.records, b.serials = append(b.records, rec.Encode()), append(b.serials, r.serial)
	}
	root, err := statement.BatchRoot(b.records)
	if err != nil {
		return nil, err
	}
	payload, err := statement.Build(&statement.Statement{
		Log: j.c.Name, Organisation: j.c.Organisation, Kind: statement.KindBatch,
		Signers: []statement.Signer{{Key: j.c.Key.ID(), Meaning: statement.Authorship, At: date(j.c.Now())}},
		Chain:   chain.Next(), Beacon: beacon,
		Subject: statement.SubjectLog, Digest: statement.LogDigest(j.c.Name),
		Attributes: []statement.Member{
			statement.TextMember("label", b.label), statement.TextMember("recordType", string(statement.KindToken)),
			statement.CountMember("count", uint64(len(b.records))), statement.TextMember("root", root.String()),
		},
	})
	if err != nil {
		return nil, fmt.Errorf("build the batch: %w", err)
	}
	env, err := statement.Sign(payload, j.c.Key)
	if err != nil {
		return nil, fmt.Errorf("sign the batch: %w", err)
	}
	b.envelope = env.Bytes()
	return b, j.state.keepBatch(b)
}

// send sends a batch and puts down what comes of it. found says that it may have
// been sent before.
func (j *journal) send(ctx context.Context, b *batch, found bool) error {
	for rebuilds := 0; ; rebuilds++ {
		ack, err := j.c.Log.Submit(ctx, b.envelope, b.beacon, client.Final)
		if err == nil {
			return j.finish(b, ack)
		}
		var p *client.Problem
		if !errors.As(err, &p) || !rejected(p, found) {
			return fmt.Errorf("send the batch %s: %w", b.label, err)
		}
		// The log said that it stored nothing of this batch.
		if err := j.state.dropBatch(false); err != nil {
			return err
		}
		if p.Head == nil || rebuilds == maxRebuilds {
			return fmt.Errorf("the log refused the batch %s: %w", b.label, err)
		}
		records, err := j.state.oldest(j.most)
		if err != nil {
			return err
		}
		if b, err = j.sign(ctx, records); err != nil {
			return err
		}
		found = false
	}
}

// rejected tells whether an answer means that the statement is not in the log.
// The log looks a statement up before it judges it; what its door refuses before
// that, such as a quota, says nothing about an earlier attempt.
func rejected(p *client.Problem, found bool) bool {
	switch {
	case p.Temporary():
		return false
	case !strings.HasPrefix(p.Type, logProblems):
		return false // not the log's own words, but those of something in front of it
	case !found && !p.Uncertain:
		return true // the one answer to the one time it was sent
	case p.Status == http.StatusBadRequest, p.Status == http.StatusConflict:
		return true
	}
	return p.Status == http.StatusForbidden && strings.HasPrefix(p.Field, "envelope.payload.")
}

// finish keeps the receipt, and then forgets the records. Both are done again
// after a crash in between.
func (j *journal) finish(b *batch, ack *client.Acknowledgement) error {
	if ack.Receipt == nil {
		return fmt.Errorf("the log has only promised the batch %s", b.label)
	}
	if err := keepLogged(j.c.Folder, b.label, b.records, ack.Receipt); err != nil {
		return err
	}
	if err := j.state.dropBatch(true); err != nil {
		return err
	}
	j.log.Info("token records are logged", "label", b.label, "records", len(b.records), "index", ack.Index)
	return nil
}
