package calm

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// hertz is the unit of the processor times in /proc (sysconf(_SC_CLK_TCK), 100
// on every Linux that Go runs on).
const hertz = 100

// kernel is the process id of kthreadd, from which all kernel threads descend.
const kernel = 2

// Usage is processor time in seconds.
type Usage struct {
	Machine float64 // all that was not idle, stolen time included
	// Tree is that of this process and what it has started, ended ones too, and of
	// the kernel's own threads: they write for whoever dirtied the pages.
	Tree float64
}

// Use reads the usage so far.
func Use() (Usage, error) { return use(os.DirFS("/proc"), os.Getpid()) }

func use(proc fs.FS, pid int) (Usage, error) {
	stat, err := fs.ReadFile(proc, "stat")
	if err != nil {
		return Usage{}, err
	}
	busy, err := parseMachine(stat)
	if err != nil {
		return Usage{}, err
	}
	names, err := fs.Glob(proc, "[0-9]*/stat")
	if err != nil {
		return Usage{}, err
	}
	parent, ticks := map[int]int{}, map[int]float64{}
	for _, name := range names {
		n, err := strconv.Atoi(filepath.Dir(name))
		if err != nil {
			continue
		}
		raw, err := fs.ReadFile(proc, name)
		if err != nil {
			continue // it has ended
		}
		if parent[n], ticks[n], err = parseProcess(raw); err != nil {
			return Usage{}, fmt.Errorf("process %d: %w", n, err)
		}
	}
	var tree float64
	for n := range parent {
		if below(parent, n, pid) || below(parent, n, kernel) {
			tree += ticks[n]
		}
	}
	return Usage{Machine: busy / hertz, Tree: tree / hertz}, nil
}

// below tells whether process n is root or descends from it.
func below(parent map[int]int, n, root int) bool {
	for range len(parent) {
		if n == root {
			return true
		}
		next, known := parent[n]
		if !known {
			return false
		}
		n = next
	}
	return false
}

// parseMachine returns the busy time of all processors from /proc/stat, in ticks
// (proc(5): user nice system idle iowait irq softirq steal …).
func parseMachine(stat []byte) (float64, error) {
	line, _, _ := bytes.Cut(stat, []byte("\n"))
	fields := strings.Fields(string(line))
	if len(fields) < 9 || fields[0] != "cpu" {
		return 0, errors.New("/proc/stat does not begin with the line of all processors")
	}
	var busy float64
	for i, field := range fields[1:9] {
		const idle, wait = 3, 4
		v, err := strconv.ParseFloat(field, 64)
		if err != nil {
			return 0, fmt.Errorf("/proc/stat: %w", err)
		}
		if i != idle && i != wait {
			busy += v
		}
	}
	return busy, nil
}

// parseProcess returns the parent and the processor time, with that of children
// that were waited for, from /proc/N/stat (proc(5)).
func parseProcess(stat []byte) (parent int, ticks float64, err error) {
	// The name, in parentheses, may hold spaces and parentheses itself.
	end := bytes.LastIndexByte(stat, ')')
	fields := strings.Fields(string(stat[end+1:]))
	// The state is field 3 of the manual page: fields[0].
	const ppid, utime, cstime = 1, 11, 14
	if end < 0 || len(fields) <= cstime {
		return 0, 0, errors.New("stat has too few fields")
	}
	if parent, err = strconv.Atoi(fields[ppid]); err != nil {
		return 0, 0, err
	}
	for _, field := range fields[utime : cstime+1] {
		v, err := strconv.ParseFloat(field, 64)
		if err != nil {
			return 0, 0, err
		}
		ticks += v
	}
	return parent, ticks, nil
}
