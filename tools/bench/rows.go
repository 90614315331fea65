package main

import (
	"fmt"
	"runtime"
	"slices"
	"strings"

	"github.com/trialog/trialog/tools/bench/score"
)

// growthProbe is the name under which rows find what the growth run measured.
const growthProbe = "growth"

// rows are what is reported, in the order of the table.
func rows() []score.Row {
	rate := func(probe string) score.Value { return score.Of(probe, "per_second") }
	all := slices.Concat(rawRows(rate), signedRows(rate), readRows(rate))
	memory := score.Row{
		ID: "memory", What: "memory of the log's process at the greatest size of the growth run, against the smallest", Unit: "MiB",
		Ours: score.Of(growthProbe, "last_rss_mib"), Peer: score.Of(growthProbe, "first_rss_mib"),
		PeerName: "the same at the smallest size", NotMeasured: "measured by the growth run only: -growth 1e5,1e6,1e7",
	}
	memory.Ratio = score.Ratio(memory.Ours, memory.Peer)
	memory.Goals = []score.Goal{{Text: "≤ 1.3 × from 10^5 to 10^7", Value: score.From(func(of []float64) float64 {
		return of[0]
	}, memory.Ratio, score.Of(growthProbe, "full_range")), AtMost: true, Bound: 1.3}}
	return append(all, memory)
}

// rawRows are about values that nobody judges.
func rawRows(rate func(string) score.Value) []score.Row {
	add := func(id, peer, name string, bound float64) score.Row {
		r := score.Row{
			ID: id, What: "add, durable and integrated in store and tiles, 300 random bytes, in process", Unit: "entries/s",
			Ours: rate("add"), Peer: rate(peer), PeerName: name,
			Limit: rate("sha256"), LimitIs: "SHA-256 of as many bytes, once, on all cores, and nothing else",
			Ratio:   score.Ratio(rate("add"), rate(peer)),
			Details: []score.Detail{{Name: "p50_ms", Value: score.Of("add", "p50_ms")}, {Name: "p99_ms", Value: score.Of("add", "p99_ms")}},
		}
		r.Goals = []score.Goal{{Text: fmt.Sprintf("≥ %g × peer", bound), Value: r.Ratio, Bound: bound}}
		return r
	}
	stream := score.Row{
		ID: "add_stream", What: "the same over gRPC streams on TCP", Unit: "entries/s",
		Ours: rate("stream"), Peer: rate("add"), PeerName: "add_inprocess, in the same round",
		Ratio: score.Ratio(rate("stream"), rate("add")),
	}
	stream.Goals = []score.Goal{{Text: "≥ 0.7 × add_inprocess", Value: stream.Ratio, Bound: 0.7}}
	return []score.Row{
		add("add_inprocess", "tessera", "Tessera v1.0.4 POSIX, without deduplication", 1.0),
		add("add_inprocess_dedupe", "tessera_dedupe", "Tessera v1.0.4 POSIX, with its in-memory deduplication", 1.4),
		stream,
	}
}

