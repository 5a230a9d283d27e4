package stint_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stint-dev/stint"
)

// Pages are newest first, have no gaps, and repeat nothing.
func TestListRuns(t *testing.T) {
	c := opened(t)
	a := stint.NewTask[int, int](c, "a", nil)
	b := stint.NewTask[int, int](c, "b", nil)
	var want []string
	for i := range 25 {
		task, meta := a, map[string]string{"tenant": "x"}
		if i%2 == 1 {
			task, meta = b, map[string]string{"tenant": "y"}
		}
		r := enqueue(t, task, i, stint.WithMetadata(meta))
		if i%2 == 0 {
			want = append([]string{r.ID()}, want...)
		}
	}
	for name, f := range map[string]stint.RunFilter{
		"by task":     {Tasks: []string{"a"}, Limit: 4},
		"by metadata": {Metadata: map[string]string{"tenant": "x"}, Limit: 5},
	} {
		var got []string
		for {
			page := listRuns(t, c, f)
			if len(page.Runs) > f.Limit {
				t.Fatalf("%s: a page of %d, want at most %d", name, len(page.Runs), f.Limit)
			}
			for _, r := range page.Runs {
				got = append(got, r.ID)
			}
			if page.Next == "" {
				break
			}
			f.Cursor = page.Next
		}
		if len(got) != len(want) {
			t.Fatalf("%s: %d runs, want %d", name, len(got), len(want))
		}
		for i := range got {
			if got[i] != want[i] {
				t.Fatalf("%s: place %d has %s, want %s", name, i, got[i], want[i])
			}
		}
	}
}

// A replay is a new attempt of the same run, with the same input.
func TestReplay(t *testing.T) {
	c := opened(t)
	broken := true
	task := stint.NewTask(c, "fix", func(_ context.Context, n int) (int, error) {
		if broken {
			return 0, errors.New("broken")
		}
		return n + 1, nil
	})
	run := enqueue(t, task, 41)
	stop := working(t, c)
	if _, err := run.Wait(t.Context()); err == nil {
		t.Fatal("did not fail")
	}
	stop()
	broken = false
	if n, err := c.ReplayRuns(t.Context(), stint.RunFilter{States: []stint.State{stint.StateFailed}}); n != 1 || err != nil {
		t.Fatalf("ReplayRuns = %d, %v", n, err)
	}
	working(t, c)
	if got, err := run.Wait(t.Context()); err != nil || got != 42 {
		t.Errorf("Wait = %d, %v", got, err)
	}
	if info := infoOf(t, run); info.Attempt != 2 { // it goes on counting
		t.Errorf("attempt %d, want 2", info.Attempt)
	}
}

// What has not ended is not deleted; what is deleted is gone.
func TestDeleteRuns(t *testing.T) {
	c := opened(t)
	task := stint.NewTask(c, "double", double)
	stop := working(t, c)
	done := enqueue(t, task, 1)
	output(t, done)
	stop()
	queued := enqueue(t, task, 2)
	if n, err := c.DeleteRuns(t.Context(), stint.RunFilter{Tasks: []string{"double"}}); n != 1 || err != nil {
		t.Fatalf("DeleteRuns = %d, %v", n, err)
	}
	if _, err := done.Info(t.Context()); !errors.Is(err, stint.ErrNotFound) {
		t.Errorf("Info of the deleted run: %v", err)
	}
	if _, err := done.Wait(t.Context()); !errors.Is(err, stint.ErrNotFound) {
		t.Errorf("Wait of the deleted run: %v", err)
	}
	infoOf(t, queued)
}

// A handler that waited for a child long ago runs again from the top, and reads its result again.
func TestRetentionOfChildren(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := openedAt(t, ":memory:", stint.WithRetention(time.Hour))
		charge := stint.NewTask(c, "charge", func(_ context.Context, n int) (int, error) { return n, nil })
		subscription := stint.NewTask(c, "subscription", func(ctx context.Context, n int) (int, error) {
			sum := 0
			for range 3 {
				charged, err := charge.Run(ctx, n)
				if err != nil {
					return 0, err
				}
				sum += charged
				if err := stint.Sleep(ctx, 5*time.Hour); err != nil {
					return 0, err
				}
			}
			return sum, nil
		})
		working(t, c)
		run := enqueue(t, subscription, 7)
		time.Sleep(9 * time.Hour)
		if n, err := c.DeleteRuns(t.Context(), stint.RunFilter{Tasks: []string{"charge"}}); n != 0 || err != nil {
			t.Errorf("deleted %d, %v: want none of those whose parent has not ended", n, err)
		}
		time.Sleep(7 * time.Hour)
		if info := infoOf(t, run); info.State != stint.StateSucceeded || string(info.Output) != "21" {
			t.Fatalf("%v %s %s", info.State, info.Output, info.Error)
		}
		time.Sleep(2 * time.Hour)
		if all := listRuns(t, c, stint.RunFilter{}).Runs; len(all) != 0 {
			t.Errorf("%d runs are kept after the parent", len(all))
		}
	})
}

// Runs are deleted when their retention is over, failed ones three times as late.
func TestRetention(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := openedAt(t, ":memory:", stint.WithRetention(24*time.Hour))
		good := stint.NewTask(c, "double", double)
		bad := stint.NewTask(c, "bad", func(context.Context, int) (int, error) { return 0, errors.New("no") })
		stop := working(t, c)
		a := enqueue(t, good, 1)
		b := enqueue(t, bad, 1)
		a.Wait(t.Context())
		b.Wait(t.Context())
		stop()
		kept := func() (n int) {
			for _, id := range []string{a.ID(), b.ID()} {
				if _, err := c.GetRun(t.Context(), id); err == nil {
					n++
				}
			}
			return n
		}
		for _, step := range []struct {
			wait time.Duration
			want int
		}{{23 * time.Hour, 2}, {2 * time.Hour, 1}, {46 * time.Hour, 1}, {2 * time.Hour, 0}} {
			time.Sleep(step.wait)
			synctest.Wait()
			if n := kept(); n != step.want {
				t.Errorf("after %v more: %d kept, want %d", step.wait, n, step.want)
			}
		}
	})
}

// A short retention is kept soon, not within the hour.
func TestShortRetention(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := openedAt(t, ":memory:", stint.WithRetention(20*time.Second))
		task := stint.NewTask(c, "t", func(_ context.Context, n int) (int, error) { return n, nil })
		working(t, c)
		runTask(t, task, 1)
		for _, want := range []int{1, 0} {
			if page := listRuns(t, c, stint.RunFilter{}); len(page.Runs) != want {
				t.Errorf("%d runs, want %d", len(page.Runs), want)
			}
			time.Sleep(23 * time.Second)
		}
	})
}
