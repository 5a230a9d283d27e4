package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// pickup measures a run by itself: from the call until its task begins, and until the result is there.
func (b *bench) pickup(ctx context.Context) (figures, error) {
	const warm, samples = 20, 200
	b.forgetStarts()
	var begins, results []time.Duration
	for i := range warm + samples {
		called := time.Now()
		done, err := waitFor(b.noop.RunNoWait(ctx, newInput(i)))
		if err != nil {
			return nil, err
		}
		began := <-b.starts
		if err := done(); err != nil {
			return nil, err
		}
		if i >= warm {
			begins, results = append(begins, began), append(results, time.Since(called))
		}
		select {
		case <-time.After(50*time.Millisecond - time.Since(called)):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return figures{"p50_ms": percentile(begins, 50), "p99_ms": percentile(begins, 99), "result_p50_ms": percentile(results, 50),
		"result_p99_ms": percentile(results, 99)}, nil
}

// forgetStarts drops the starts of runs of earlier cases.
func (b *bench) forgetStarts() {
	for len(b.starts) > 0 {
		<-b.starts
	}
}

// drain measures runs that are started in bulk, from the first call to the last result.
func (b *bench) drain(context.Context) (figures, error) {
	const bulk = 1000
	began := time.Now()
	var all []wait
	for n := b.runs; n > 0; n -= bulk {
		waits, err := b.bulk(b.noop, min(n, bulk))
		if err != nil {
			return nil, err
		}
		all = append(all, waits...)
	}
	started := time.Since(began)
	err := together(len(all), len(all), func(i int) error { return all[i]() })
	took := time.Since(began)
	b.forgetStarts()
	return figures{"runs": b.runs, "enqueue_s": started.Seconds(), "per_s": perSecond(b.runs, took)}, err
}

// enqueue measures calls that start runs which nobody works.
func (b *bench) enqueue(ctx context.Context) (figures, error) {
	f := figures{}
	for _, c := range []struct {
		name      string
		runs, at1 int
	}{{"one_per_s", 500, 1}, {"by_16_per_s", 2000, 16}} {
		began := time.Now()
		err := together(c.runs, c.at1, func(i int) error { _, err := b.idle.RunNoWait(ctx, newInput(i)); return err })
		if err != nil {
			return nil, err
		}
		f[c.name] = perSecond(c.runs, time.Since(began))
	}
	began := time.Now()
	for range 5 {
		if _, err := b.bulk(b.idle, 1000); err != nil {
			return nil, err
		}
	}
	f["bulk_per_s"] = perSecond(5000, time.Since(began))
	return f, nil
}

func (b *bench) dags(ctx context.Context) (figures, error) {
	return inFlight(func(i int) (wait, error) { return waitFor(b.chain.RunNoWait(ctx, newInput(i))) })
}

func (b *bench) durables(ctx context.Context) (figures, error) {
	return inFlight(func(i int) (wait, error) { return waitFor(b.durable.RunNoWait(ctx, newInput(i))) })
}

// inFlight measures runs of which 50 are under way at a time.
func inFlight(start func(i int) (wait, error)) (figures, error) {
	const runs, atOnce = 400, 50
	took := make([]time.Duration, runs)
	began := time.Now()
	err := together(runs, atOnce, func(i int) error {
		called := time.Now()
		done, err := start(i)
		if err == nil {
			err = done()
		}
		took[i] = time.Since(called)
		return err
	})
	return figures{"runs": runs, "per_s": perSecond(runs, time.Since(began)),
		"p50_ms": percentile(took, 50), "p99_ms": percentile(took, 99),
		"max_ms": percentile(took, 100)}, err
}

// together calls do for each of n numbers, so many at once.
func together(n, atOnce int, do func(i int) error) error {
	var wg sync.WaitGroup
	next, errs := make(chan int), make([]error, n)
	for range min(n, atOnce) {
		wg.Go(func() {
			for i := range next {
				errs[i] = do(i)
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	wg.Wait()
	return errors.Join(errs...)
}

func perSecond(n int, d time.Duration) float64 { return float64(n) / d.Seconds() }

// percentile returns a percentile in milliseconds.
func percentile(d []time.Duration, p int) float64 {
	s := slices.Sorted(slices.Values(d))
	return float64(s[(len(s)-1)*p/100].Microseconds()) / 1000
}

// kill measures how long after a worker's kill -9 another one begins its task again.
func (b *bench) kill(ctx context.Context) (figures, error) {
	if b.server == nil {
		return nil, errors.New("it needs a server of the program's own")
	}
	var victims [2]*child
	for i := range victims {
		v, err := startChild(b.options, "victim")
		if err != nil {
			return nil, err
		}
		defer v.kill()
		victims[i] = v
		if err := v.awaitReady(); err != nil {
			return nil, err
		}
	}
	run, err := b.legacy.Admin().RunWorkflow("bench-victim", newInput(0))
	if err != nil {
		return nil, err
	}
	first, other := victims[0], victims[1]
	select {
	case <-first.began:
	case <-other.began:
		first, other = other, first
	}
	killed := time.Now()
	first.kill()
	select {
	case <-other.began:
	case <-time.After(2 * time.Minute):
		return nil, errors.New("no other worker got the run")
	}
	took := time.Since(killed)
	return figures{"again_s": took.Seconds()}, b.cancel(ctx, run.RunId())
}

// restart kills the server while it has many runs, starts it again, and measures how long after that all have ended. The
// program does nothing about it: it is for the SDK to go on.
func (b *bench) restart(context.Context) (figures, error) {
	if b.server == nil {
		return nil, errors.New("it needs a server of the program's own")
	}
	waits, err := b.bulk(b.noop, 1000)
	if err != nil {
		return nil, err
	}
	for range len(waits) / 4 {
		<-b.starts
	}
	killed := time.Now()
	if err := b.server.cmd.Process.Kill(); err != nil {
		return nil, err
	}
	b.server.cmd.Wait()
	if err := b.server.start(); err != nil {
		return nil, err
	}
	err = together(len(waits), len(waits), func(i int) error { return waits[i]() })
	return figures{"runs": len(waits), "all_s": time.Since(killed).Seconds()}, err
}

// crowd measures the server while workers are connected that have nothing to do.
func (b *bench) crowd(ctx context.Context) (figures, error) {
	if b.server == nil {
		return nil, errors.New("it needs a server of the program's own")
	}
	c, err := startChild(b.options, "crowd")
	if err != nil {
		return nil, err
	}
	defer c.kill()
	if err := c.awaitReady(); err != nil {
		return nil, err
	}
	const settle, span = 10 * time.Second, 30 * time.Second
	if err := pause(ctx, settle); err != nil {
		return nil, err
	}
	before, err := b.server.cpu()
	if err != nil {
		return nil, err
	}
	if err := pause(ctx, span); err != nil {
		return nil, err
	}
	after, err := b.server.cpu()
	if err != nil {
		return nil, err
	}
	rss, err := b.server.rss()
	return figures{"workers": b.workers, "cpu_percent": 100 * (after - before).Seconds() / span.Seconds(), "rss_mib": rss}, err
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return fmt.Errorf("interrupted: %w", ctx.Err())
	}
}
