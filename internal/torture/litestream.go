//go:build unix

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// litestreamVersion is the version that CI installs.
const litestreamVersion = "v0.5.18"

func findLitestream() (string, error) {
	bin, err := exec.LookPath("litestream")
	if err != nil {
		return "", fmt.Errorf("%w: go install github.com/benbjohnson/litestream/cmd/litestream@%s", err, litestreamVersion)
	}
	return bin, nil
}

// litestream runs a program while Litestream, https://litestream.io, copies its log to a replica, and stops Litestream
// after the program. A restored replica has all that was acknowledged, is whole, and continues. A restart of
// Litestream while a program works is not tested here: what it restores is sometimes damaged, while the program's
// file is whole; see docs/reliability.md.
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
	var says bytes.Buffer
	c := exec.CommandContext(ctx, bin, "replicate", "-log-level", "error", path, replica)
	c.Stdout, c.Stderr = &says, &says
	err := r.beside(ctx, path, book, func(context.Context, func(func() error)) error {
		if err := c.Start(); err != nil {
			return err
		}
		copying, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		for ; ; wait(copying, 10*time.Millisecond) { // it looks at the file each second
			if copied, _ := filepath.Glob(filepath.Join(dir, "replica", "ltx", "*", "*.ltx")); len(copied) > 0 {
				break
			}
			if copying.Err() != nil {
				return errors.New("litestream copies nothing")
			}
		}
		wait(ctx, time.Duration(r.rng.IntN(3000))*time.Millisecond)
		r.checkLog(path)
		return nil
	})
	if c.Process != nil {
		err = errors.Join(err, c.Process.Signal(syscall.SIGTERM), c.Wait())
	}
	if err != nil {
		return fmt.Errorf("%w: %s", err, says.Bytes())
	}
	if out, err := exec.CommandContext(ctx, bin, "restore", "-o", restored, replica).CombinedOutput(); err != nil {
		return fmt.Errorf("litestream restore: %w: %s", err, out)
	}
	for _, file := range []string{path, restored} {
		if err := r.checkAcks(ctx, file, book.acks, ends{}); err != nil {
			return err
		}
		if err := r.settled(ctx, file); err != nil {
			return err
		}
	}
	return nil
}
