package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/hatchet-dev/hatchet/pkg/client/rest"

	"github.com/google/uuid"
)

// A server is a process of stint-hatchet.
type server struct {
	cmd     *exec.Cmd
	dir     string
	binary  string
	args    []string
	address string
	serving time.Duration // from the process's start until it serves
}

// startServer builds and starts a server, and sets the environment of SDKs.
func (b *bench) startServer() error {
	dir, err := os.MkdirTemp("", "bench-hatchet-")
	if err != nil {
		return err
	}
	s := &server{dir: dir, binary: b.binary}
	b.server = s
	if s.binary == "" {
		s.binary = filepath.Join(dir, "stint-hatchet")
		build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", s.binary, "./cmd/stint-hatchet")
		build.Dir, build.Env, build.Stderr = filepath.Join("..", "..", "hatchet"), append(os.Environ(), "CGO_ENABLED=0"), os.Stderr
		if err := build.Run(); err != nil {
			return fmt.Errorf("building stint-hatchet (run this in bench/hatchet, or set -server): %w", err)
		}
	}
	s.address, s.args = "127.0.0.1:0", []string{"-db", filepath.Join(dir, "app.db")}
	if b.db != "" {
		s.args[1] = b.db
		if strings.HasPrefix(b.db, "postgres") {
			s.args = append(s.args, "-schema", "bench_"+strconv.FormatInt(time.Now().Unix(), 36))
		}
	}
	return s.start()
}

// start starts the process, and again at the same address when it has ended.
func (s *server) start() error {
	began := time.Now()
	s.cmd = exec.Command(s.binary, append(s.args, "-addr", s.address)...)
	s.cmd.Stderr = os.Stderr
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := s.cmd.Start(); err != nil {
		return err
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if name, value, ok := strings.Cut(strings.TrimPrefix(lines.Text(), "export "), "="); ok && !strings.HasPrefix(name, "#") {
			os.Setenv(name, value)
		}
		if at, ok := strings.CutPrefix(lines.Text(), "# serving SDKs at "); ok {
			s.serving, s.address = time.Since(began), at
			os.Setenv("HATCHET_CLIENT_LOG_LEVEL", "error")
			go io.Copy(io.Discard, out)
			return nil
		}
	}
	return errors.Join(errors.New("the server does not serve"), s.cmd.Wait())
}

func (b *bench) stopServer() {
	s := b.server
	if s.cmd != nil && s.cmd.Process != nil {
		s.cmd.Process.Signal(syscall.SIGTERM)
		s.cmd.Wait()
	}
	os.RemoveAll(s.dir)
}

// size and start give what the server was built and started with.
func (b *bench) size(context.Context) (figures, error) {
	if b.server == nil {
		return nil, nil
	}
	st, err := os.Stat(b.server.binary)
	if err != nil {
		return nil, err
	}
	return figures{"mib": float64(st.Size()) / (1 << 20)}, nil
}

func (b *bench) start(context.Context) (figures, error) {
	if b.server == nil {
		return nil, nil
	}
	return figures{"serving_s": b.server.serving.Seconds()}, nil
}

// cpu returns the time that the server's process has used.
func (s *server) cpu() (time.Duration, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	fields := strings.Fields(rest)
	user, err := strconv.Atoi(fields[11])
	if err != nil {
		return 0, err
	}
	system, err := strconv.Atoi(fields[12])
	const tick = 10 * time.Millisecond // of Linux, for programs
	return time.Duration(user+system) * tick, err
}

// rss returns the memory that the server's process has, in MiB.
func (s *server) rss() (float64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(status)) {
		if fields := strings.Fields(line); fields[0] == "VmRSS:" {
			kib, err := strconv.Atoi(fields[1])
			return float64(kib) / 1024, err
		}
	}
	return 0, errors.New("the process has no VmRSS")
}

func (b *bench) cancel(ctx context.Context, run string) error {
	id, err := uuid.Parse(run)
	if err != nil {
		return err
	}
	_, err = b.client.Runs().Cancel(ctx, rest.V1CancelTaskRequest{ExternalIds: &[]uuid.UUID{id}})
	return err
}

// A child is another process of this program.
type child struct {
	cmd   *exec.Cmd
	ready chan struct{} // closed when it is, or has ended
	began chan struct{} // receives when a task of it has begun
}

func startChild(o options, what string) (*child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	c := &child{cmd: exec.Command(self, "-child", what, "-workers", strconv.Itoa(o.workers)), ready: make(chan struct{}),
		began: make(chan struct{}, 1)}
	c.cmd.Stderr = os.Stderr
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := c.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		defer close(c.ready)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			switch {
			case lines.Text() == "ready":
				c.ready <- struct{}{}
			case strings.HasPrefix(lines.Text(), "began"):
				c.began <- struct{}{}
			}
		}
	}()
	return c, nil
}

// awaitReady waits until the child's workers are connected.
func (c *child) awaitReady() error {
	if _, ok := <-c.ready; !ok {
		return errors.New("a process of the program's own has ended")
	}
	return nil
}

// kill ends the process as a crash does.
func (c *child) kill() {
	if c.cmd.ProcessState == nil {
		c.cmd.Process.Kill()
		c.cmd.Wait()
	}
}
