package main

import (
	"bufio"
	"bytes"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// dropPages gives back the pages of this program's file that its start has
// touched. The program holds all services, and the start of each of their
// libraries runs once: without this, two thirds of a witness's memory are code
// that it never uses again. What it does use comes back by itself.
//
// Only mappings are touched that nobody has written to and nobody can, so nothing
// is lost. On any doubt nothing is done.
func dropPages() {
	raw, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		return
	}
	program, err := os.Executable()
	if err != nil {
		return
	}
	for _, m := range cleanMappings(raw, program) {
		// The mapping is not memory of Go's: the system call needs its address.
		_, _, _ = unix.Syscall(unix.SYS_MADVISE, m.start, m.length, unix.MADV_DONTNEED)
	}
}

// mapping is a part of the address space, in bytes.
type mapping struct{ start, length uintptr }

// cleanMappings finds, in the format of /proc/PID/smaps, the mappings of a file
// that cannot be written to and were not, such as by the linker at the start.
func cleanMappings(smaps []byte, file string) []mapping {
	var out []mapping
	var m mapping
	candidate := false
	lines := bufio.NewScanner(bytes.NewReader(smaps))
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		switch {
		case len(fields) >= 5 && strings.Contains(fields[0], "-") && !strings.HasSuffix(fields[0], ":"):
			m = parseRange(fields[0])
			candidate = m.length > 0 && len(fields) == 6 && fields[5] == file &&
				(fields[1] == "r-xp" || fields[1] == "r--p")
		case candidate && len(fields) == 3 && fields[0] == "Anonymous:" && fields[1] == "0":
			// What was written to is a copy, and anonymous. "Private_Dirty" would
			// not do: it counts a program that was just installed as dirty.
			out = append(out, m)
		}
	}
	return out
}

func parseRange(s string) mapping {
	from, to, _ := strings.Cut(s, "-")
	a, err1 := strconv.ParseUint(from, 16, 64)
	b, err2 := strconv.ParseUint(to, 16, 64)
	if err1 != nil || err2 != nil || b <= a {
		return mapping{}
	}
	return mapping{uintptr(a), uintptr(b - a)}
}
