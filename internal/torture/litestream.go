//go:build unix

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// litestreamVersion is the one that CI installs.
const litestreamVersion = "v0.5.18"

func findLitestream() (string, error) {
	bin, err := exec.LookPath("litestream")
	if err != nil {
		return "", fmt.Errorf("%w: go install github.com/benbjohnson/litestream/cmd/litestream@%s", err, litestreamVersion)
	}
	return bin, nil
}

// litestream has a program work while Litestream, https://litestream.io, copies its log to
// a replica. Litestream is killed in the middle, and begun again. What a restore of the
// replica gives has all that was acknowledged before Litestream was asked to end, is whole,
// and goes on.
func litestream(ctx context.Context, r *round) error {
	bin, err := findLitestream()
	if err != nil {
		return err
	}
	for range r.count {
		if err := r.replicate(ctx, bin); err != nil {
			return err
		}
		r.faults++
	}
	return nil
}

func (r *round) replicate(ctx context.Context, bin string) error {
	dir := r.dir("litestream")
	path, restored, replica := filepath.Join(dir, "shop.db"), filepath.Join(dir, "restored.db"), "file://"+filepath.Join(dir, "replica")
	book := &ledger{}
	var acks []ack
	err := r.beside(ctx, path, book, func(context.Context, func(func() error)) error {
		for _, end := range []os.Signal{syscall.SIGKILL, syscall.SIGTERM} {
			var says bytes.Buffer
			c := exec.CommandContext(ctx, bin, "replicate", "-log-level", "warn", path, replica)
			c.Stdout, c.Stderr = &says, &says
			if err := c.Start(); err != nil {
				return err
			}
			wait(ctx, time.Second+time.Duration(r.rng.IntN(1500))*time.Millisecond)
			for end == syscall.SIGTERM && ctx.Err() == nil { // it copies nothing before it has looked at the file, each second
				if copied, _ := filepath.Glob(filepath.Join(dir, "replica", "ltx", "*", "*.ltx")); len(copied) > 0 {
					break
				}
				wait(ctx, 10*time.Millisecond)
			}
			acks = book.so()
			if err := c.Process.Signal(end); err != nil {
				return errors.Join(err, c.Wait())
			}
			if err := c.Wait(); err != nil && end == syscall.SIGTERM && ctx.Err() == nil {
				return fmt.Errorf("litestream: %w: %s", err, says.Bytes())
			}
		}
		if info, err := os.Stat(path + "-wal"); err != nil || info.Size() > maxLog {
			r.verdict.problem("the log: %v, %v", info, err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if out, err := exec.CommandContext(ctx, bin, "restore", "-o", restored, replica).CombinedOutput(); err != nil {
		return fmt.Errorf("litestream restore: %w: %s", err, out)
	}
	for _, file := range []string{path, restored} {
		if err := r.checkAcks(ctx, file, acks, ends{}); err != nil {
			return err
		}
		if err := r.settled(ctx, file); err != nil {
			return err
		}
	}
	return nil
}
