//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/stint-dev/stint/internal/torture/disk"
)

func init() { roles["shop"] = shopChild }

// patientVar makes a child's customers go on after errors.
const patientVar = "STINT_TORTURE_PATIENT"

// dieVar makes a child kill itself before that operation on the disk, counted from when it has opened the file.
const dieVar = "STINT_TORTURE_DIE"

// shopChild works and has customers, without end. What it acknowledges goes into a
// ledger.
func shopChild(path string) error {
	s, err := openShop(path)
	if err != nil {
		return err
	}
	book, err := newLedger(ledgerOf(path))
	if err != nil {
		return err
	}
	if n, _ := strconv.ParseInt(os.Getenv(dieVar), 10, 64); n > 0 {
		dieAt(filepath.Dir(path), n)
	}
	fmt.Println("open")
	ctx := context.Background()
	errs := make(chan error, 1)
	for g := range 3 {
		go func() {
			for i := g; ; i += 3 {
				if err := s.visit(ctx, i, book.say); err != nil && os.Getenv(patientVar) == "" {
					errs <- err
					return
				}
			}
		}()
	}
	go func() { errs <- s.work(ctx, 8) }()
	return <-errs
}

// dieAt kills this process before the nth operation on the files of a directory.
func dieAt(dir string, n int64) {
	var done atomic.Int64
	disk.Watch(dir, func(disk.Op) disk.Answer {
		if done.Add(1) == n {
			syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
		return disk.OK
	})
}

// A child is a process in a role.
type child struct {
	*exec.Cmd
	open chan struct{} // closed when it says that it has opened the file, or has ended
	wait func() error  // once it has ended
}

func startChild(role, path string, env ...string) (*child, error) {
	c := &child{Cmd: exec.Command(os.Args[0]), open: make(chan struct{})}
	c.Env = append(append(os.Environ(), roleVar+"="+role, fileVar+"="+path), env...)
	c.Stderr = os.Stderr
	out, err := c.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := c.Start(); err != nil {
		return nil, err
	}
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		buf := make([]byte, 4096)
		n, err := out.Read(buf)
		for close(c.open); n > 0 && err == nil; {
			_, err = out.Read(buf)
		}
	}()
	c.wait = sync.OnceValue(func() error { <-drained; return c.Wait() })
	return c, nil
}

// kill ends the child by SIGKILL. It is an error if it has ended by itself.
func (c *child) kill() error {
	c.Process.Kill()
	err := c.wait()
	if c.ProcessState.Exited() {
		return fmt.Errorf("a child ended by itself: %w", err)
	}
	return nil
}

// kill starts a program and kills it, again and again on one file: at a random moment,
// and before each operation on the disk in turn.
func kill(ctx context.Context, r *round) error {
	path := filepath.Join(r.dir("kill"), "shop.db")
	seen := ends{}
	for i := range r.count {
		if i%100 == 99 { // a new file, or the checks take over
			if err := r.settled(ctx, path); err != nil {
				return err
			}
			path, seen = filepath.Join(r.dir("kill"), "shop.db"), ends{}
		}
		var err error
		if i%2 == 0 {
			err = r.killAtRandom(ctx, path)
		} else {
			err = r.killAtOperation(path, 1+i/2)
		}
		if err == nil {
			err = r.checkLedger(ctx, path, seen)
		}
		if err != nil {
			return err
		}
		r.faults++
	}
	return r.settled(ctx, path)
}

func (r *round) killAtRandom(ctx context.Context, path string) error {
	c, err := startChild("shop", path)
	if err != nil {
		return err
	}
	<-c.open
	wait(ctx, time.Duration(r.rng.IntN(150))*time.Millisecond)
	return errors.Join(c.kill(), ctx.Err())
}

func (r *round) killAtOperation(path string, n int) error {
	c, err := startChild("shop", path, fmt.Sprint(dieVar, "=", n))
	if err != nil {
		return err
	}
	c.wait()
	if c.ProcessState.Exited() {
		return errors.New("a child ended by itself")
	}
	return nil
}

// checkLedger checks a place by its ledger.
func (r *round) checkLedger(ctx context.Context, path string, seen ends) error {
	acks, err := readLedger(ledgerOf(path))
	if err != nil {
		return err
	}
	return r.checkAcks(ctx, path, acks, seen)
}

// checkAcks checks a file by what was acknowledged.
func (r *round) checkAcks(ctx context.Context, path string, acks []ack, seen ends) error {
	v, err := check(ctx, path, acks, seen)
	r.verdict.join(v)
	return errors.Join(err, v.err())
}

// settled works on a file until all runs have ended.
func (r *round) settled(ctx context.Context, path string) error {
	v, first, err := drain(ctx, path)
	r.verdict.join(v)
	r.note("first progress after %v", first.Round(time.Millisecond))
	return errors.Join(err, v.err())
}
