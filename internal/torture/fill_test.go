//go:build unix

package main

import (
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/internal/torture/disk"
)

// The log's file is filled ahead with zeros. Where that fails, as on a disk that is almost full, it is as if nobody had tried: commits
// append, the client is healthy, and it is tried again.
func TestFillThatFails(t *testing.T) {
	for _, answer := range []disk.Answer{disk.Full, disk.IOError, disk.OK} {
		dir := t.TempDir()
		c, err := stint.Open(filepath.Join(dir, "fill.db"))
		if err != nil {
			t.Fatal(err)
		}
		task := stint.NewTask[int, int](c, "n", nil)
		var fills atomic.Int32
		stop := disk.Watch(dir, func(op disk.Op) disk.Answer {
			if op.Kind != disk.Write || op.File != "fill.db-wal" || strings.Trim(string(op.Data), "\x00") != "" {
				return disk.OK
			}
			fills.Add(1)
			return answer
		})
		enqueued := 0
		for ; fills.Load() < 5; enqueued++ {
			if _, err := task.Enqueue(t.Context(), enqueued); err != nil {
				t.Fatal(err)
			}
			if err := c.Healthy(); err != nil {
				t.Fatal(err)
			}
		}
		stop()
		if found, err := c.CountRuns(t.Context()); err != nil || found[stint.StateQueued] != enqueued {
			t.Errorf("%d enqueued, and there are %v, %v", enqueued, found, err)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
}
