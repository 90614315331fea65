package timestamp

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/trialog/trialog/api/client"
	"github.com/trialog/trialog/api/client/clienttest"
	"github.com/trialog/trialog/api/entry"
	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/api/verify"
	"github.com/trialog/trialog/services/internal/statefile"
)

const organisation = "log-operator"

// ours is a type of the log's own problems.
const ours = "https://trialog.dev/problems/bad-request"

// logged is an authority with a log.
type logged struct {
	*world

	log    *clienttest.Log
	client *client.Client
	policy *verify.Policy
	key    *statement.PrivateKey
	issued []string // serial numbers
}

// between is a Log at which a test interferes.
type between struct {
	Log

	submit func(envelope, beacon []byte) (*client.Acknowledgement, error) // nil: as it is
}

func (b *between) Submit(ctx context.Context, envelope, beacon []byte, wait client.Wait) (*client.Acknowledgement, error) {
	if b.submit != nil {
		return b.submit(envelope, beacon)
	}
	return b.Log.Submit(ctx, envelope, beacon, wait)
}

func newLogged(t *testing.T) *logged {
	t.Helper()
	l := &logged{log: clienttest.New()}
	server := httptest.NewServer(l.log)
	t.Cleanup(server.Close)
	text, sidecar := l.log.Policy()
	var err error
	if l.policy, err = verify.ParsePolicy(text, sidecar); err != nil {
		t.Fatal(err)
	}
	l.key = privateKey(t)
	l.world = newWorld(t, func(c *Config) {
		now := func() time.Time { return l.clock.time() }
		l.client, err = client.New(client.Config{Server: server.URL, Token: clienttest.Token, Policy: l.policy, Now: time.Now})
		if err != nil {
			t.Fatal(err)
		}
		l.enrol(t, organisation)
		c.Journal = &JournalConfig{
			Log: l.client, Name: clienttest.Name, Organisation: organisation, Key: l.key, Interval: time.Hour,
			Folder: t.TempDir(), Now: now,
		}
	})
	return l
}

func privateKey(t testing.TB) *statement.PrivateKey {
	t.Helper()
	key, err := statement.NewPrivateKey(newKey(t))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// enrol makes the key the first one of an organisation, as operator.
func (l *logged) enrol(t *testing.T, organisation string) {
	t.Helper()
	recovery := privateKey(t)
	beacon, note, err := l.client.Beacon(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	payload, err := statement.Build(&statement.Statement{
		Log: clienttest.Name, Organisation: organisation, Kind: statement.KindKey, Chain: statement.Link{Number: 1}, Beacon: beacon,
		Signers: []statement.Signer{{Key: l.key.ID(), Meaning: statement.Authorship, At: "2026-03-01T00:00:00Z"}},
		Subject: statement.SubjectKey, Digest: l.key.ID(),
		Attributes: []statement.Member{
			statement.TextMember("action", "enrol"), statement.KeyMember("publicKey", l.key.Public()),
			statement.ListMember("roles", string(statement.Operator)), statement.KeyMember("recovery", recovery.Public()),
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	env, err := statement.Sign(payload, l.key)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.client.Submit(t.Context(), env.Bytes(), note, client.Final); err != nil {
		t.Fatal(err)
	}
}

func (l *logged) issue(n int) {
	l.t.Helper()
	for i := range n {
		l.issued = append(l.issued, l.stamp(fmt.Sprint("text ", i)).Serial.Text(16))
	}
}

// due logs what is due until that succeeds.
func (l *logged) due() (failures int) {
	l.t.Helper()
	const most = 10
	for ; failures < most; failures++ {
		err := l.journal.logDue(l.t.Context())
		if err == nil {
			return failures
		}
		if errors.Is(err, statefile.ErrCommit) {
			l.reopen()
		}
	}
	l.t.Fatal("it is never logged")
	return 0
}

// batches returns what the log holds: the records' root of each batch.
func (l *logged) batches() []statement.Digest {
	l.t.Helper()
	var roots []statement.Digest
	for i := range l.log.Size() {
		included, err := l.client.Entry(l.t.Context(), uint64(i))
		if err != nil {
			l.t.Fatal(err)
		}
		e, err := entry.Parse(included.Raw)
		if err != nil {
			l.t.Fatal(err)
		}
		_, s, err := statement.Parse(e.Envelope)
		if err != nil {
			l.t.Fatal(err)
		}
		if s.Kind == statement.KindBatch {
			roots = append(roots, s.DigestAttribute("root"))
		}
	}
	return roots
}

// check holds what the log has against what was issued: each token once.
func (l *logged) check(when string, batches int) {
	l.t.Helper()
	roots := l.batches()
	files, err := filepath.Glob(filepath.Join(l.config.Journal.Folder, "*"+recordsEnding))
	if err != nil || len(files) != batches || len(roots) != batches {
		l.t.Errorf("%s: %d batches in the log, %d in the folder, expected %d", when, len(roots), len(files), batches)
	}
	var serials []string
	for _, file := range files {
		records, err := readRecords(file)
		if err != nil {
			l.t.Fatal(err)
		}
		root, err := statement.BatchRoot(records)
		if err != nil || !slices.Contains(roots, root) {
			l.t.Errorf("%s: the log has no batch with the records of %s", when, filepath.Base(file))
		}
		for _, r := range records {
			serials = append(serials, serialIn(l.t, r))
		}
	}
	slices.Sort(serials)
	want := slices.Sorted(slices.Values(l.issued))
	if !slices.Equal(serials, want) {
		l.t.Errorf("%s: logged %v, issued %v", when, serials, want)
	}
	rest, err := l.state.oldest(10)
	b, batchErr := l.state.batch()
	if err != nil || batchErr != nil || len(rest) != 0 || b != nil {
		l.t.Errorf("%s: %d records and the batch %+v are left, %v, %v", when, len(rest), b, err, batchErr)
	}
}
