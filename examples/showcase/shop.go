package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/stint-dev/stint"
)

// An order is what customers send.
type order struct {
	ID     int      `json:"id"`
	Name   string   `json:"name"`
	Items  []string `json:"items"`
	Amount int      `json:"amount"` // cents
	Region string   `json:"region"`
}

// A file is a large input.
type file struct {
	Name string `json:"name"`
	Body string `json:"body"`
}

// A shop has the tasks.
type shop struct {
	c       *stint.Client
	charge  *stint.Task[order, string]
	mail    *stint.Task[string, string]
	resize  *stint.Task[string, string]
	catalog *stint.Task[file, int]
	export  *stint.Task[int, file]
	stock   *stint.Task[string, int]
	partner *stint.Task[int, string]
	feed    *stint.Task[int, int]
	risk    *stint.Task[int, string]
	geocode *stint.Task[order, string]
	audit   *stint.Task[int, int]
	legacy  *stint.Task[int, int]
	abroad  *stint.Task[order, string]
	reindex *stint.Task[string, int]
	chat    *stint.Task[string, string]
	fulfil  *stint.Task[order, int]
	refund  *stint.Task[order, string]
	publish *stint.Workflow[string]
	nightly *stint.Workflow[int]
}

func newShop(c *stint.Client) *shop {
	s := &shop{c: c}
	s.definePayments()
	s.defineFiles()
	s.definePartners()
	s.defineHeldUp()
	s.defineTimes()
	s.fulfil = stint.NewTask(c, "fulfil-order", fulfil)
	s.refund = stint.NewTask(c, "refund-order", refund)
	s.publish, s.nightly = newPublishSite(c), newNightlyBuild(c)
	return s
}

func (s *shop) definePayments() {
	s.charge = stint.NewTask(s.c, "charge-card", func(ctx context.Context, o order) (string, error) {
		log := stint.Logger(ctx).With("order", o.ID)
		log.Info("charging", "cents", o.Amount)
		info, _ := stint.Info(ctx)
		switch {
		case o.ID%9 == 4:
			log.Error("declined", "card", "4242")
			return "", fmt.Errorf("card of order %d declined: insufficient funds", o.ID)
		case o.ID%5 == 1 && info.Attempt < 3:
			log.Warn("the bank is busy")
			return "", fmt.Errorf("bank answered 503 after %d ms", 20+o.ID)
		}
		return fmt.Sprintf("receipt-%d", o.ID), nil
	}, stint.WithRetries(2), stint.WithRetryBackoff(1, 20*time.Millisecond), stint.WithRateLimit("payments", 1),
		stint.WithQueue("payments"))
	s.mail = stint.NewTask(s.c, "send-mail", func(ctx context.Context, to string) (string, error) {
		stint.Logger(ctx).Info("sending", "to", to)
		return "sent", nil
	}, stint.WithQueue("mail"))
	s.chat = stint.NewTask(s.c, "answer-question", func(ctx context.Context, question string) (string, error) {
		answer := "It depends on " + question + ": most orders leave on the day on which they come."
		for _, word := range strings.SplitAfter(answer, " ") {
			if err := stint.Stream(ctx, []byte(word)); err != nil {
				return "", err
			}
		}
		return answer, nil
	})
	s.risk = stint.NewTask(s.c, "score-risk", func(ctx context.Context, n int) (string, error) {
		if info, _ := stint.Info(ctx); info.Executions < 2 {
			return "", stint.Snooze(10 * time.Millisecond) // the model is being loaded
		}
		return "low", nil
	})
}

func (s *shop) defineFiles() {
	s.resize = stint.NewTask(s.c, "resize-image", func(ctx context.Context, name string) (string, error) {
		for i := range int64(10) {
			if err := stint.Progress(ctx, i+1, 10); err != nil {
				return "", err
			}
		}
		return "small-" + name, nil
	}, stint.WithSlotCost(4))
	s.catalog = stint.NewTask(s.c, "import-catalog", func(ctx context.Context, f file) (int, error) {
		lines := strings.Count(f.Body, "\n")
		for i := range 200 {
			stint.Logger(ctx).Debug("line imported", "line", i)
		}
		return lines, nil
	})
	s.export = stint.NewTask(s.c, "export-report", func(_ context.Context, year int) (file, error) {
		return file{fmt.Sprintf("report-%d.csv", year), strings.Repeat("2024;books;17\n", payload/14)}, nil
	})
	s.audit = stint.NewBatchTask(s.c, "audit", func(_ context.Context, ins []int) ([]int, error) { return ins, nil },
		stint.WithBatchSize(10), stint.WithBatchInterval(20*time.Millisecond))
}

const payload = 1 << 20 // bytes, a bit less than what the default bound lets pass

func (s *shop) definePartners() {
	s.stock = stint.NewTask(s.c, "sync-stock", func(context.Context, string) (int, error) { return 1, nil },
		stint.WithConcurrency(stint.Concurrency[string]{Key: func(warehouse string) string { return warehouse }, Max: 1,
			Strategy: stint.StrategyGroupRoundRobin}))
	s.partner = stint.NewTask(s.c, "call-partner", func(ctx context.Context, _ int) (string, error) {
		<-ctx.Done() // the partner does not answer
		return "", context.Cause(ctx)
	}, stint.WithTimeout(30*time.Millisecond))
	s.feed = stint.NewTask(s.c, "parse-feed", func(_ context.Context, n int) (int, error) {
		rows := make([]int, 3)
		return rows[n%5], nil // panics for some
	})
	s.geocode = stint.NewTask(s.c, "geocode", func(_ context.Context, o order) (string, error) { return o.Region, nil },
		stint.WithAffinity(stint.Affinity{Label: "region", Value: "eu"}))
	s.reindex = stint.NewTask(s.c, "reindex-search", func(context.Context, string) (int, error) { return 1, nil })
}

// defineHeldUp defines tasks whose runs wait for something that does not come.
func (s *shop) defineHeldUp() {
	s.legacy = stint.NewTask[int, int](s.c, "legacy-sync", nil) // no worker has a handler
	s.abroad = stint.NewTask(s.c, "ship-abroad", func(context.Context, order) (string, error) { return "", nil },
		stint.WithAffinity(stint.Affinity{Label: "region", Value: "asia"}))
}

// defineTimes defines what starts by time and by events.
func (s *shop) defineTimes() {
	stint.NewTask(s.c, "heartbeat", func(context.Context, struct{}) (string, error) { return "ok", nil }, stint.WithCron("@every 5s"))
	stint.NewTask(s.c, "clean-up", func(context.Context, struct{}) (int, error) { return 0, nil }, stint.WithCron("30 3 * * *"))
	stint.NewTask(s.c, "book-payment", func(_ context.Context, p payment) (int, error) { return p.Order, nil },
		stint.WithEvents("payment.*"))
}

// A payment is an event.
type payment struct {
	Order int  `json:"order"`
	OK    bool `json:"ok"`
}
