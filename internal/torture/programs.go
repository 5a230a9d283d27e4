//go:build unix

package main

import (
	"context"
	"errors"
	"time"
)

// programs runs three programs on one database, and kills one of them at a random moment, again and again, while the
// others go on. What it executed goes on elsewhere.
func programs(ctx context.Context, r *round) error {
	place, drop, err := newDatabase()
	if err != nil {
		return err
	}
	defer drop()
	children := make([]*child, 3)
	for i := range children {
		if children[i], err = startOpen("shop", place); err != nil {
			return err
		}
		defer func() { children[i].kill() }()
	}
	seen := ends{}
	for range r.count {
		i := r.rng.IntN(len(children))
		wait(ctx, time.Duration(r.rng.IntN(300))*time.Millisecond)
		if err := children[i].kill(); err != nil {
			return err
		}
		r.faults++
		if err := r.checkLedger(ctx, place, seen); err != nil {
			return err
		}
		if children[i], err = startOpen("shop", place); err != nil {
			return err
		}
	}
	var errs []error
	for _, c := range children {
		errs = append(errs, c.kill())
	}
	if err := errors.Join(append(errs, ctx.Err())...); err != nil {
		return err
	}
	if err := r.checkLedger(ctx, place, seen); err != nil {
		return err
	}
	return r.settled(ctx, place)
}

// startOpen starts a child that opens a place, and returns when it has.
func startOpen(role, place string, env ...string) (*child, error) {
	c, err := startChild(role, place, env...)
	if err == nil {
		<-c.open
	}
	return c, err
}
