package fsck

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// maxObject bounds an object in bytes: a bundle of 256 of the longest entries,
// and one byte more, so that a longer one is seen to be longer.
const maxObject = 256*(2+65535) + 1

// Source gives the objects of a log by their path, without a leading slash, as
// C2SP tlog-tiles names them: "checkpoint", "tile/0/x001/067", "tile/entries/000".
// It is trusted for nothing. It may be used concurrently.
type Source interface {
	// Get returns an object; an error that matches fs.ErrNotExist if there is
	// none. The caller owns the bytes.
	Get(ctx context.Context, path string) ([]byte, error)
}

// FS is the source of the files below the root of fsys. Use (*os.Root).FS for a
// folder whose content is not trusted: it does not follow links out of it.
func FS(fsys fs.FS) Source { return folder{fsys} }

type folder struct{ fsys fs.FS }

// Get implements Source.
func (f folder) Get(ctx context.Context, path string) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	file, err := f.fsys.Open(path)
	if err != nil {
		return nil, err
	}
	data, err := readAll(file)
	return data, errors.Join(err, file.Close())
}

// readAll reads an object into one allocation if its size is known.
func readAll(file fs.File) ([]byte, error) {
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		return nil, fmt.Errorf("%w: it is a folder", fs.ErrNotExist)
	}
	data := make([]byte, min(max(info.Size(), 0), maxObject))
	n, err := io.ReadFull(file, data)
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		err = nil
	}
	return data[:n], err
}

const (
	tries     = 3
	firstWait = 200 * time.Millisecond
)

// HTTP is the source of a log that is served below base, "https://log.example".
// client may be nil. What fails on the way is asked for three times.
func HTTP(base string, client *http.Client) (Source, error) {
	u, err := url.Parse(base)
	if err != nil {
		return nil, fmt.Errorf("address of the log: %w", err)
	}
	if (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("address of the log %q: expected http://… or https://…, without query", base)
	}
	if client == nil {
		client = http.DefaultClient
	}
	return &server{base: strings.TrimSuffix(base, "/"), client: client}, nil
}

type server struct {
	base   string
	client *http.Client
}

// Get implements Source.
func (s *server) Get(ctx context.Context, path string) ([]byte, error) {
	for try := 1; ; try++ {
		data, again, err := s.get(ctx, path)
		if err == nil || !again || try == tries {
			return data, err
		}
		timer := time.NewTimer(firstWait << (try - 1))
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil, ctx.Err()
		case <-timer.C:
		}
	}
}

// get asks once; again tells whether asking again may help.
func (s *server) get(ctx context.Context, path string) (data []byte, again bool, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.base+"/"+path, http.NoBody)
	if err != nil {
		return nil, false, err
	}
	req.Header.Set("User-Agent", "trialog-fsck")
	resp, err := s.client.Do(req)
	if err != nil {
		return nil, ctx.Err() == nil, err
	}
	defer resp.Body.Close()
	switch {
	case resp.StatusCode == http.StatusNotFound, resp.StatusCode == http.StatusGone:
		return nil, false, fmt.Errorf("%s: %w", path, fs.ErrNotExist)
	case resp.StatusCode != http.StatusOK:
		busy := resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode == http.StatusServiceUnavailable ||
			resp.StatusCode == http.StatusBadGateway || resp.StatusCode == http.StatusGatewayTimeout
		return nil, busy, fmt.Errorf("the server answers %d", resp.StatusCode)
	}
	data, err = io.ReadAll(io.LimitReader(resp.Body, maxObject))
	return data, err != nil, err
}
