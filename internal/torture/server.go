//go:build unix

package main

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// errNoServer says why an attack on a server was not made.
type errNoServer struct{ why string }

func (e errNoServer) Error() string { return "not attacked: " + e.why }

// newDatabase makes a database on the server for tests. drop removes it.
func newDatabase() (place string, drop func(), err error) {
	admin := os.Getenv("STINT_DATABASE_URL")
	if admin == "" {
		return "", nil, errNoServer{"set STINT_DATABASE_URL to the URL of a PostgreSQL whose databases may be made and dropped"}
	}
	u, err := url.Parse(admin)
	if err != nil {
		return "", nil, err
	}
	name := fmt.Sprintf("torture_%d_%d", os.Getpid(), time.Now().UnixNano())
	u.Path = "/" + name
	exec := func(query string) error {
		return inDatabase(admin, func(db *sql.DB) error { _, err := db.Exec(query); return err })
	}
	if err := exec("CREATE DATABASE " + name); err != nil {
		return "", nil, err
	}
	drop = func() {
		exec("DROP DATABASE " + name + " WITH (FORCE)")
		os.Remove(ledgerOf(u.String()))
	}
	return u.String(), drop, nil
}

// A server is a PostgreSQL of an attack's own, made with Debian's programs.
type server struct {
	bin, dir string
	port     int
	args     []string
	cmd      *exec.Cmd
	ended    chan struct{} // closed when cmd has
}

// pgBin returns the directory of PostgreSQL's programs, the newest of Debian's.
func pgBin() (string, error) {
	all, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	best, version := "", 0.0
	for _, path := range all {
		if v, _ := strconv.ParseFloat(filepath.Base(filepath.Dir(filepath.Dir(path))), 64); v > version {
			best, version = filepath.Dir(path), v
		}
	}
	if best == "" {
		return "", errNoServer{"initdb is not installed: it comes with PostgreSQL's server"}
	}
	return best, nil
}

// asPostgres makes a command run as the user postgres, if this is root, as whom PostgreSQL refuses to run.
func asPostgres(cmd *exec.Cmd) error {
	if os.Geteuid() != 0 {
		return nil
	}
	uid, gid, err := postgresIDs()
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
	return err
}

func postgresIDs() (uid, gid int, err error) {
	u, err := user.Lookup("postgres")
	if err != nil {
		return 0, 0, errNoServer{"root may not run PostgreSQL, and there is no user postgres"}
	}
	uid, err = strconv.Atoi(u.Uid)
	gid, err2 := strconv.Atoi(u.Gid)
	return uid, gid, errors.Join(err, err2)
}

// newServer makes a server with settings of its own, and starts it. It is removed by close.
func newServer(ctx context.Context, settings ...string) (*server, error) {
	s, err := emptyServer()
	if err != nil {
		return nil, err
	}
	err = s.command("initdb", "-D", s.data(), "-U", "postgres", "-A", "trust", "--no-sync", "-E", "UTF8", "--locale=C.UTF-8")
	if err == nil {
		s.args = settings
		err = s.start(ctx)
	}
	if err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// emptyServer returns a server without data.
func emptyServer() (*server, error) {
	bin, err := pgBin()
	if err != nil {
		return nil, err
	}
	parent := "/dev/shm"
	if info, err := os.Stat(parent); err != nil || !info.IsDir() {
		parent = os.TempDir()
	}
	s := &server{bin: bin}
	if s.dir, err = os.MkdirTemp(parent, "torture"); err != nil {
		return nil, err
	}
	if os.Geteuid() == 0 {
		uid, gid, err := postgresIDs()
		if err = errors.Join(err, os.Chown(s.dir, uid, gid)); err != nil {
			return nil, errors.Join(err, os.RemoveAll(s.dir))
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0") // a free port
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(s.dir))
	}
	s.port = l.Addr().(*net.TCPAddr).Port
	return s, l.Close()
}

func (s *server) data() string { return filepath.Join(s.dir, "data") }

func (s *server) host() string { return fmt.Sprint("127.0.0.1:", s.port) }

func (s *server) url() string { return "postgres://postgres@" + s.host() + "/postgres" }

// command runs one of PostgreSQL's programs to its end.
func (s *server) command(name string, args ...string) error {
	cmd := exec.Command(filepath.Join(s.bin, name), args...)
	cmd.Dir = s.dir
	if err := asPostgres(cmd); err != nil {
		return err
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, out)
	}
	return nil
}

