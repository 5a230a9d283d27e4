package browser

import (
	"context"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/performance"
	"github.com/chromedp/chromedp"
	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/ui"
)

// A list holds still under the pointer: what is new is counted beside it, and shown when the pointer leaves.
func TestListHoldsStill(t *testing.T) {
	d, base := served(t)
	b := opened(t, 1440, "light")
	b.do(t, chromedp.Navigate(base+"/runs"), chromedp.WaitReady("main h1"))
	appears(t, b, connected)
	const first = `document.querySelector("main tbody tr[data-url]").id`
	before := eval[string](t, b, first)
	at := eval[[]float64](t, b, `(({ left, top, height }) => [left + 200, top + height / 2])(document.querySelector("main tbody tr[data-url]").getBoundingClientRect())`)
	b.do(t, input.DispatchMouseEvent(input.MouseMoved, at[0], at[1]))
	appears(t, b, `document.querySelector("main tbody").matches(":hover")`)
	for n := 1; n <= 2; n++ {
		if _, err := d.mail.Enqueue(t.Context(), letter{To: "still@example.org"}); err != nil {
			t.Fatal(err)
		}
		appears(t, b, fmt.Sprintf(`document.getElementById("held").textContent == "%d new, show" && !document.getElementById("held").hidden`, n))
		if now := eval[string](t, b, first); now != before {
			t.Fatalf("the row under the pointer is %s now, was %s", now, before)
		}
	}
	b.do(t, input.DispatchMouseEvent(input.MouseMoved, at[0], 5))
	appears(t, b, fmt.Sprintf(`%s != %q && document.getElementById("held").hidden`, first, before))
}

// A live list costs its viewer little, however much happens: under 40 KiB/s, and a few percent of the browser's thread.
func TestLiveCost(t *testing.T) {
	c, err := stint.Open(filepath.Join(t.TempDir(), "busy.db"), stint.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		t.Fatal(err)
	}
	task := stint.NewTask(c, "resize-images", func(_ context.Context, l letter) (string, error) { return "sent to " + l.To, nil })
	w, err := c.NewWorker(stint.WithSlots(50))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	stopped := make(chan struct{})
	go func() { defer close(stopped); w.Run(ctx) }()
	t.Cleanup(func() { stop(); <-stopped; c.Close() })
	server := httptest.NewServer(ui.Handler(c, ui.WithLocalAccess()))
	t.Cleanup(server.Close)
	for _, rate := range []int{10, 1000} {
		b := opened(t, 1440, "light")
		var received atomic.Int64
		chromedp.ListenTarget(b.Context, func(ev any) {
			if e, ok := ev.(*network.EventDataReceived); ok {
				received.Add(e.EncodedDataLength)
			}
		})
		b.do(t, network.Enable(), performance.Enable().WithTimeDomain(performance.EnableTimeDomainThreadTicks),
			chromedp.Navigate(server.URL+"/runs"), chromedp.WaitReady("main h1"))
		appears(t, b, connected)
		produce := func(seconds int) (runs int) {
			tick := time.NewTicker(100 * time.Millisecond)
			defer tick.Stop()
			for range 10 * seconds {
				<-tick.C
				inputs := make([]letter, max(rate/10, 1))
				for i := range inputs {
					inputs[i] = letter{To: fmt.Sprintf("reader-%d@example.org", runs+i)}
				}
				if _, err := task.EnqueueMany(t.Context(), inputs); err != nil {
					t.Fatal(err)
				}
				runs += len(inputs)
			}
			return runs
		}
		produce(3) // the list is full, and what a quiet time allows is used up
		good := false
		for range 3 { // a collection of garbage may fall into one
			const clock = "performance.now() / 1000" // shares of the browser's own time: a busy machine has less of both
			began, bytes, work := eval[float64](t, b, clock), received.Load(), threadTime(t, b)
			runs := produce(10)
			took := eval[float64](t, b, clock) - began
			kib, share := float64(received.Load()-bytes)/1024/took, (threadTime(t, b)-work)/took
			t.Logf("%.0f runs/s: %.1f KiB/s, %.1f%% of the thread", float64(runs)/took, kib, share*100)
			if good = kib > 0 && kib <= 40 && share <= 3*0.05; good { // three times: the figure is of this machine's speed
				break
			}
		}
		if !good {
			t.Errorf("at %d runs/s: want at most 40 KiB/s and 15%% of the browser's thread", rate)
		}
	}
}

// threadTime returns the CPU time of the page's main thread, in seconds.
func threadTime(t *testing.T, b *browser) (seconds float64) {
	t.Helper()
	b.do(t, chromedp.ActionFunc(func(ctx context.Context) error {
		all, err := performance.GetMetrics().Do(ctx)
		for _, m := range all {
			if m.Name == "TaskDuration" {
				seconds = m.Value
			}
		}
		return err
	}))
	return seconds
}
