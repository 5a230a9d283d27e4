package own

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	v0 "github.com/hatchet-dev/hatchet/pkg/client"
	hatchet "github.com/hatchet-dev/hatchet/sdks/go"
)

// A server is a process of a test's own, on a database of its own.
type server struct {
	t       *testing.T
	db      []string
	cmd     *exec.Cmd
	address string
	token   string
	log     bytes.Buffer
}

// startServer starts a server that the test may end.
func startServer(t *testing.T) *server {
	t.Helper()
	if os.Getenv("STINT_HATCHET") == "" {
		t.Skip("no command: use ../run.sh own")
	}
	s := &server{t: t, address: "127.0.0.1:0", db: []string{"-db", filepath.Join(t.TempDir(), "app.db")}}
	if url := os.Getenv("STINT_DATABASE_URL"); url != "" {
		s.db = []string{"-db", url, "-schema", fmt.Sprint("own_", time.Now().UnixNano())}
	}
	s.start()
	t.Cleanup(func() {
		s.end(syscall.SIGKILL)
		if t.Failed() {
			t.Logf("the server's log:\n%s", s.log.String())
		}
	})
	return s
}

// start starts the process, on the address of the former one if there was one, and returns when it serves.
func (s *server) start() {
	s.t.Helper()
	s.cmd = exec.Command(os.Getenv("STINT_HATCHET"), append(s.db, "-addr", s.address, "-no-page")...)
	s.cmd.Stderr = &s.log
	out, err := s.cmd.StdoutPipe()
	if err == nil {
		err = s.cmd.Start()
	}
	if err != nil {
		s.t.Fatal(err)
	}
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if token, ok := strings.CutPrefix(lines.Text(), "export HATCHET_CLIENT_TOKEN="); ok && s.token == "" {
			s.token = token // programs keep the first
		}
		if at, ok := strings.CutPrefix(lines.Text(), "# serving SDKs at "); ok {
			s.address = at
			return
		}
	}
	s.end(syscall.SIGKILL)
	s.t.Fatalf("the server does not serve:\n%s", s.log.String())
}

// end sends the process a signal, and returns when it has ended.
func (s *server) end(signal syscall.Signal) {
	if s.cmd.ProcessState == nil {
		s.cmd.Process.Signal(signal)
		s.cmd.Wait()
	}
}

// connect returns a client of the SDK.
func (s *server) connect() *hatchet.Client {
	s.t.Helper()
	c, err := hatchet.NewClient(v0.WithToken(s.token))
	if err != nil {
		s.t.Fatal(err)
	}
	return c
}
