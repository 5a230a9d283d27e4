package main

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/stint-dev/stint/internal/torture/disk"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if becomeChild() {
		return
	}
	goleak.VerifyTestMain(m)
}

// TestAttacks is the short form of each attack.
func TestAttacks(t *testing.T) {
	for _, a := range attacks {
		t.Run(a.name, func(t *testing.T) {
			count := a.brief
			if testing.Short() {
				count = max(count/20, 2)
			}
			r := newRound(t.TempDir(), uint64(time.Now().UnixNano()), count, false)
			if err := r.err(a.run(t.Context(), r)); err != nil {
				t.Error(err)
			}
			t.Logf("%d %s; %q", r.faults, a.what, r.notes)
		})
	}
}

// A program that does not wait for the disk loses what it acknowledged, and the checks
// say so.
func TestChecksSeeLoss(t *testing.T) {
	r := newRound(t.TempDir(), 1, 0, false)
	dir := r.dir("normal")
	rec := disk.Record(dir)
	book := &ledger{at: rec.Len}
	if err := busyFor(t.Context(), filepath.Join(dir, "shop.db"), book, 200*time.Millisecond, true, r.rng); err != nil {
		t.Fatal(err)
	}
	ops, d := rec.Stop(), disk.NewDisk()
	for i := range 20 {
		d.Forward(ops, len(ops)/4+i*10)
		if err := r.image(t.Context(), d, len(ops)/4+i*10, book.acks, false); err != nil {
			t.Fatal(err)
		}
	}
	if r.verdict.Lost == 0 {
		t.Error("nothing was found to be lost")
	}
}
