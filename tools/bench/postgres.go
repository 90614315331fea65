package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"
)

// database is a PostgreSQL server for this run only, reached through a socket in
// its folder.
type database struct {
	dir    string
	user   string
	cmd    *exec.Cmd
	cancel context.CancelFunc
	ended  chan error
	names  int
}

// uri returns how to reach one of the server's databases.
func (d *database) uri(name string) string {
	return fmt.Sprintf("postgres://%s@/%s?host=%s", d.user, name, d.dir)
}

// postgres starts the server, once.
func (s *session) postgres(ctx context.Context) (*database, error) {
	if s.db != nil {
		return s.db, nil
	}
	initdb, err := programOf("initdb")
	if err != nil {
		return nil, err
	}
	server, err := programOf("postgres")
	if err != nil {
		return nil, err
	}
	d := &database{dir: filepath.Join(s.dir, "pg"), user: "bench", ended: make(chan error, 1)}
	if err := os.Mkdir(d.dir, 0o700); err != nil {
		return nil, err
	}
	// PostgreSQL refuses to run as root.
	who, err := servant(d.dir)
	if err != nil {
		return nil, err
	}
	data := filepath.Join(d.dir, "data")
	cmd := command(ctx, initdb, "-D", data, "-U", d.user, "--auth=trust", "--encoding=UTF8", "--locale=C")
	cmd.SysProcAttr.Credential, cmd.Dir = who, d.dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("initdb: %w: %s", err, s.without(tail(string(out))))
	}
	// It ends after everything that uses it, by close, not with ctx.
	life, cancel := context.WithCancel(context.WithoutCancel(ctx))
	d.cancel = cancel
	d.cmd = command(life, server, "-D", data, "-c", "listen_addresses=", "-c", "unix_socket_directories="+d.dir,
		"-c", "shared_buffers=1GB", "-c", "max_wal_size=8GB", "-c", "max_connections=200", "-c", "logging_collector=off")
	// Fast shutdown: sessions are cut off.
	d.cmd.Cancel = func() error { return d.cmd.Process.Signal(os.Interrupt) }
	d.cmd.SysProcAttr.Credential, d.cmd.Dir = who, d.dir
	if err := d.cmd.Start(); err != nil {
		cancel()
		return nil, err
	}
	go func() { d.ended <- d.cmd.Wait() }()
	s.db = d
	if err := d.await(ctx); err != nil {
		return nil, err
	}
	return d, nil
}

// await waits until the server takes connections.
func (d *database) await(ctx context.Context) error {
	ready, err := programOf("pg_isready")
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		if command(ctx, ready, "-q", "-h", d.dir).Run() == nil {
			return nil
		}
		select {
		case err := <-d.ended:
			d.ended <- err
			return fmt.Errorf("postgres has ended: %w", err)
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond): // between two questions
		}
	}
}

// create makes an empty database of a new name.
func (d *database) create(ctx context.Context) (name string, err error) {
	createdb, err := programOf("createdb")
	if err != nil {
		return "", err
	}
	d.names++
	name = fmt.Sprintf("bench_%d", d.names)
	out, err := command(ctx, createdb, "-h", d.dir, "-U", d.user, name).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("createdb: %w: %s", err, tail(string(out)))
	}
	return name, nil
}

// drop removes a database, so that the disk does not fill up.
func (d *database) drop(ctx context.Context, name string) error {
	dropdb, err := programOf("dropdb")
	if err != nil {
		return err
	}
	out, err := command(ctx, dropdb, "-h", d.dir, "-U", d.user, "--force", "--if-exists", name).CombinedOutput()
	if err != nil {
		return fmt.Errorf("dropdb: %w: %s", err, tail(string(out)))
	}
	return nil
}

func (d *database) close() error {
	d.cancel()
	err := <-d.ended
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) || errors.Is(err, context.Canceled) {
		return nil // it was told to
	}
	return err
}

// programOf finds a program of PostgreSQL, in PATH or where Debian puts it.
func programOf(name string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/" + name)
	if err != nil {
		return "", err
	}
	if len(found) == 0 {
		return "", fmt.Errorf("PostgreSQL is not installed: no %s", name)
	}
	slices.Sort(found)
	return found[len(found)-1], nil
}

// servant gives dir to an unprivileged user if this process runs as root, and
// returns who that is; nil if it does not.
func servant(dir string) (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil //nolint:nilnil // nobody else is needed
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err := strconv.ParseUint(u.Uid, 10, 32)
		if err != nil {
			return nil, err
		}
		gid, err := strconv.ParseUint(u.Gid, 10, 32)
		if err != nil {
			return nil, err
		}
		return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, os.Chown(dir, int(uid), int(gid))
	}
	return nil, errors.New("PostgreSQL does not run as root, and there is no user postgres or nobody")
}
