package witness

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/services/config"
	"github.com/trialog/trialog/services/internal/signing"
)

// Open makes a witness from its configuration file's content: it opens the keys,
// parses those of the logs and lists, and opens the state file.
func Open(ctx context.Context, c *config.Witness, now func() time.Time, logger *slog.Logger) (_ *Witness, err error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	own := Config{StatePath: c.StateFile, Now: now, Logger: logger, Peers: c.Peers}
	if q := c.Quarantine; q != nil {
		own.Answers, own.FreshAnswers = q.Answers, q.FreshAnswers
	}
	if own.Logs, err = logsOf(c.Logs); err != nil {
		return nil, err
	}
	if own.Lists, err = listsOf(c.LogLists); err != nil {
		return nil, err
	}
	keys, closers, err := OpenKeys(ctx, c)
	if err != nil {
		return nil, err
	}
	own.Keys = keys
	w, err := New(own) //nolint:contextcheck // what it reads is on this machine's disk
	if err != nil {
		return nil, errors.Join(err, closeAll(closers))
	}
	w.closers = closers
	return w, nil
}

// OpenKeys opens the witness's keys. They can be used until the closers are
// closed. Errors never show what a file holds.
func OpenKeys(ctx context.Context, c *config.Witness) (keys []*checkpoint.SigningKey, closers []io.Closer, err error) {
	for i, ref := range c.KeyFiles {
		key, closer, err := signing.OpenCosignerKey(ctx, ref, c.Name)
		if err != nil {
			return nil, nil, errors.Join(fmt.Errorf("key_files[%d]: %w", i, err), closeAll(closers))
		}
		keys, closers = append(keys, key), append(closers, closer)
	}
	return keys, closers, nil
}

func closeAll(closers []io.Closer) error {
	errs := make([]error, len(closers))
	for i, c := range closers {
		errs[i] = c.Close()
	}
	return errors.Join(errs...)
}

func logsOf(in []config.WitnessLog) ([]Log, error) {
	var out []Log
	for i, l := range in {
		log := Log{Origin: l.Origin, Rate: rateOf(l.Rate), URL: l.URL, Mirrors: l.Mirrors}
		for j, text := range l.Keys {
			key, err := checkpoint.ParseVerifierKey(text)
			if err != nil {
				return nil, fmt.Errorf("logs[%d].keys[%d]: %w", i, j, err)
			}
			log.Keys = append(log.Keys, key)
		}
		out = append(out, log)
	}
	return out, nil
}

func listsOf(in []config.WitnessLogList) ([]List, error) {
	var out []List
	for i, l := range in {
		list := List{URL: l.URL, File: l.File, Log: l.Log, Rate: rateOf(l.Rate)}
		for j, text := range l.Keys {
			key, err := ParseListKey(text)
			if err != nil {
				return nil, fmt.Errorf("log_lists[%d].keys[%d]: %w", i, j, err)
			}
			list.Keys = append(list.Keys, key)
		}
		out = append(out, list)
	}
	return out, nil
}

// ParseListKey reads the base64 of a public key's DER (SubjectPublicKeyInfo).
func ParseListKey(text string) (*statement.PublicKey, error) {
	der, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil {
		return nil, errors.New("expected the base64 of a public key's DER")
	}
	return statement.ParsePublicKey(der)
}

func rateOf(r *config.WitnessRate) *Rate {
	if r == nil {
		return nil
	}
	return &Rate{PerMinute: r.PerMinute, Burst: r.Burst}
}
