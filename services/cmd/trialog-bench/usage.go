package main

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// usage returns the processor seconds that another process and the whole machine
// have used so far; without a process, nothing.
func usage(pid int) (map[string]float64, error) {
	if pid == 0 {
		return map[string]float64{}, nil
	}
	const hertz = 100 // sysconf(_SC_CLK_TCK), on every Linux that Go runs on
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil, err
	}
	// proc(5): the name is in parentheses; utime and stime are fields 14 and 15.
	server, err := sum(strings.Fields(string(raw[bytes.LastIndexByte(raw, ')')+1:])), 11, 12)
	if err != nil {
		return nil, err
	}
	if raw, err = os.ReadFile("/proc/stat"); err != nil {
		return nil, err
	}
	line, _, _ := strings.Cut(string(raw), "\n")
	// cpu user nice system idle iowait irq softirq steal
	machine, err := sum(strings.Fields(line), 1, 2, 3, 6, 7, 8)
	if err != nil {
		return nil, err
	}
	return map[string]float64{"server_cores": server / hertz, "machine_cores": machine / hertz}, nil
}

// sum adds some of the fields.
func sum(fields []string, which ...int) (float64, error) {
	var total float64
	for _, i := range which {
		if i >= len(fields) {
			return 0, fmt.Errorf("expected %d fields, found %d", i+1, len(fields))
		}
		v, err := strconv.ParseFloat(fields[i], 64)
		if err != nil {
			return 0, err
		}
		total += v
	}
	return total, nil
}
