package hatchet_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"

	"github.com/stint-dev/stint/hatchet"
)

// childDatabase and childAddress tell a process of this test's program that it is a server, and what it serves where.
const (
	childDatabase = "STINT_TEST_DATABASE"
	childAddress  = "STINT_TEST_ADDRESS"
)

// serveAsChild serves until the process gets SIGTERM. It prints its address and a token.
func serveAsChild() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if err := serveChild(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func serveChild(ctx context.Context) error {
	var parts [3]string
	if err := json.Unmarshal([]byte(os.Getenv(childDatabase)), &parts); err != nil {
		return err
	}
	c, err := database{parts[0], parts[1], parts[2]}.open(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	l, err := net.Listen("tcp", os.Getenv(childAddress))
	if err != nil {
		return err
	}
	s, err := hatchet.NewServer(c, hatchet.Options{Address: l.Addr().String()})
	if err != nil {
		return err
	}
	token, err := s.Token()
	if err != nil {
		return err
	}
	fmt.Println(l.Addr(), token)
	return s.Serve(ctx, l)
}

// A process is a server in a process of its own.
type process struct {
	t              testing.TB
	d              database
	cmd            *exec.Cmd
	address, token string
}

// startProcess serves a database in a process of its own until the test ends.
func startProcess(t testing.TB, d database) *process {
	t.Helper()
	p := &process{t: t, d: d, address: "127.0.0.1:0"}
	p.start()
	t.Cleanup(func() { p.end(syscall.SIGKILL) })
	return p
}

// start starts the process, on the address of the former one if there was one.
func (p *process) start() {
	p.t.Helper()
	parts, err := json.Marshal([]string{p.d.url, p.d.schema, p.d.path})
	if err != nil {
		p.t.Fatal(err)
	}
	p.cmd = exec.Command(os.Args[0])
	p.cmd.Env = append(os.Environ(), childDatabase+"="+string(parts), childAddress+"="+p.address)
	p.cmd.Stderr = os.Stderr
	out, err := p.cmd.StdoutPipe()
	if err == nil {
		err = p.cmd.Start()
	}
	if err != nil {
		p.t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		p.t.Fatalf("the server does not serve: %v", err)
	}
	address, token, _ := strings.Cut(strings.TrimSpace(line), " ")
	p.address = address
	if p.token == "" {
		p.token = token // the first is valid for the second process too
	}
}

// end sends the process a signal, and waits until it has ended.
func (p *process) end(s syscall.Signal) {
	if p.cmd.ProcessState == nil {
		p.cmd.Process.Signal(s)
		p.cmd.Wait()
	}
}
