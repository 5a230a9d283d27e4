package postgres

import (
	"errors"
	"testing"

	"github.com/stint-dev/stint/store"
)

// A store that only reads needs no more than SELECT, sees what others commit, and changes nothing.
func TestReadOnly(t *testing.T) {
	set := newTables(t)
	s := openStore(t, set)
	exec, as := role(t, set, "")
	exec("GRANT USAGE ON SCHEMA SCHEMA_NAME TO ROLE_NAME; GRANT SELECT ON ALL TABLES IN SCHEMA SCHEMA_NAME TO ROLE_NAME")
	r, err := Open(t.Context(), as, Options{Schema: set.Schema, ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	ctx := withinMinutes(t)
	before, err := r.Changed(ctx, 0)
	if err != nil {
		t.Fatal(err)
	}
	run := []store.NewRun{{Task: "t", Queue: "q", Input: []byte("1")}}
	made, err := s.Enqueue(ctx, s.Now(), run)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := r.Changed(ctx, before); err != nil || n <= before {
		t.Errorf("Changed: %d after %d, %v", n, before, err)
	}
	if got, err := r.Get(ctx, made[0].ID); err != nil || got.State != store.Queued {
		t.Errorf("Get: %v, %v", got, err)
	}
	if _, err := r.Facts(ctx); err != nil {
		t.Errorf("Facts: %v", err)
	}
	if problems, err := r.Check(ctx); err != nil || len(problems) > 0 {
		t.Errorf("Check: %v, %v", problems, err)
	}
	if err := r.Healthy(); err != nil {
		t.Errorf("Healthy: %v", err)
	}
	ended := make(chan store.Result, 1)
	go func() {
		res, err := r.Await(ctx, made[0].ID, store.Until{})
		if err != nil {
			t.Error(err)
		}
		ended <- res
	}()
	got, err := s.Claim(ctx, any1(1))
	if err != nil || len(got) != 1 {
		t.Fatalf("claimed %v, %v", got, err)
	}
	o := store.Outcome{ID: got[0].ID, Lease: got[0].Lease, To: store.Succeeded, Output: []byte("2"), Queue: "q", Task: "t"}
	if _, err := s.Finish(ctx, s.Now(), []store.Outcome{o}); err != nil {
		t.Fatal(err)
	}
	if res := receive(t, ended); res.State != store.Succeeded || string(res.Output) != "2" {
		t.Errorf("awaited %+v", res)
	}

	for what, change := range map[string]func() error{
		"Enqueue":    func() error { _, err := r.Enqueue(ctx, r.Now(), run); return err },
		"Claim":      func() error { _, err := r.Claim(ctx, any1(1)); return err },
		"Finish":     func() error { _, err := r.Finish(ctx, r.Now(), []store.Outcome{o}); return err },
		"Register":   func() error { _, err := r.Register(ctx, store.WorkerInfo{Name: "w"}); return err },
		"Unregister": func() error { return r.Unregister(ctx, 1) },
		"Recover":    func() error { _, err := r.Recover(ctx); return err },
		"Watch":      func() error { _, err := r.Watch(ctx, 1); return err },
		"Publish": func() error {
			_, err := r.Publish(ctx, r.Now(), []store.NewEvent{{Key: "k", Payload: []byte("1")}})
			return err
		},
		"Change":  func() error { return r.Change(ctx, r.Now(), &store.PauseChange{Queue: "q", Paused: true}) },
		"Mark":    func() error { return r.Change(ctx, r.Now(), &store.ErrorMark{Group: 1}) },
		"Expire":  func() error { _, err := r.Expire(ctx, r.Now(), r.Now()); return err },
		"BeginTx": func() error { _, err := r.BeginTx(ctx); return err },
		"Act": func() error {
			_, err := r.Act(ctx, r.Now(), store.Action{Kind: store.ActCancel}, store.Filter{})
			return err
		},
	} {
		if err := change(); !errors.Is(err, store.ErrReadOnly) {
			t.Errorf("%s: %v; want ErrReadOnly", what, err)
		}
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	var n int
	if err := dial(t, set).QueryRow(ctx, set.sql("SELECT count(*) FROM stint.processes")).Scan(&n); err != nil || n != 1 {
		t.Errorf("%d processes, %v; want 1: the other store's", n, err)
	}
}
