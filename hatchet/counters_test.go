package hatchet

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/stinttest"
)

// Counters have what has happened since the server began, in whole minutes, each once.
func TestCounters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := stinttest.New(t)
		task := stint.NewTask(c, "t", func(context.Context, int) (int, error) { return 0, nil })
		w, err := c.NewWorker()
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		worked := make(chan error, 1)
		go func() { worked <- w.Run(ctx) }()
		defer func() {
			stop()
			<-worked
		}()
		run := func() {
			t.Helper()
			if _, err := task.Run(t.Context(), 0); err != nil {
				t.Fatal(err)
			}
			time.Sleep(2 * time.Minute)
		}
		run() // before the server began
		k := &counters{until: time.Now()}
		for i := range int64(3) {
			for range 2 {
				sum, err := k.read(t.Context(), c, time.Now())
				if err != nil || sum.Succeeded != i || sum.Enqueued != i {
					t.Errorf("%d enqueued, %d succeeded, %v: want %d", sum.Enqueued, sum.Succeeded, err, i)
				}
			}
			run()
		}
	})
}
