package main

import (
	"bufio"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"

	"github.com/trialog/trialog/api/client"
)

// journal is what the log has acknowledged: of each entry the index and the leaf
// hash. In its file, one entry is one line, "INDEX LEAFHASH IDENTITY".
type journal struct {
	mu     sync.Mutex
	leaves map[uint64][32]byte
	file   *os.File // nil for none
	sync   bool     // each line is on the disk before the next
}

// openJournal makes a journal; path may be empty. It adds to a file that is there.
func openJournal(path string, synced bool) (*journal, error) {
	j := &journal{leaves: map[uint64][32]byte{}, sync: synced}
	if path == "" {
		return j, nil
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("--journal: %w", err)
	}
	j.file = f
	if err := j.read(f); err != nil {
		return nil, errors.Join(fmt.Errorf("--journal: %w", err), f.Close())
	}
	return j, nil
}

// read takes the lines of a file in. A last line without its end is what a crash
// left: nobody was told that it is there.
func (j *journal) read(r io.Reader) error {
	lines := bufio.NewReader(r)
	for n := 1; ; n++ {
		line, err := lines.ReadString('\n')
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		index, leaf, err := parseLine(strings.TrimSuffix(line, "\n"))
		if err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
		if err := j.put(index, leaf); err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
	}
}

func parseLine(line string) (index uint64, leaf [32]byte, err error) {
	fields := strings.Split(line, " ")
	if len(fields) != 3 {
		return 0, leaf, errors.New("expected an index, a leaf hash and an identity")
	}
	if index, err = strconv.ParseUint(fields[0], 10, 63); err != nil {
		return 0, leaf, errors.New("expected a decimal index")
	}
	if n, err := hex.Decode(leaf[:], []byte(fields[1])); err != nil || n != len(leaf) || len(fields[1]) != 2*len(leaf) {
		return 0, leaf, errors.New("expected a leaf hash of 64 hexadecimal digits")
	}
	return index, leaf, nil
}

// put remembers an entry. Two at one index are evidence against the log.
func (j *journal) put(index uint64, leaf [32]byte) error {
	if was, ok := j.leaves[index]; ok && was != leaf {
		return fmt.Errorf("two different entries were acknowledged at index %d", index)
	}
	j.leaves[index] = leaf
	return nil
}

// add takes an acknowledgement in.
func (j *journal) add(a *client.Acknowledgement) error {
	leaf := a.Leaf
	switch {
	case a.Promise != nil:
		leaf = a.Promise.LeafHash
	case a.Verdict != nil:
		if n, err := hex.Decode(leaf[:], []byte(a.Verdict.Inclusion.LeafHash)); err != nil || n != len(leaf) {
			return errors.New("the verdict has no leaf hash")
		}
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.put(a.Index, leaf); err != nil {
		return err
	}
	if j.file == nil {
		return nil
	}
	if _, err := fmt.Fprintf(j.file, "%d %x %s\n", a.Index, leaf, a.Identity); err != nil {
		return fmt.Errorf("write the journal: %w", err)
	}
	if j.sync {
		if err := j.file.Sync(); err != nil {
			return fmt.Errorf("write the journal: %w", err)
		}
	}
	return nil
}

func (j *journal) close() error {
	if j.file == nil {
		return nil
	}
	return j.file.Close()
}

// end is one more than the greatest index that was acknowledged.
func (j *journal) end() uint64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	end := uint64(0)
	for index := range j.leaves {
		end = max(end, index+1)
	}
	return end
}

// checked is what came of a journal.
type checked struct {
	Acknowledged int    `json:"acknowledged"`
	Missing      int    `json:"missing"`
	TreeSize     uint64 `json:"tree_size"`
	FirstMissing uint64 `json:"first_missing_index,omitempty"`
}

// check holds the journal against every leaf of the published tree, whose root is
// rebuilt from them.
func (j *journal) check(ctx context.Context, c *client.Client) (checked, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	found := 0
	first, differs := uint64(0), false
	cosigned, err := c.Leaves(ctx, func(index uint64, leaf [32]byte) error {
		want, ok := j.leaves[index]
		switch {
		case !ok:
		case want == leaf:
			found++
		case !differs:
			first, differs = index, true
		}
		return nil
	})
	if err != nil {
		return checked{}, fmt.Errorf("check the journal: %w", err)
	}
	out := checked{Acknowledged: len(j.leaves), Missing: len(j.leaves) - found, TreeSize: cosigned.Size, FirstMissing: first}
	if out.Missing > 0 && !differs {
		out.FirstMissing = cosigned.Size // and beyond
	}
	return out, nil
}