// start starts the server, and returns when it accepts connections. After a kill the old one's processes may
// still hold its memory: it is tried again.
func (s *server) start(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		if err := s.launch(); err != nil {
			return err
		}
		for s.running() {
			if inDatabase(s.url(), func(db *sql.DB) error { return db.PingContext(ctx) }) == nil {
				return nil
			}
			if wait(ctx, 20*time.Millisecond); ctx.Err() != nil {
				return fmt.Errorf("the server does not start: %w: %s", ctx.Err(), s.log())
			}
		}
		if log := s.log(); !strings.Contains(log, "shared memory block") && !strings.Contains(log, "lock file") {
			return fmt.Errorf("the server does not start: %s", log)
		}
		wait(ctx, 50*time.Millisecond)
	}
}

// launch starts the server's first process.
func (s *server) launch() error {
	args := []string{"-D", s.data(), "-p", fmt.Sprint(s.port), "-k", s.dir}
	for _, a := range append([]string{"listen_addresses=127.0.0.1", "max_connections=100"}, s.args...) {
		args = append(args, "-c", a)
	}
	s.cmd = exec.Command(filepath.Join(s.bin, "postgres"), args...)
	s.cmd.Dir = s.dir
	if err := asPostgres(s.cmd); err != nil {
		return err
	}
	// Processes of the one before still write into its log: at the end, not where they were before it was made empty.
	log, err := os.OpenFile(filepath.Join(s.dir, "log"), os.O_CREATE|os.O_TRUNC|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	s.cmd.Stdout, s.cmd.Stderr = log, log
	if err := s.cmd.Start(); err != nil {
		return err
	}
	ended := make(chan struct{})
	s.ended = ended
	go func(cmd *exec.Cmd) { cmd.Wait(); close(ended) }(s.cmd)
	return nil
}

func (s *server) running() bool {
	select {
	case <-s.ended:
		return false
	default:
		return true
	}
}

func (s *server) log() string {
	b, _ := os.ReadFile(filepath.Join(s.dir, "log"))
	return string(b[max(0, len(b)-2000):])
}

// kill ends the server's first process by SIGKILL; the others notice that.
func (s *server) kill() {
	s.cmd.Process.Kill()
	<-s.ended
}

// stop ends the server as its administrator does, without waiting for those who are connected.
func (s *server) stop() {
	if s.cmd == nil {
		return
	}
	s.cmd.Process.Signal(syscall.SIGQUIT) // an immediate shutdown
	<-s.ended
}

// close stops and removes the server.
func (s *server) close() {
	s.stop()
	os.RemoveAll(s.dir)
	os.Remove(ledgerOf(s.url()))
}

// processes returns the IDs of the server's processes whose title has a text.
func (s *server) processes(title string) (pids []int) {
	all, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range all {
		var pid, parent int
		stat, _ := os.ReadFile(path)
		after := bytes.LastIndexByte(stat, ')')
		if after < 0 {
			continue
		}
		fmt.Sscan(string(stat[after+1:]), new(string), &parent)
		fmt.Sscan(filepath.Base(filepath.Dir(path)), &pid)
		cmdline, _ := os.ReadFile(filepath.Join(filepath.Dir(path), "cmdline"))
		if parent == s.cmd.Process.Pid && strings.Contains(string(cmdline), title) {
			pids = append(pids, pid)
		}
	}
	return pids
}
