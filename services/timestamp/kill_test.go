package timestamp

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/x509"
	"fmt"
	"io"
	"math/big"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	api "github.com/trialog/trialog/api/timestamp"
	"github.com/trialog/trialog/services/internal/clock"
)

// childEnv names the folder of a test binary that runs as an authority.
const childEnv = "TIMESTAMP_TEST_CHILD_FOLDER"

// machineClock is the machine's, believed.
type machineClock struct{}

func (machineClock) Read() (clock.Reading, error) {
	return clock.Reading{Time: time.Now(), Bound: time.Millisecond}, nil
}

// childConfig is the configuration of an authority whose files are in a folder.
func childConfig(t testing.TB, w *world, dir string) Config {
	t.Helper()
	c := w.config
	c.StateFile, c.Clock = filepath.Join(dir, "state"), machineClock{}
	der, err := os.ReadFile(filepath.Join(dir, "key"))
	if err != nil {
		t.Fatal(err)
	}
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		t.Fatal(err)
	}
	c.Key = key.(*ecdsa.PrivateKey)
	if c.Chain, err = os.ReadFile(filepath.Join(dir, "chain")); err != nil {
		t.Fatal(err)
	}
	return c
}

// TestChildAuthority is the authority that TestKill kills.
func TestChildAuthority(t *testing.T) {
	dir := os.Getenv(childEnv)
	if dir == "" {
		t.Skip("only as a child of TestKill")
	}
	a, err := Open(childConfig(t, newWorld(t), dir))
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	fmt.Printf("listening %s\n", l.Addr())
	server := &http.Server{Handler: a.Handler(), ReadHeaderTimeout: time.Minute}
	t.Fatal(server.Serve(l))
}

func startChild(t *testing.T, dir string) (url string, child *exec.Cmd) {
	t.Helper()
	child = exec.Command(os.Args[0], "-test.run=^TestChildAuthority$", "-test.timeout=5m")
	child.Env = append(os.Environ(), childEnv+"="+dir)
	child.Stderr = os.Stderr
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = child.Process.Kill() })
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if addr, ok := strings.CutPrefix(lines.Text(), "listening "); ok {
			return "http://" + addr, child
		}
	}
	t.Fatal("the child ended before it listened")
	return "", nil
}

// ask gets one token; nil if the authority is gone.
func ask(t *testing.T, client *http.Client, url string, query []byte) *api.Token {
	resp, err := client.Post(url, typeQuery, bytes.NewReader(query))
	if err != nil {
		return nil
	}
	defer resp.Body.Close()
	reply, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil
	}
	token, err := api.ParseResponse(reply)
	if err != nil {
		t.Errorf("status %d: %v", resp.StatusCode, err)
	}
	return token
}

// TestKill kills an authority under load again and again: of 10,000 tokens each
// has a serial number of its own, greater than all of the lives before, and its
// record is there.
func TestKill(t *testing.T) {
	total, lives := 10_000, 20
	if testing.Short() {
		total, lives = 300, 3
	}
	dir := t.TempDir()
	key := newKey(t)
	chain, _, err := Certify("Test TSU", key.Public(), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{"key": der, "chain": chain} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	rng := rand.New(rand.NewPCG(1, 2))
	query := goodQuery().der(t)
	issued := map[string]bool{}
	last := new(big.Int) // the greatest of the lives before
	for life := 0; life < lives || len(issued) < total; life++ {
		url, child := startChild(t, dir)
		limit := len(issued) + total/lives/2 + rng.IntN(total/lives+1)
		greatest := oneLife(t, url, child, query, limit, issued, last)
		if greatest.Cmp(last) <= 0 {
			t.Fatalf("life %d issued nothing", life)
		}
		last = greatest
	}
	t.Logf("%d tokens with different serial numbers", len(issued))
	s, err := openState(filepath.Join(dir, "state"))
	if err != nil {
		t.Fatal(err)
	}
	records, err := s.oldest(2 * total)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range records {
		delete(issued, r.serial.text())
	}
	if len(issued) > 0 {
		t.Errorf("%d tokens left without a record", len(issued))
	}
	_ = s.close()
}

// oneLife asks for tokens until there are limit of them and kills the authority
// while more are being asked for. It returns the greatest serial number.
func oneLife(t *testing.T, url string, child *exec.Cmd, query []byte, limit int, issued map[string]bool, last *big.Int) *big.Int {
	t.Helper()
	const clients = 8
	var mu sync.Mutex
	var kill sync.Once
	greatest := new(big.Int)
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: clients}}
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			for {
				token := ask(t, client, url, query)
				if token == nil {
					return
				}
				mu.Lock()
				name := token.Serial.Text(16)
				if issued[name] || token.Serial.Cmp(last) <= 0 {
					t.Errorf("serial number %s was given before, or one above it", name)
				}
				issued[name] = true
				if token.Serial.Cmp(greatest) > 0 {
					greatest = token.Serial
				}
				enough := len(issued) >= limit
				mu.Unlock()
				if enough {
					kill.Do(func() { _ = child.Process.Kill() })
				}
			}
		})
	}
	wg.Wait()
	_ = child.Wait() // it was killed
	client.CloseIdleConnections()
	return greatest
}
