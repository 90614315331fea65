package main

import (
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/services/anchor"
	"github.com/trialog/trialog/services/config"
	"github.com/trialog/trialog/services/internal/anchored"
	"github.com/trialog/trialog/services/internal/run"
	"github.com/trialog/trialog/services/proofs"
	"github.com/trialog/trialog/services/sequencer/witnessing"
)

// anchorTimeout is how long witnesses that are asked at anchor pace may take. One
// request may take four times as long.
const anchorTimeout = 15 * time.Second

// anchors are who sees the published checkpoints at a slower pace.
type anchors struct {
	interval    time.Duration
	witnesses   []anchor.Witness
	authorities []anchor.Authority
}

// openAnchors reads the keys and certificates of those that the configuration
// names; nil of nil.
func openAnchors(c *config.Anchors) (*anchors, error) {
	if c == nil {
		return nil, nil //nolint:nilnil // nobody
	}
	a := &anchors{interval: c.Pace()}
	for _, w := range c.Witnesses {
		one := anchor.Witness{Name: w.Name, URL: w.URL}
		for _, text := range w.Keys {
			key, err := checkpoint.ParseVerifierKey(text)
			if err != nil {
				return nil, fmt.Errorf("anchors: witness %s: %w", w.Name, err)
			}
			one.Keys = append(one.Keys, key)
		}
		a.witnesses = append(a.witnesses, one)
	}
	for _, t := range c.Authorities {
		certificate, err := readCertificate(t.Certificate)
		if err != nil {
			return nil, fmt.Errorf("anchors: authority %s: %w", t.Name, err)
		}
		policy, err := parseOID(t.Policy)
		if err != nil {
			return nil, fmt.Errorf("anchors: authority %s: %w", t.Name, err)
		}
		a.authorities = append(a.authorities, anchor.Authority{
			URL: t.URL, Authority: anchored.Authority{Name: t.Name, Certificate: certificate, Policy: policy},
		})
	}
	return a, nil
}

// readCertificate reads a PEM file with one certificate.
func readCertificate(path string) (*x509.Certificate, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	block, rest := pem.Decode(raw)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, fmt.Errorf("%s: expected a PEM file with a certificate", path)
	}
	if more, _ := pem.Decode(rest); more != nil {
		return nil, fmt.Errorf("%s: expected one certificate, found more", path)
	}
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return c, nil
}

// parseOID reads a dotted OID; nil of nothing.
func parseOID(text string) (asn1.ObjectIdentifier, error) {
	if text == "" {
		return nil, nil
	}
	var oid asn1.ObjectIdentifier
	for arc := range strings.SplitSeq(text, ".") {
		n, err := strconv.Atoi(arc)
		if err != nil || n < 0 {
			return nil, errors.New("policy: expected a dotted OID")
		}
		oid = append(oid, n)
	}
	return oid, nil
}

// holds tells whether a key is that of a witness which is asked at anchor pace.
func (a *anchors) holds(key *checkpoint.VerifierKey) bool {
	return a != nil && slices.ContainsFunc(a.witnesses, func(w anchor.Witness) bool {
		return slices.ContainsFunc(w.Keys, func(k *checkpoint.VerifierKey) bool { return k.String() == key.String() })
	})
}

// served is what the proofs need to know; nil if nothing is anchored.
func (a *anchors) served() *proofs.Anchors {
	if a == nil {
		return nil
	}
	list := make([]anchored.Authority, len(a.authorities))
	for i := range list {
		list[i] = a.authorities[i].Authority
	}
	return &proofs.Anchors{Interval: a.interval, Authorities: list}
}

// anchoring returns the part that anchors a shard's checkpoints. It has a pool of
// its own: who is slow here keeps nobody waiting for FINAL.
func (e *engine) anchoring(sh *shard) (run.Part, error) {
	c := anchor.Config{
		Origin: sh.place.Origin, Store: sh.tiles, Policy: e.policy, Interval: e.anchors.interval,
		Witnesses: e.anchors.witnesses, Authorities: e.anchors.authorities,
		Registerer: prometheus.WrapRegistererWith(prometheus.Labels{"shard": sh.place.Name()}, e.metrics),
		Now:        e.now, Logger: sh.log,
	}
	if len(c.Witnesses) > 0 {
		policy, err := anchor.WitnessPolicy(e.policy.Notes().Logs(), c.Witnesses)
		if err != nil {
			return run.Part{}, err
		}
		pool, err := witnessing.New(witnessing.Config{
			Policy: policy, Now: e.now, Logger: sh.log, Timeout: anchorTimeout, MaxBackoff: e.anchors.interval,
		})
		if err != nil {
			return run.Part{}, err
		}
		sh.closers = append(sh.closers, pool.Close)
		c.Gatherer = pool
	}
	w, err := anchor.New(c)
	if err != nil {
		return run.Part{}, err
	}
	return run.Part{Name: "anchor " + sh.place.Name(), Run: w.Run}, nil
}
