//go:build unix

package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// freeze runs three programs on one file, and stops one of them for a while, again and again, as a debugger, a
// swapping machine or a suspended laptop does. Sometimes its lock file is removed meanwhile, so that the others
// take it for dead and take over its runs; when it continues, its outcomes are refused.
func freeze(ctx context.Context, r *round) error {
	path := filepath.Join(r.dir("freeze"), "shop.db")
	children := make([]*child, 3)
	for i := range children {
		c, err := startChild("shop", path)
		if err != nil {
			return err
		}
		<-c.open
		children[i] = c
		defer c.kill()
	}
	for range r.count {
		c := children[r.rng.IntN(len(children))]
		c.Process.Signal(syscall.SIGSTOP)
		if r.rng.IntN(2) == 0 {
			if err := r.removeLock(path); err != nil {
				return err
			}
		}
		wait(ctx, time.Duration(100+r.rng.IntN(500))*time.Millisecond)
		c.Process.Signal(syscall.SIGCONT)
		wait(ctx, time.Duration(r.rng.IntN(100))*time.Millisecond)
		r.faults++
	}
	var errs []error
	for _, c := range children {
		errs = append(errs, c.kill())
	}
	if err := errors.Join(append(errs, ctx.Err())...); err != nil {
		return err
	}
	if err := r.checkLedger(ctx, path, ends{}); err != nil {
		return err
	}
	return r.settled(ctx, path)
}

// removeLock removes one of the presence files.
func (r *round) removeLock(path string) error {
	locks, err := filepath.Glob(filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+"-stint", "*"))
	if err != nil || len(locks) == 0 {
		return err
	}
	err = os.Remove(locks[r.rng.IntN(len(locks))])
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

func wait(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}
