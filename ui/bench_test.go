package ui

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"testing"

	"github.com/stint-dev/stint"
)

// BenchmarkPages renders each page of a file with some runs.
func BenchmarkPages(b *testing.B) {
	c, err := stint.Open(b.TempDir()+"/bench.db", stint.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	task := stint.NewTask(c, "work", func(ctx context.Context, n int) (int, error) {
		if n%10 == 0 {
			return 0, stint.NonRetryable(fmt.Errorf("%d is no good", n))
		}
		return n, nil
	})
	w, err := c.NewWorker()
	if err != nil {
		b.Fatal(err)
	}
	ctx, stop := context.WithCancel(b.Context())
	done := make(chan error)
	go func() { done <- w.Run(ctx) }()
	ins := make([]int, 2000)
	for i := range ins {
		ins[i] = i
	}
	runs, err := task.EnqueueMany(b.Context(), ins)
	if err != nil {
		b.Fatal(err)
	}
	for _, r := range runs {
		r.Wait(b.Context())
	}
	stop()
	<-done
	h := &handler{c: c, slots: make(chan struct{}, maxRendering)}
	for _, path := range []string{"/", "/runs", "/runs?state=failed", "/runs/" + runs[0].ID(), "/tasks", "/queues", "/health"} {
		u, _ := url.Parse(path)
		name := u.Path
		if len(name) > 20 {
			name = "/runs/id"
		}
		b.Run(name+u.RawQuery, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := h.renderMain(b.Context(), u); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
