package main

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// machine is what figures depend on. It holds nothing that tells one machine
// from another of its kind.
type machine struct {
	CPUs       int    `json:"cpus"`
	Model      string `json:"model"`
	MemoryGiB  int    `json:"memory_gib"`
	Kernel     string `json:"kernel"`
	FileSystem string `json:"file_system"` // of the temporary data
	Go         string `json:"go"`
}

// String is the machine in one line.
func (m machine) String() string {
	return fmt.Sprintf("%d × %s, %d GiB, %s, temporary data on %s, %s", m.CPUs, m.Model, m.MemoryGiB, m.Kernel, m.FileSystem, m.Go)
}

func look(dir string) (machine, error) {
	m := machine{CPUs: runtime.NumCPU(), Go: runtime.Version(), Model: "unknown processor"}
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return m, err
	}
	// Not the node name: that is this machine's own.
	m.Kernel = unix.ByteSliceToString(u.Sysname[:]) + " " + unix.ByteSliceToString(u.Release[:])
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return m, err
	}
	m.FileSystem = fileSystem(uint32(fs.Type))
	if raw, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		if model := field(string(raw), "model name"); model != "" {
			m.Model = model
		}
	}
	if raw, err := os.ReadFile("/proc/meminfo"); err == nil {
		kib, _ := strconv.Atoi(strings.TrimSuffix(field(string(raw), "MemTotal"), " kB")) // 0 says that it is unknown
		m.MemoryGiB = (kib + 1<<19) >> 20
	}
	return m, nil
}

// field returns the value of the first line "name : value".
func field(text, name string) string {
	for line := range strings.Lines(text) {
		key, value, found := strings.Cut(line, ":")
		if found && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// fileSystem names the common ones, by statfs(2).
func fileSystem(magic uint32) string {
	names := map[uint32]string{
		unix.EXT4_SUPER_MAGIC: "ext4", unix.XFS_SUPER_MAGIC: "xfs", unix.BTRFS_SUPER_MAGIC: "btrfs",
		unix.TMPFS_MAGIC: "tmpfs (memory: syncs cost nothing)", unix.OVERLAYFS_SUPER_MAGIC: "overlayfs",
	}
	if name := names[magic]; name != "" {
		return name
	}
	return fmt.Sprintf("file system %#x", magic)
}
