// Command bench measures Trialog beside what it is compared with, on this
// machine, in one run: our paths, other logs, and what the hardware can do at
// most, in turn, for several rounds. It prints a table and writes out/bench.json
// and out/bench.md.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "bench: %v\n", err)
		os.Exit(1)
	}
}

// options are the command line.
type options struct {
	rounds int
	short  bool
	only   []string
	growth []uint64
	limit  time.Duration // of the growth run
	out    string
	dir    string
}

func parse(args []string) (options, error) {
	var o options
	var only, growth string
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.IntVar(&o.rounds, "rounds", 3, "rounds; medians are over them")
	f.BoolVar(&o.short, "short", false, "one round of tiny measurements, to see that everything works; nothing is judged")
	f.StringVar(&only, "only", "", "ids of rows, separated by commas")
	f.StringVar(&growth, "growth", "", "also measure cost as the work grows, at these sizes, such as 1e5,1e6,1e7")
	f.DurationVar(&o.limit, "growth-limit", 10*time.Minute, "the growth run stops at the size that it has reached then")
	f.StringVar(&o.out, "out", "out", "folder of the results")
	f.StringVar(&o.dir, "dir", "", "folder of temporary data, on the disk that is to be measured (default the system's)")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if f.NArg() > 0 {
		return o, fmt.Errorf("not understood: %q", f.Arg(0))
	}
	if o.rounds < 1 {
		return o, fmt.Errorf("rounds: expected 1 or more, found %d", o.rounds)
	}
	if o.short {
		o.rounds = 1
	}
	if only != "" {
		o.only = strings.Split(only, ",")
	}
	for size := range strings.SplitSeq(growth, ",") {
		if size == "" {
			continue
		}
		n, err := strconv.ParseFloat(size, 64)
		if err != nil || n < 1 || n > 1e9 || (len(o.growth) > 0 && uint64(n) <= o.growth[len(o.growth)-1]) {
			return o, fmt.Errorf("growth: expected sizes that grow, such as 1e5,1e6, found %q", growth)
		}
		o.growth = append(o.growth, uint64(n))
	}
	return o, nil
}

func run(ctx context.Context, args []string) error {
	o, err := parse(args)
	if err != nil {
		return err
	}
	rows, err := choose(rows(), o.only)
	if err != nil {
		return err
	}
	s, err := open(ctx, o)
	if err != nil {
		return err
	}
	defer s.close()
	return s.bench(ctx, rows)
}
