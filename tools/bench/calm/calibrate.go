package calm

import (
	"crypto/sha256"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Calibration is small work that takes the same time on a quiet machine.
type Calibration struct {
	file *os.File
	now  func() time.Time
}

const (
	hashes = 40        // of one block on each processor, some 30 ms
	tries  = 3         // of which the fastest counts: a hiccup is no drift
	block  = 1 << 20   // bytes
	syncs  = 200       // of a page, some 30 ms
	page   = 4096      // bytes
	length = 64 * page // of the file
)

// NewCalibration prepares a file in dir, which should be on the disk that is
// measured.
func NewCalibration(dir string, now func() time.Time) (*Calibration, error) {
	f, err := os.Create(filepath.Join(dir, "calibration"))
	if err != nil {
		return nil, err
	}
	if _, err := f.Write(make([]byte, length)); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &Calibration{f, now}, errors.Join(f.Sync())
}

// Read does the work and returns how fast it went.
func (c *Calibration) Read() (Reading, error) {
	var r Reading
	for range tries {
		r.CPU = max(r.CPU, c.hash())
	}
	begin := c.now()
	data := make([]byte, page)
	for i := range int64(syncs) {
		data[0]++
		if _, err := c.file.WriteAt(data, i*page%length); err != nil {
			return r, err
		}
		if err := unix.Fdatasync(int(c.file.Fd())); err != nil {
			return r, err
		}
	}
	r.Sync = syncs / c.now().Sub(begin).Seconds()
	return r, nil
}

// Settle waits until what was written so far is on the disk, so that nothing is
// measured while the disk still works for something else.
func (c *Calibration) Settle() { unix.Sync() }

// hash returns how often a second all processors could hash their blocks.
func (c *Calibration) hash() float64 {
	begin := c.now()
	var working sync.WaitGroup
	for range runtime.NumCPU() {
		working.Go(func() {
			data := make([]byte, block)
			for range hashes {
				sum := sha256.Sum256(data)
				copy(data, sum[:])
			}
		})
	}
	working.Wait()
	return 1 / c.now().Sub(begin).Seconds()
}

// Close removes the file.
func (c *Calibration) Close() error {
	return errors.Join(c.file.Close(), os.Remove(c.file.Name()))
}
