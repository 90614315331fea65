package proofs_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/trialog/trialog/api/receipt"
	"github.com/trialog/trialog/services/proofs"
)

// twoShards is a log that has rolled over: the old shard has ended with 300
// entries, the new one has 40.
func twoShards(t *testing.T) (old, active *testLog, s *service) {
	t.Helper()
	old, active = newShard(t, "log.example/2025"), newShard(t, "log.example/2026")
	old.mark, active.mark = "old", "new"
	old.grow(t, 300).publish(t)
	active.grow(t, 40).publish(t)
	policy := active.policyOf(t, old.keys[0].Verifier(), old.keys[1].Verifier())
	old.policy, active.policy = policy, policy
	s = active.serve(t, func(c *proofs.Config) {
		c.Origin, c.Store = "", nil
		c.Shards = []proofs.Shard{
			{Origin: old.origin, Store: old.store}, {Origin: active.origin, Store: active.store, Active: true},
		}
	})
	return old, active, s
}

func TestShards(t *testing.T) {
	t.Parallel()
	old, active, s := twoShards(t)
	for prefix, l := range map[string]*testLog{"": active, "/shards/2026": active, "/shards/2025": old} {
		rec := s.get(t, prefix+"/checkpoint")
		if rec.Code != http.StatusOK || !bytes.Equal(rec.Body.Bytes(), l.get(t, "checkpoint")) || rec.Header().Get("Cache-Control") != "no-cache" {
			t.Errorf("%s: checkpoint: %d %s", prefix, rec.Code, rec.Body)
		}
		rec = s.get(t, prefix+"/tile/0/000.p/40")
		if l == active && !bytes.Equal(rec.Body.Bytes(), l.get(t, "tail/0-0")) {
			t.Errorf("%s: tile: %d", prefix, rec.Code)
		}
		if rec.Code != http.StatusOK || !strings.Contains(rec.Header().Get("Cache-Control"), "immutable") {
			t.Errorf("%s: tile: %d, %v", prefix, rec.Code, rec.Header())
		}
		rec = s.get(t, prefix+"/tile/entries/000.p/2")
		if rec.Code != http.StatusOK || !bytes.Contains(rec.Body.Bytes(), []byte(l.mark)) {
			t.Errorf("%s: bundle: %d %q", prefix, rec.Code, rec.Body)
		}
		for _, path := range []string{"/v1/proofs/inclusion?index=3", "/v1/proofs/consistency?first=3", "/v1/entries/39"} {
			if rec := s.get(t, prefix+path); rec.Code != http.StatusOK {
				t.Errorf("%s%s: %d %s", prefix, path, rec.Code, rec.Body)
			}
		}
	}
	if rec := s.get(t, "/shards/2025/v1/entries/299"); rec.Code != http.StatusOK {
		t.Errorf("the last entry of the shard that has ended: %d", rec.Code)
	}
	for _, path := range []string{
		"/shards", "/shards/", "/shards/2024/checkpoint", "/shards/2025", "/shards/2025/", "/shards//checkpoint",
		"/shards/log.example/2025/checkpoint", "/shards/2025/shards/2025/checkpoint", "/shards/2025/v1/receipts:refresh", "/shards/%32025/checkpoint",
	} {
		problem(t, s.get(t, path), http.StatusNotFound, "path")
	}
}

func TestShardBeacons(t *testing.T) {
	t.Parallel()
	old, active, s := twoShards(t)
	names := map[*testLog]string{}
	for _, l := range []*testLog{old, active} {
		note := l.get(t, "checkpoint")
		sum := sha256.Sum256(note)
		names[l] = hex.EncodeToString(sum[:])
		l.put(t, "beacon/"+names[l], note)
	}
	for _, path := range []string{
		"/v1/beacons/" + names[old], "/v1/beacons/" + names[active],
		"/shards/2025/v1/beacons/" + names[old], "/shards/2026/v1/beacons/" + names[active],
	} {
		if rec := s.get(t, path); rec.Code != http.StatusOK {
			t.Errorf("%s: %d %s", path, rec.Code, rec.Body)
		}
	}
	problem(t, s.get(t, "/shards/2026/v1/beacons/"+names[old]), http.StatusNotFound, "sha256")
	problem(t, s.get(t, "/v1/beacons/"+strings.Repeat("0", 64)), http.StatusNotFound, "sha256")
	problem(t, s.get(t, "/v1/beacons/xyz"), http.StatusBadRequest, "sha256")
	old.put(t, "beacon/"+names[old], []byte("something else"))
	problem(t, s.get(t, "/v1/beacons/"+names[old]), http.StatusServiceUnavailable, "")
	// A good copy in another shard makes up for a bad one.
	active.put(t, "beacon/"+names[old], old.get(t, "checkpoint"))
	if rec := s.get(t, "/v1/beacons/"+names[old]); rec.Code != http.StatusOK {
		t.Errorf("the copy: %d", rec.Code)
	}
}