// signedRows are about signed statements.
func signedRows(rate func(string) score.Value) []score.Row {
	// The cores that the log gets are those that nobody else uses: not the client
	// that loads it, nor witnesses, nor anything else on the machine.
	cores := score.From(func(of []float64) float64 { return float64(runtime.NumCPU()) - (of[0] - of[1]) },
		score.Of("signed", "machine_cores"), score.Of("signed", "server_cores"))
	verifications := score.Of("ed25519", "per_core_second")
	limit := score.From(func(of []float64) float64 { return of[0] * of[1] }, cores, verifications)
	detail := func(probe string, names ...string) []score.Detail {
		list := make([]score.Detail, 0, len(names))
		for _, name := range names {
			list = append(list, score.Detail{Name: name, Value: score.Of(probe, name)})
		}
		return list
	}
	signed := score.Row{
		ID: "signed_final", What: "signed statements over gRPC streams, each verified, FINAL with three witnesses", Unit: "statements/s",
		Ours: rate("signed"), Limit: limit, Ratio: score.Ratio(rate("signed"), limit),
		LimitIs: "Ed25519 verifications on the cores that the log's process gets: all, less what clients, witnesses and others use",
		Details: append(detail("signed", "server_cpu_us", "client_cpu_us", "server_cores", "bytes_per_statement", "busy", "pending"),
			score.Detail{Name: "cores_the_log_gets", Value: cores},
			score.Detail{Name: "ed25519_per_core_second", Value: verifications}),
	}
	signed.Goals = []score.Goal{
		{Text: "≥ 20,000/s", Value: signed.Ours, Bound: 20_000}, {Text: "≥ 0.9 × limit", Value: signed.Ratio, Bound: 0.9},
	}
	postgres := score.Row{
		ID: "postgres", What: "the same on PostgreSQL", Unit: "statements/s",
		Ours: rate("signed_postgres"), Peer: rate("queueleaf"), Ratio: score.Ratio(rate("signed_postgres"), rate("queueleaf")),
		PeerName: "stock Trillian v1.8.0 QueueLeaf, 64 clients, on the same server",
		Details:  detail("signed_postgres", "server_cpu_us", "client_cpu_us"),
	}
	postgres.Goals = []score.Goal{{Text: "≥ 5 × peer", Value: postgres.Ratio, Bound: 5}}
	latency := score.Row{
		ID: "final_latency", What: "submit to FINAL, p50, 500 a second in an open loop, three witnesses", Unit: "ms",
		Ours: score.Of("latency", "p50_ms"), Details: detail("latency", "p50_ms", "p99_ms", "max_ms", "per_second", "busy"),
	}
	p99 := score.Of("latency", "p99_ms")
	latency.Goals = []score.Goal{
		{Text: "p50 ≤ 250 ms", Value: latency.Ours, AtMost: true, Bound: 250}, {Text: "p99 ≤ 1 s", Value: p99, AtMost: true, Bound: 1000},
	}
	down := score.Row{
		ID: "witness_down", What: "submit to FINAL, p99, the same load, one of the three witnesses stopped", Unit: "ms",
		Ours: score.Of("latency_down", "p99_ms"), Peer: p99, PeerName: "all witnesses up",
		Ratio:   score.Ratio(score.Of("latency_down", "p99_ms"), p99),
		Details: detail("latency_down", "p50_ms", "p99_ms", "max_ms", "per_second", "busy"),
	}
	down.Goals = []score.Goal{{Text: "p99 ≤ 1 s", Value: down.Ours, AtMost: true, Bound: 1000}}
	return []score.Row{signed, postgres, latency, down}
}

// readRows are about proofs.
func readRows(rate func(string) score.Value) []score.Row {
	proof := score.Row{
		ID: "proof", What: "inclusion proofs from tiles, unary gRPC over TCP, 100,000 leaves, 64 clients", Unit: "proofs/s",
		Ours: rate("proof"), Peer: rate("trillian_proof"), PeerName: "Trillian v1.8.0 GetInclusionProof on PostgreSQL",
		Limit: rate("grpc"), LimitIs: "unary gRPC calls that carry nothing, 64 clients",
		Ratio:   score.Ratio(rate("proof"), rate("trillian_proof")),
		Details: []score.Detail{{Name: "p50_ms", Value: score.Of("proof", "p50_ms")}, {Name: "p99_ms", Value: score.Of("proof", "p99_ms")}},
	}
	proof.Goals = []score.Goal{{Text: "≥ 20 × peer", Value: proof.Ratio, Bound: 20}}
	verify := score.Row{
		ID: "verify", What: "verify a receipt with its document offline", Unit: "µs",
		Ours: score.Of("verify", "small_us"), Limit: score.Of("verify", "small_floor_us"),
		LimitIs: "its signature verifications and SHA-256 of the document",
		Ratio:   score.Ratio(score.Of("verify", "small_us"), score.Of("verify", "small_floor_us")),
	}
	ratios := make([]score.Value, 0, len(verifyCases()))
	for _, c := range verifyCases() {
		ratio := score.Ratio(score.Of("verify", c+"_us"), score.Of("verify", c+"_floor_us"))
		ratios = append(ratios, ratio)
		verify.Details = append(verify.Details, score.Detail{Name: c + "_us", Value: score.Of("verify", c+"_us")},
			score.Detail{Name: c + "_ratio", Value: ratio})
	}
	worst := score.From(slices.Max, ratios...)
	verify.Goals = []score.Goal{{Text: "≤ 3 × limit, also enrolled and with 1 MB", Value: worst, AtMost: true, Bound: 3}}
	return []score.Row{proof, verify}
}

// verifyCases are the cases of the benchmark of api/verify.
func verifyCases() []string { return []string{"small", "enrolled", "megabyte"} }

// choose picks rows by id.
func choose(all []score.Row, ids []string) ([]score.Row, error) {
	if len(ids) == 0 {
		return all, nil
	}
	var chosen []score.Row
	for _, id := range ids {
		at := slices.IndexFunc(all, func(r score.Row) bool { return r.ID == id })
		if at < 0 {
			var known []string
			for i := range all {
				known = append(known, all[i].ID)
			}
			return nil, fmt.Errorf("only: expected some of %s, found %q", strings.Join(known, ", "), id)
		}
		chosen = append(chosen, all[at])
	}
	return chosen, nil
}
