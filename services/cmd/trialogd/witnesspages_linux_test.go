package main

import (
	"reflect"
	"testing"
)

// TestCleanMappings: only what cannot be written to, and was not, is dropped.
func TestCleanMappings(t *testing.T) {
	const smaps = `00400000-00402000 r-xp 00000000 fe:01 7 /bin/trialogd
Rss:                8 kB
Private_Dirty:         8 kB
Anonymous:             0 kB
VmFlags: rd ex mr mw me
00402000-00403000 r--p 00002000 fe:01 7 /bin/trialogd
Anonymous:             4 kB
00403000-00405000 r--p 00003000 fe:01 7 /bin/trialogd
Anonymous:             0 kB
00405000-00406000 rw-p 00005000 fe:01 7 /bin/trialogd
Anonymous:             0 kB
00406000-00407000 rw-p 00000000 00:00 0
Anonymous:             0 kB
7f0000000000-7f0000001000 r-xp 00000000 fe:01 9 /lib/libc.so.6
Anonymous:             0 kB
7f0000002000-7f0000001000 r-xp 00000000 fe:01 7 /bin/trialogd
Anonymous:             0 kB
7f0000003000-7f0000004000 r-xp 00000000 fe:01 7 /bin/trialogd (deleted)
Anonymous:             0 kB
7f0000005000-7f0000006000 r-xp 00000000 fe:01 7 /bin/trialogd
`
	got := cleanMappings([]byte(smaps), "/bin/trialogd")
	if want := []mapping{{0x400000, 0x2000}, {0x403000, 0x2000}}; !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
	if got := cleanMappings([]byte("x\n1-2\n- r-xp 0 0 0 /bin/trialogd\n"), "/bin/trialogd"); got != nil {
		t.Errorf("%+v", got)
	}
}
