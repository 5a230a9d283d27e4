// Package stinttest helps to test handlers with an engine. A handler can also be tested without
// one: called outside of a run, a durable call just does its work.
package stinttest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/store/postgres"
)

// New returns a client on a database in memory, which is closed when the test ends. It logs
// nothing unless opts has stint.WithLogger. In a testing/synctest bubble, a workflow that sleeps
// for a month takes milliseconds.
//
// If the environment variable STINT_DATABASE_URL has the URL of a PostgreSQL database, the client
// works there, in a schema of its own that is dropped when the test ends.
func New(t testing.TB, opts ...stint.ClientOption) *stint.Client {
	t.Helper()
	opts = append([]stint.ClientOption{stint.WithLogger(slog.New(slog.DiscardHandler))}, opts...)
	c, err := open(t, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Errorf("close the client: %v", err)
		}
	})
	return c
}

func open(t testing.TB, opts []stint.ClientOption) (*stint.Client, error) {
	url := os.Getenv("STINT_DATABASE_URL")
	if url == "" {
		return stint.Open(":memory:", opts...)
	}
	schema := postgres.Options{Schema: "stinttest_" + strings.ToLower(rand.Text())}
	s, err := postgres.Open(context.Background(), url, schema)
	if err != nil {
		return nil, fmt.Errorf("stinttest: the database of STINT_DATABASE_URL: %w", err)
	}
	t.Cleanup(func() {
		if err := postgres.Drop(context.Background(), url, schema); err != nil {
			t.Errorf("drop the schema: %v", err)
		}
	})
	c, err := stint.New(s, opts...)
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return c, nil
}

// Drain runs a worker until nothing is ready: every run has ended, or waits for a time, an event
// or a person. It returns ctx's error if ctx ends first.
func Drain(ctx context.Context, c *stint.Client, opts ...stint.WorkerOption) error {
	w, err := c.NewWorker(opts...)
	if err != nil {
		return err
	}
	work, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	var werr error
	wg.Go(func() { werr = w.Run(work) })
	err = settled(ctx, c)
	stop()
	wg.Wait()
	if err == nil {
		err = werr
	}
	return err
}

// Replay runs fn on a journal of Client.ExportJournal and fails the test if fn does not make the
// recorded durable calls: its deploy would block the run. No step of fn runs. Keep journals of
// real runs in testdata: of each path through the code, and of runs at each long wait.
//
// opts are the client's options that matter to a handler, such as WithCodec.
func Replay[In, Out any](t testing.TB, journal []byte, fn func(context.Context, In) (Out, error), opts ...stint.ClientOption) {
	t.Helper()
	if err := stint.ReplayJournal(t.Context(), journal, fn, opts...); err != nil {
		t.Errorf("stinttest: %v", err)
	}
}

// settled waits until no run is queued, executing or due.
func settled(ctx context.Context, c *stint.Client) error {
	pause := time.Millisecond
	tick := time.NewTimer(pause)
	defer tick.Stop()
	for {
		ready, err := anyReady(ctx, c)
		if err != nil || !ready {
			return err
		}
		select {
		case <-tick.C:
			pause = min(2*pause, 50*time.Millisecond)
			tick.Reset(pause)
		case <-ctx.Done():
			return fmt.Errorf("stinttest: drain: %w", context.Cause(ctx))
		}
	}
}

func anyReady(ctx context.Context, c *stint.Client) (bool, error) {
	now := time.Now()
	f := stint.RunFilter{
		States: []stint.State{stint.StateQueued, stint.StateRunning, stint.StateWaiting, stint.StateScheduled},
		Limit:  1000,
	}
	for {
		page, err := c.ListRuns(ctx, f)
		if err != nil {
			return false, err
		}
		for _, r := range page.Runs {
			if ready(r, now) {
				return true, nil
			}
		}
		if page.Next == "" {
			return false, nil
		}
		f.Cursor = page.Next
	}
}

func ready(r stint.RunInfo, now time.Time) bool {
	switch r.State {
	case stint.StateRunning:
		return !r.Workflow // a workflow's run is running as long as its tasks have not ended
	case stint.StateWaiting, stint.StateScheduled: // the engine's timer may be a moment behind ours
		return r.Scheduled.After(r.Created) && !r.Scheduled.After(now)
	default:
		return true
	}
}
