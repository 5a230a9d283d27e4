package imports_test

import (
	"context"
	"crypto/rand"
	"database/sql"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/riverdriver/riversqlite"
	"github.com/riverqueue/river/rivermigrate"
	"github.com/stint-dev/stint"
	imports "github.com/stint-dev/stint/import"
)

type cleanup struct{}

func (cleanup) Kind() string { return "cleanup" }

// A mailer fails for one recipient.
type mailer struct{ river.WorkerDefaults[email] }

func (mailer) Work(_ context.Context, j *river.Job[email]) error {
	if j.Args.To == "fails" {
		return errNoMail
	}
	return nil
}

func (mailer) NextRetry(*river.Job[email]) time.Time { return time.Now().Add(time.Hour) }

func TestRiverOnFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "river.db")
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_txlock=immediate")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	testRiver(t, riversqlite.New(db), path, "", func(query string) error { _, err := db.Exec(query); return err })
}

func TestRiverOnServer(t *testing.T) {
	url := os.Getenv("STINT_DATABASE_URL")
	if url == "" {
		t.Skip("set STINT_DATABASE_URL to the URL of a PostgreSQL database")
	}
	ctx, schema := context.Background(), "river_"+strings.ToLower(rand.Text()[:12])
	pool, err := pgxpool.New(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	exec := func(query string) error { _, err := pool.Exec(ctx, query); return err }
	if err := exec("CREATE SCHEMA " + schema); err != nil {
		t.Fatal(err)
	}
	defer exec("DROP SCHEMA " + schema + " CASCADE")
	testRiver(t, riverpgxv5.New(pool), url, schema, exec)
}

// The jobs that River's own client inserted, worked and left become runs, once.
func testRiver[Tx any](t *testing.T, driver riverdriver.Driver[Tx], source, schema string, exec func(string) error) {
	ctx := t.Context()
	quiet := slog.New(slog.DiscardHandler)
	migrator, err := rivermigrate.New(driver, &rivermigrate.Config{Schema: schema, Logger: quiet})
	if err == nil {
		_, err = migrator.Migrate(ctx, rivermigrate.DirectionUp, nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	workers := river.NewWorkers()
	river.AddWorker(workers, mailer{})
	river.AddWorker(workers, river.WorkFunc(func(context.Context, *river.Job[cleanup]) error { return nil }))
	c, err := river.NewClient(driver, &river.Config{Schema: schema, Logger: quiet, Workers: workers,
		Queues: map[string]river.QueueConfig{"worked": {MaxWorkers: 2}}})
	if err != nil {
		t.Fatal(err)
	}
	insert := func(args river.JobArgs, opts *river.InsertOpts) {
		t.Helper()
		if _, err := c.Insert(ctx, args, opts); err != nil {
			t.Fatal(err)
		}
	}
	events, cancel := c.Subscribe(river.EventKindJobCompleted, river.EventKindJobFailed)
	defer cancel()
	insert(email{"fails"}, &river.InsertOpts{Queue: "worked"})
	insert(email{"done"}, &river.InsertOpts{Queue: "worked"})
	if err := c.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		<-events
	}
	if err := c.Stop(context.Background()); err != nil {
		t.Fatal(err)
	}
	later := time.Now().Add(time.Hour).Truncate(time.Second)
	insert(email{"ann"}, nil)
	insert(email{"bob"}, &river.InsertOpts{Queue: "slow", Priority: 3, ScheduledAt: later, Tags: []string{"vip"},
		Metadata: []byte(`{"tenant":"acme","n":1}`)})
	insert(email{"left"}, nil)
	insert(cleanup{}, nil)
	if schema != "" {
		schema += "."
	}
	open, err := imports.OpenRiver(ctx, source, strings.TrimSuffix(schema, "."))
	from := opened(t, open, err)
	insert(email{"held"}, &river.InsertOpts{Pending: true})
	plan, err := imports.Look(ctx, from, mapped, imports.Options{})
	if err != nil || plan.Problems() == nil || !strings.Contains(plan.Problems().Error(), "only River knows") {
		t.Errorf("plan with a job that is held: %+v, %v", plan, err)
	}
	if err := exec("DELETE FROM " + schema + "river_job WHERE state = 'pending'"); err != nil {
		t.Fatal(err)
	}
	err = exec("UPDATE " + schema + "river_job SET state = 'running' WHERE id = (SELECT max(id) - 1 FROM " + schema + "river_job)")
	if err != nil {
		t.Fatal(err)
	}
	checkRiver(t, from, later)
}

func checkRiver(t *testing.T, from imports.Source, later time.Time) {
	t.Helper()
	s := newStage(t)
	refuses(t, s, from, "cleanup")
	plan, err := imports.Look(t.Context(), from, mapped, imports.Options{})
	if err != nil || plan.Jobs != 3 || plan.Problems() == nil || !strings.Contains(plan.Problems().Error(), "being executed") {
		t.Errorf("plan with a job that is executed: %+v, %v", plan, err)
	}
	s.imported(t, from, imports.Options{Running: true}, 4, 0)
	s.imported(t, from, imports.Options{Running: true}, 0, 4)

	runs := s.byRecipient(t)
	ann, bob, fails := runs["ann"], runs["bob"], runs["fails"]
	if len(runs) != 4 || ann.Queue != "default" || ann.State != stint.StateQueued || ann.Priority != stint.PriorityDefault {
		t.Errorf("%d runs, of them %+v", len(runs), ann)
	}
	if bob.State != stint.StateScheduled || !bob.Scheduled.Equal(later) || bob.Queue != "patient" || bob.Priority != 0 ||
		bob.Metadata["tenant"] != "acme" || bob.Metadata["n"] != "1" || bob.Metadata["tag:vip"] != "true" ||
		!strings.HasPrefix(bob.Metadata["imported"], "river ") {
		t.Errorf("the scheduled job became %+v; want it at %v", bob, later)
	}
	if fails.State != stint.StateScheduled || fails.Metadata["attempts"] != "1 of 25" || fails.Scheduled.Before(later.Add(-10*time.Minute)) {
		t.Errorf("the job that failed once became %+v", fails)
	}
	s.works(t, "ann", "left")
}
