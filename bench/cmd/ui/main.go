// Command ui benchmarks the web page: how long pages take on a large file under load, and how much
// viewers slow the engine. One JSON line a case.
//
//	ui [-runs N] [-seconds N] [-viewers N]
package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/ui"
)

var (
	fRuns    = flag.Int("runs", 1_000_000, "finished runs in the file")
	fSeconds = flag.Int("seconds", 5, "of each measurement")
	fViewers = flag.Int("viewers", 10, "open pages")
	fRounds  = flag.Int("rounds", 7, "with viewers and without, in turn")
)

func main() {
	flag.Parse()
	if err := bench(); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

// A shop is a client under load, and its page.
type shop struct {
	c     *stint.Client
	task  *stint.Task[int, int]
	ended atomic.Int64
	url   string
}

func bench() error {
	dir, err := os.MkdirTemp("", "stint-ui-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	c, err := stint.Open(filepath.Join(dir, "bench.db"), stint.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		return err
	}
	defer c.Close()
	s := &shop{c: c}
	s.task = stint.NewTask(c, "work", func(ctx context.Context, n int) (int, error) {
		s.ended.Add(1)
		if n%1000 == 0 {
			return 0, stint.NonRetryable(fmt.Errorf("%d is no good", n))
		}
		return n, nil
	})
	w, err := c.NewWorker()
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(context.Background())
	var working sync.WaitGroup
	working.Go(func() { w.Run(ctx) })
	defer working.Wait()
	defer stop()
	if err := s.fill(ctx, *fRuns); err != nil {
		return err
	}
	server := httptest.NewServer(ui.Handler(c, ui.WithLocalAccess()))
	defer server.Close()
	s.url = server.URL
	assets(s.url)
	for range 4 { // producers keep a backlog
		working.Go(func() { s.produce(ctx) })
	}
	if err := s.viewers(ctx); err != nil {
		return err
	}
	return s.pages(ctx)
}

func (s *shop) fill(ctx context.Context, n int) error {
	ins := make([]int, 5000)
	for begun := 0; begun < n; begun += len(ins) {
		for i := range ins {
			ins[i] = begun + i + 1
		}
		if _, err := s.task.EnqueueMany(ctx, ins); err != nil {
			return err
		}
	}
	for s.ended.Load() < int64(n) {
		time.Sleep(100 * time.Millisecond)
	}
	return nil
}

func (s *shop) produce(ctx context.Context) {
	ins := make([]int, 200)
	for i := range ins {
		ins[i] = i + 1
	}
	for made := s.ended.Load(); ctx.Err() == nil; made += int64(len(ins)) {
		for made > s.ended.Load()+5000 && ctx.Err() == nil {
			time.Sleep(time.Millisecond)
		}
		s.task.EnqueueMany(ctx, ins)
	}
}

// rate returns how many runs end a second.
func (s *shop) rate() float64 {
	before, began := s.ended.Load(), time.Now()
	time.Sleep(time.Duration(*fSeconds) * time.Second)
	return float64(s.ended.Load()-before) / time.Since(began).Seconds()
}

// viewers compares the engine's throughput with and without open pages.
func (s *shop) viewers(ctx context.Context) error {
	s.rate() // warm
	var without, with, ratios []float64
	var updates atomic.Int64
	for range *fRounds {
		without = append(without, s.rate())
		open, end := context.WithCancel(ctx)
		var wg sync.WaitGroup
		for i := range *fViewers {
			wg.Go(func() { s.watch(open, []string{"/", "/runs", "/queues", "/tasks", "/health"}[i%5], &updates) })
		}
		with = append(with, s.rate())
		end()
		wg.Wait()
	}
	for i := range with { // in turns: the machine is faster at times
		ratios = append(ratios, with[i]/without[i])
	}
	emit(map[string]any{"case": "viewers", "viewers": *fViewers, "without": median(without), "with": median(with),
		"ratio": median(ratios), "all_without": without, "all_with": with,
		"updates_s": float64(updates.Load()) / float64(*fRounds**fSeconds)})
	return nil
}

// watch keeps a page open.
func (s *shop) watch(ctx context.Context, page string, updates *atomic.Int64) {
	r, err := http.NewRequestWithContext(ctx, "GET", s.url+"/live?url="+url.QueryEscape(page), nil)
	if err != nil {
		return
	}
	got, err := http.DefaultClient.Do(r)
	if err != nil {
		return
	}
	defer got.Body.Close()
	lines := bufio.NewScanner(got.Body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if strings.HasPrefix(lines.Text(), "event:") {
			updates.Add(1)
		}
	}
}

// pages measures each page while the engine is under full load.
func (s *shop) pages(ctx context.Context) error {
	page, err := s.c.ListRuns(ctx, stint.RunFilter{States: []stint.State{stint.StateFailed}, Limit: 1})
	if err != nil {
		return err
	}
	var all []float64
	for _, path := range []string{"/", "/?window=24h", "/?window=7d", "/runs", "/runs?state=failed", "/runs?state=failed&error=no+good",
		"/runs?task=none", "/runs?metadata=a%3Db", "/runs?limit_name=work&limit_key=a&state=queued",
		"/runs?state=succeeded&task=work&since=1h", "/runs/" + page.Runs[0].ID,
		"/tasks", "/tasks/work", "/queues", "/limits", "/workers", "/schedules", "/events", "/alerts", "/health",
		"/confirm?do=runs.delete&state=failed"} {
		var took []float64
		for range 60 {
			began := time.Now()
			got, err := http.Get(s.url + path)
			if err != nil {
				return err
			}
			io.Copy(io.Discard, got.Body)
			got.Body.Close()
			took = append(took, time.Since(began).Seconds()*1000)
			if got.StatusCode != 200 {
				return fmt.Errorf("%s: %s", path, got.Status)
			}
			time.Sleep(20 * time.Millisecond)
		}
		slices.Sort(took)
		all = append(all, took...)
		emit(map[string]any{"case": "page", "page": path, "p50_ms": took[30], "p95_ms": took[57]})
	}
	slices.Sort(all)
	emit(map[string]any{"case": "pages", "runs": *fRuns, "p50_ms": all[len(all)/2], "p95_ms": all[len(all)*95/100]})
	return nil
}

// assets adds up the sizes of the assets, which a browser fetches once.
func assets(base string) {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	for _, name := range []string{"style.css", "app.js", "idiomorph.js", "icon.svg"} {
		got, err := http.Get(base + "/assets/" + name)
		if err != nil {
			continue
		}
		io.Copy(z, got.Body)
		got.Body.Close()
	}
	z.Close()
	emit(map[string]any{"case": "assets", "gzipped_kib": float64(b.Len()) / 1024})
}

func median(xs []float64) float64 {
	sorted := slices.Sorted(slices.Values(xs))
	return sorted[len(sorted)/2]
}

func emit(v map[string]any) { json.NewEncoder(os.Stdout).Encode(v) }
