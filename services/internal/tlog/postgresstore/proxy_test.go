package postgresstore_test

import (
	"bytes"
	"io"
	"net"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/trialog/trialog/internal/pgtest"
)

// fate is what becomes of a COMMIT that passes the proxy.
type fate int

const (
	pass       fate = iota
	lostBefore      // the connection breaks before the server gets it
	lostAfter       // the server gets it, and the client no answer
	late            // the client is cut off, and the server gets it some time later
	fates
	freeze // from then on nothing passes in either direction, and nothing breaks
)

// proxy stands between the store and the server.
type proxy struct {
	listener net.Listener
	socket   string
	wg       sync.WaitGroup

	mu    sync.Mutex
	conns map[net.Conn]struct{}
	next  fate          // of the next COMMIT of a transaction that writes
	met   int           // how many met their fate
	wait  int           // commits until hook is called
	hook  func()        // behind the sending of a commit
	limit int           // bytes until the next connection that writes breaks; 0 means none
	made  int           // connections
	ice   chan struct{} // closed when it thaws; nil while it is not frozen
}

// startProxy returns a proxy and the URL that leads through it.
func startProxy(t *testing.T, s *pgtest.Server, database string) (*proxy, string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{listener: l, socket: s.Socket(), conns: map[net.Conn]struct{}{}}
	p.wg.Go(p.accept)
	t.Cleanup(func() {
		l.Close()
		p.thaw()
		p.cutAll()
		p.wg.Wait()
	})
	u, err := url.Parse(database)
	if err != nil {
		t.Fatal(err)
	}
	u.Host, u.RawQuery = l.Addr().String(), "sslmode=disable"
	return p, u.String()
}

func (p *proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("unix", p.socket)
		if err != nil {
			client.Close()
			continue
		}
		p.mu.Lock()
		p.conns[client], p.conns[server] = struct{}{}, struct{}{}
		p.made++
		p.mu.Unlock()
		p.wg.Go(func() {
			io.Copy(thawed{client, p}, server)
			client.Close()
			server.Close()
		})
		p.wg.Go(func() { p.forward(client, server) })
	}
}

// forward passes on what the client sends and deals with commits of sessions that
// write.
func (p *proxy) forward(client, server net.Conn) {
	defer client.Close()
	writer, seen := false, 0
	buf := make([]byte, 1<<16)
	for {
		n, err := client.Read(buf)
		if err != nil {
			server.Close()
			return
		}
		part := buf[:n]
		seen += n
		writer = writer || bytes.Contains(part, []byte("trialog write"))
		p.mu.Lock()
		do, hook := pass, func() {}
		over := writer && p.limit > 0 && seen > p.limit
		if over {
			p.limit = 0
			p.met++
		}
		if writer && bytes.HasPrefix(part, []byte("Q\x00\x00\x00\x0bcommit\x00")) {
			if do = p.next; do != pass {
				p.met++
				p.next = pass
			}
			if do == freeze {
				p.ice, do = make(chan struct{}), pass
			}
			p.wait--
			if p.wait == 0 {
				hook = p.hook
			}
		}
		p.mu.Unlock()
		switch {
		case over:
			server.Close()
			return
		case do == lostBefore:
			server.Close()
			return
		case do == lostAfter:
			client.Close()
		case do == late:
			client.Close()
			<-time.After(30 * time.Millisecond) // as long as a network may take
		}
		if _, err := (thawed{server, p}).Write(part); err != nil {
			return
		}
		hook()
		if do != pass {
			io.Copy(io.Discard, server) // until the server has done with it
			return
		}
	}
}

// thawed writes when the proxy is not frozen.
type thawed struct {
	net.Conn
	p *proxy
}

func (w thawed) Write(part []byte) (int, error) {
	w.p.mu.Lock()
	ice := w.p.ice
	w.p.mu.Unlock()
	if ice != nil {
		<-ice
	}
	return w.Conn.Write(part)
}

// freeze lets nothing pass until thaw. Connections stay, and new ones get no answer.
func (p *proxy) freeze() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ice == nil {
		p.ice = make(chan struct{})
	}
}

// thaw passes on what was held back.
func (p *proxy) thaw() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ice != nil {
		close(p.ice)
		p.ice = nil
	}
}

func (p *proxy) set(f fate, limit int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.next, p.limit = f, limit
}

// onCommit calls f when so many commits were sent.
func (p *proxy) onCommit(n int, f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wait, p.hook = n, f
}

func (p *proxy) fatesMet() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.met
}

// awaitConns returns when so many more connections were made.
func (p *proxy) awaitConns(t *testing.T, n int) {
	t.Helper()
	made := func() int {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.made
	}
	want := made() + n
	for end := time.Now().Add(time.Minute); made() < want; <-time.After(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d of %d connections were made", made(), want)
		}
	}
}

func (p *proxy) cutAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		c.Close()
	}
	clear(p.conns)
}
