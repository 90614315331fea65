package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc/metadata"

	"github.com/trialog/trialog/api/checkpoint"
	trialogv1 "github.com/trialog/trialog/api/gen/trialog/v1"
	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/api/verify"
)

// cast is who speaks to a log: organisations, each enrolled with one key.
type cast struct {
	client trialogv1.SubmissionServiceClient
	token  string
	policy *verify.Policy
	now    func() time.Time

	log     string
	run     string // makes names new in every run
	members []member
	beacon  *statement.Beacon
	note    string // that the beacon names
}

// member is an organisation.
type member struct {
	name string
	key  *statement.PrivateKey
}

// newCast enrols n organisations in the log of a data folder that "trialogd
// init" has made.
func newCast(ctx context.Context, client trialogv1.SubmissionServiceClient, data string, n int, now func() time.Time) (*cast, error) {
	policy, token, err := readLog(data)
	if err != nil {
		return nil, err
	}
	c := &cast{
		client: client, token: token, policy: policy.Remembering(), now: now,
		log: policy.Trust().Log, run: strings.ToLower(rand.Text()[:8]),
	}
	for i := range n {
		key, err := statement.GenerateKey(rand.Reader)
		if err != nil {
			return nil, err
		}
		m := member{fmt.Sprintf("bench-%s-%d", c.run, i), key}
		if err := c.enrol(ctx, m); err != nil {
			return nil, fmt.Errorf("enrol %s: %w", m.name, err)
		}
		c.members = append(c.members, m)
	}
	if err := c.fetchBeacon(ctx); err != nil {
		return nil, err
	}
	return c, nil
}

// readLog reads what a submitter of the log in a data folder needs.
func readLog(data string) (policy *verify.Policy, token string, err error) {
	path := filepath.Join(data, "policy", "trialog.policy")
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, "", err
	}
	sidecar, err := os.ReadFile(path + ".json")
	if err != nil {
		return nil, "", err
	}
	raw, err := os.ReadFile(filepath.Join(data, "tokens", "enrol"))
	if err != nil {
		return nil, "", err
	}
	policy, err = verify.ParsePolicy(text, sidecar)
	return policy, strings.TrimSpace(string(raw)), err
}

// fetchBeacon takes the newest checkpoint as beacon of what is signed next.
func (c *cast) fetchBeacon(ctx context.Context) error {
	resp, err := c.client.GetLog(ctx, &trialogv1.GetLogRequest{})
	if err != nil {
		return err
	}
	note, err := checkpoint.Parse([]byte(resp.GetCheckpoint()))
	if err != nil {
		return err
	}
	at := note.Checkpoint()
	c.note = resp.GetCheckpoint()
	c.beacon = &statement.Beacon{Origin: at.Origin, Size: at.Size, Note: statement.Digest(note.Digest())}
	return nil
}

func (c *cast) enrol(ctx context.Context, m member) error {
	recovery, err := statement.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	if err := c.fetchBeacon(ctx); err != nil {
		return err
	}
	env, err := c.say(m, statement.KindKey, "", func(s *statement.Statement) {
		s.Subject, s.Digest = statement.SubjectKey, m.key.ID()
		s.Attributes = []statement.Member{
			statement.TextMember("action", "enrol"), statement.KeyMember("publicKey", m.key.Public()),
			statement.ListMember("roles", string(statement.Sponsor), string(statement.Admin)),
			statement.KeyMember("recovery", recovery.Public()),
		}
	})
	if err != nil {
		return err
	}
	resp, err := c.client.Submit(c.authorised(ctx), &trialogv1.SubmitRequest{Envelope: env, Beacon: c.note})
	if err != nil {
		return err
	}
	if resp.GetState() != trialogv1.State_STATE_FINAL {
		return errors.New("the enrolment did not become final")
	}
	return nil
}

// authorised adds the token.
func (c *cast) authorised(ctx context.Context) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+c.token)
}

// say signs the first statement of a chain.
func (c *cast) say(m member, kind statement.Kind, trial string, change func(*statement.Statement)) ([]byte, error) {
	s := &statement.Statement{
		Log: c.log, Organisation: m.name, Trial: trial, Kind: kind, Beacon: c.beacon, Chain: statement.Link{Number: 1},
		Signers: []statement.Signer{{
			Key: m.key.ID(), Meaning: statement.Authorship, At: statement.Date(c.now().UTC().Format("2006-01-02T15:04:05Z")),
		}},
	}
	change(s)
	payload, err := statement.Build(s)
	if err != nil {
		return nil, err
	}
	env, err := statement.Sign(payload, m.key)
	if err != nil {
		return nil, err
	}
	return env.Bytes(), nil
}

// trials signs n statements, each of which opens a trial of its own, on all
// cores.
func (c *cast) trials(ctx context.Context, n int) ([][]byte, error) {
	envelopes := make([][]byte, n)
	group, ctx := errgroup.WithContext(ctx)
	workers := runtime.GOMAXPROCS(0)
	for w := range workers {
		group.Go(func() error {
			for i := w; i < n && ctx.Err() == nil; i += workers {
				m := c.members[i%len(c.members)]
				trial := fmt.Sprintf("T-%s-%d", c.run, i)
				var err error
				envelopes[i], err = c.say(m, statement.KindTrial, trial, func(s *statement.Statement) {
					s.Subject, s.Digest = statement.SubjectTrial, statement.TrialDigest(s.Log, s.Organisation, trial)
				})
				if err != nil {
					return err
				}
			}
			return ctx.Err()
		})
	}
	return envelopes, group.Wait()
}
