//go:build unix

package main

import (
	"context"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/internal/torture/disk"
)

// A bulk of 100,000 holds up nobody: it is committed in small parts, and what others enqueue
// meanwhile is committed between them. A commit is a sync of the log.
func TestLargeBulk(t *testing.T) {
	const n, mostPart, mostBytes = 100_000, 2_500, 4 << 20 // runs, and bytes of the log, a commit
	dir := t.TempDir()
	c, err := stint.Open(filepath.Join(dir, "bulk.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	task := stint.NewTask[int, int](c, "n", nil)
	if _, err := task.Enqueue(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	parts := commits(dir)
	single := besideBulk(t.Context(), t, task, n)
	sizes := parts()
	if largest := slices.Max(sizes); len(sizes) < n/mostPart || largest > mostBytes {
		t.Errorf("%d commits, the largest of %d bytes: want at least %d, of at most %d bytes", len(sizes), largest, n/mostPart, mostBytes)
	}
	if single == 0 {
		t.Error("nobody got in between")
	}
}

// commits counts commits, and the bytes that each writes into the log, until the function that
// it returns is called.
func commits(dir string) func() []int {
	rec := disk.Record(dir)
	return func() (sizes []int) {
		bytes := 0
		for _, op := range rec.Stop() {
			switch {
			case op.File != "bulk.db-wal":
			case op.Kind == disk.Write:
				bytes += len(op.Data)
			case op.Kind == disk.Sync && bytes > 0:
				sizes, bytes = append(sizes, bytes), 0
			}
		}
		return sizes
	}
}

// besideBulk enqueues runs one by one while a bulk of n is enqueued, and returns how many of
// them have IDs between those of the bulk.
func besideBulk(ctx context.Context, t *testing.T, task *stint.Task[int, int], n int) (between int) {
	var bulk []*stint.Run[int]
	done := make(chan error)
	go func() {
		var err error
		bulk, err = task.EnqueueMany(ctx, make([]int, n))
		done <- err
	}()
	var singles []string
	for {
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
			for _, id := range singles {
				if bulk[0].ID() < id && id < bulk[n-1].ID() {
					between++
				}
			}
			return between
		default:
		}
		r, err := task.Enqueue(ctx, 1)
		if err != nil {
			t.Fatal(err)
		}
		singles = append(singles, r.ID())
	}
}
