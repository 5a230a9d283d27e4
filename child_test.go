package stint_test

import (
	"bufio"
	"encoding/binary"
	"io"
	"os"
	"os/exec"
	"testing"

	"github.com/google/uuid"
	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/internal/selfcheck"
	"go.uber.org/goleak"
)

// The test binary is also what the tests kill: STINT_CHILD says which of children it
// is to be, on the file STINT_FILE.
func TestMain(m *testing.M) {
	selfcheck.Enable()
	if role := os.Getenv("STINT_CHILD"); role != "" {
		children[role](os.Getenv("STINT_FILE"))
		return
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(selfcheck.Exit))
}

var children = map[string]func(path string){
	"hang":   hangChild,
	"waits":  waitsChild,
	"echo":   echoChild,
	"exit":   exitChild,
	"reader": readerChild,
	"look":   lookChild,
	"soak":   soakChild,
	"saga":   sagaChild, "exit saga": exitSagaChild,
	"code": codeChild, "changed code": changedCodeChild,
}

// A child is a process of this binary in one of the roles above.
type child struct {
	*exec.Cmd
	out *bufio.Scanner
}

func startChild(t *testing.T, role, path string) *child {
	t.Helper()
	return startProgram(t, os.Args[0], role, path)
}

// startProgram is startChild with a copy of the binary.
func startProgram(t *testing.T, program, role, path string) *child {
	t.Helper()
	cmd := exec.Command(program)
	cmd.Env = append(os.Environ(), "STINT_CHILD="+role, "STINT_FILE="+path)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); io.Copy(io.Discard, out); cmd.Wait() })
	return &child{cmd, bufio.NewScanner(out)}
}

// line waits for the child's next line.
func (c *child) line(t *testing.T) string {
	t.Helper()
	if !c.out.Scan() {
		t.Fatal("the child has ended")
	}
	return c.out.Text()
}

// childClient opens a client in a child, with a worker.
func childClient(path string) (*stint.Client, *stint.Worker) {
	c, err := openSchema(path, schemaOf(path))
	if err != nil {
		panic(err)
	}
	w, err := c.NewWorker(stint.WithSlots(8))
	if err != nil {
		panic(err)
	}
	return c, w
}

// keyOf is the key that an ID stands for: see store/sqlite/id.go.
func keyOf(t *testing.T, id string) int64 {
	u, err := uuid.Parse(id)
	if err != nil {
		t.Fatal(err)
	}
	hi := binary.BigEndian.Uint64(u[:8])
	return int64(hi>>16<<20 | hi&0xfff<<8 | uint64(u[8]&0x3f)<<2 | uint64(u[9]>>6))
}