func TestActivate(t *testing.T) {
	t.Parallel()
	old, _, s := twoShards(t)
	if err := s.Activate("log.example/2024"); err == nil {
		t.Error("activated a shard of nobody")
	}
	if err := s.Activate(old.origin); err != nil {
		t.Fatal(err)
	}
	if rec := s.get(t, "/checkpoint"); !bytes.Equal(rec.Body.Bytes(), old.get(t, "checkpoint")) {
		t.Errorf("%d %s", rec.Code, rec.Body)
	}
}

// TestShardsFail: a shard that does not verify says so by its name, and the others
// are served.
func TestShardsFail(t *testing.T) {
	t.Parallel()
	old, _, s := twoShards(t)
	old.put(t, "tail/0-1", make([]byte, 44*32))
	problem(t, s.get(t, "/shards/2025/v1/entries/1"), http.StatusServiceUnavailable, "")
	if line := s.lines.take(); !strings.Contains(line, "origin="+old.origin) {
		t.Errorf("logged %q", line)
	}
	if rec := s.get(t, "/v1/entries/1"); rec.Code != http.StatusOK {
		t.Errorf("the other shard: %d", rec.Code)
	}
}

func TestShardsConfig(t *testing.T) {
	t.Parallel()
	old, active, _ := twoShards(t)
	a, b := proofs.Shard{Origin: old.origin, Store: old.store}, proofs.Shard{Origin: active.origin, Store: active.store, Active: true}
	for name, shards := range map[string][]proofs.Shard{
		"none active": {a}, "two active": {{Origin: old.origin, Store: old.store, Active: true}, b}, "twice": {a, a, b},
		"no store": {{Origin: old.origin}, b}, "not in the policy": {{Origin: "log.example/2024", Store: old.store}, b}, "none": {},
	} {
		_, err := proofs.New(proofs.Config{Shards: shards, Policy: active.policy, Now: time.Now, Logger: slog.New(slog.DiscardHandler)})
		if err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

// TestRefreshAcrossShards: each proof of a receipt is renewed in its own shard,
// over HTTP as over gRPC.
func TestRefreshAcrossShards(t *testing.T) {
	t.Parallel()
	old, active, s := twoShards(t)
	foreign := newShard(t, "other.example/shard").grow(t, 9)
	foreign.publish(t)
	enrolments := func() []receipt.Enrolment {
		var list []receipt.Enrolment
		for _, l := range []*testLog{old, active, foreign} {
			r := l.receiptOf(t, 2)
			list = append(list, receipt.Enrolment{Entry: r.Entry, Proof: r.Proof})
		}
		return list
	}
	ofOld, ofActive := old.receiptOf(t, 7), active.receiptOf(t, 8)
	ofOld.Enrolments, ofActive.Enrolments = enrolments(), enrolments()
	old.grow(t, 310).publish(t)
	active.grow(t, 77).publish(t)
	client := s.grpc(t)
	for name, c := range map[string]struct {
		r    *receipt.Receipt
		size uint64
	}{"of the shard that has ended": {ofOld, 310}, "of the active shard": {ofActive, 77}} {
		raw := encode(t, c.r)
		rec := s.refresh(t, http.MethodPost, raw)
		if rec.Code != http.StatusOK {
			t.Errorf("%s: %d %s", name, rec.Code, rec.Body)
			continue
		}
		if over := client.refresh(t, raw); !bytes.Equal(over, rec.Body.Bytes()) {
			t.Errorf("%s: gRPC gives another receipt", name)
		}
		fresh, err := receipt.Parse(rec.Body.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		holds(t, fresh.Entry, fresh.Proof, c.size)
		for i, want := range []uint64{310, 77, 9} {
			holds(t, fresh.Enrolments[i].Entry, fresh.Enrolments[i].Proof, want)
		}
	}
	// An entry of one shard is not in the other at the same index.
	forged := active.receiptOf(t, 3)
	forged.Entry = old.receiptOf(t, 3).Entry
	problem(t, s.refresh(t, http.MethodPost, encode(t, forged)), http.StatusNotFound, "entry")
	nobody := foreign.receiptOf(t, 3)
	problem(t, s.refresh(t, http.MethodPost, encode(t, nobody)), http.StatusBadRequest, "proof")
}
