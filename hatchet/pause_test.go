package hatchet_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/hatchet"
	"github.com/stint-dev/stint/hatchet/internal/wire"
)

// workflowID returns the ID of a workflow in REST's paths.
func (g *gateway) workflowID(k *sdk, name string) string {
	g.t.Helper()
	var list struct {
		Rows []struct {
			Metadata struct{ ID string }
			Name     string
		}
	}
	g.rest("GET", "/api/v1/tenants/"+g.tenant(k)+"/workflows?name="+name, g.token, "", 200, &list)
	if len(list.Rows) == 0 || list.Rows[0].Name != name {
		g.t.Fatalf("workflows: %+v", list)
	}
	return list.Rows[0].Metadata.ID
}

// awaitState waits until a run is in the state.
func (g *gateway) awaitState(run string, want stint.State) {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(g.t.Context(), watchdog)
	defer cancel()
	for at := uint64(0); ; {
		info, err := g.c.GetRun(ctx, run)
		if err == nil && info.State == want {
			return
		}
		if at, err = g.c.Changed(ctx, at); err != nil {
			g.t.Fatalf("run is %v, want %v: %v", info.State, want, err)
		}
	}
}

// The runs of a paused workflow wait, those of others do not; when it goes on, so do they.
func TestPauseWorkflow(t *testing.T) {
	g := serve(t, hatchet.Options{})
	k := g.dial(g.token)
	k.define(t, "job", "other")
	w := k.work(t, "job", "other")
	path := "/api/v1/workflows/" + g.workflowID(k, "job")
	var got struct{ IsPaused bool }
	g.rest("PATCH", path, g.token, `{"pause":{"action":"pause","pausedWorkflowQueueTTL":"1h","pausedWorkflowCronRunQueueBehavior":"QUEUE"}}`, 200, &got)
	if !got.IsPaused {
		t.Error("the answer says that it is not paused")
	}
	run := k.trigger(t, "job", "{}")
	other := k.trigger(t, "other", "{}")
	if a := w.start(); a.TaskRunExternalId != other {
		t.Errorf("%v was started", a)
	}
	g.awaitState(run, stint.StateQueued)
	g.rest("PATCH", path, g.token, `{"pause":{"action":"unpause"}}`, 200, &got)
	if g.rest("GET", path, g.token, "", 200, &got); got.IsPaused {
		t.Error("it is paused")
	}
	w.complete(w.start(), "{}")
	g.awaitState(run, stint.StateSucceeded)
	for body, want := range map[string]int{`{}`: 501, `{"pause":{"action":"stop"}}`: 400, `{"pause":{"action":"pause"}}`: 400,
		`{"pause":{"action":"pause","pausedWorkflowQueueTTL":"1h","pausedWorkflowScheduledRunQueueBehavior":"WAIT"}}`: 400} {
		g.rest("PATCH", path, g.token, body, want, nil)
	}
}

// A run that waits in a paused workflow for longer than it may is canceled, also after a restart of the server.
func TestPauseTimeToLive(t *testing.T) {
	open := openDB(t)
	g := serveOn(t, open(), "127.0.0.1:0", hatchet.Options{})
	k := g.dial(g.token)
	must[*wire.PutWorkflowResponse](t)(k.PutWorkflow(t.Context(), &wire.PutWorkflowRequest{Name: "flow", Tasks: []*wire.TaskDefinition{
		job("a", nil), job("b", nil, "a")}}))
	g.rest("PATCH", "/api/v1/workflows/"+g.workflowID(k, "flow"), g.token, `{"pause":{"action":"pause","pausedWorkflowQueueTTL":"1s"}}`, 200, nil)
	g.stop()
	g = serveOn(t, open(), g.address, hatchet.Options{})
	run := g.dial(g.token).trigger(t, "flow", "{}")
	g.awaitState(run, stint.StateCanceled)
}

// A paused workflow drops its crons and schedules if that was asked, and its crons go on when it does.
func TestPauseDrops(t *testing.T) {
	g := serve(t, hatchet.Options{})
	k := g.dial(g.token)
	must[*wire.PutWorkflowResponse](t)(k.PutWorkflow(t.Context(), &wire.PutWorkflowRequest{Name: "job", CronTriggers: []string{"* * * * * *"},
		Tasks: []*wire.TaskDefinition{{ReadableId: "job", Action: "job:job"}}}))
	path := "/api/v1/workflows/" + g.workflowID(k, "job")
	g.rest("PATCH", path, g.token, `{"pause":{"action":"pause","pausedWorkflowQueueTTL":"1h",
		"pausedWorkflowCronRunQueueBehavior":"DROP","pausedWorkflowScheduledRunQueueBehavior":"DROP"}}`, 200, nil)
	g.rest("POST", "/api/v1/tenants/"+g.tenant(k)+"/workflows/job/crons", g.token, `{"cronName":"late","cronExpression":"* * * * * *"}`, 200, nil)
	crons := must[[]stint.CronInfo](t)(g.c.ListCrons(t.Context()))
	if len(crons) != 2 || !crons[0].Paused || !crons[1].Paused {
		t.Errorf("crons: %+v", crons)
	}
	soon := must[*wire.ScheduleWorkflowResponse](t)(k.ScheduleWorkflow(t.Context(), &wire.ScheduleWorkflowRequest{Name: "job", Input: "{}",
		Schedules: []*timestamppb.Timestamp{timestamppb.New(time.Now().Add(500 * time.Millisecond))}}))
	if _, err := g.c.GetRun(t.Context(), soon.ScheduledWorkflows[0].Id); !errors.Is(err, stint.ErrNotFound) {
		t.Errorf("a schedule that is about to start: %v", err)
	}
	r := must[*wire.ScheduleWorkflowResponse](t)(k.ScheduleWorkflow(t.Context(), &wire.ScheduleWorkflowRequest{Name: "job", Input: "{}",
		Schedules: []*timestamppb.Timestamp{timestamppb.New(time.Now().Add(5 * time.Second))}}))
	ctx, cancel := context.WithTimeout(t.Context(), watchdog)
	defer cancel()
	for at := uint64(0); ; {
		if _, err := g.c.GetRun(ctx, r.ScheduledWorkflows[0].Id); err != nil {
			break // it is gone
		}
		var err error
		if at, err = g.c.Changed(ctx, at); err != nil {
			t.Fatal(err)
		}
	}
	g.rest("PATCH", path, g.token, `{"pause":{"action":"unpause"}}`, 200, nil)
	for _, c := range must[[]stint.CronInfo](t)(g.c.ListCrons(t.Context())) {
		if c.Paused {
			t.Errorf("cron %s is paused", c.Name)
		}
	}
}

// A workflow that drops its crons drops those that it gets while it is paused too: those of a new definition, and those of the server's
// program. What they start before they are paused does not execute. Crons go on in a pause that queues.
func TestPauseDropsNewCrons(t *testing.T) {
	g := serve(t, hatchet.Options{})
	k := g.dial(g.token)
	put := func(crons ...string) {
		t.Helper()
		must[*wire.PutWorkflowResponse](t)(k.PutWorkflow(t.Context(), &wire.PutWorkflowRequest{Name: "flow", CronTriggers: crons,
			Tasks: []*wire.TaskDefinition{job("a", nil), job("b", nil, "a")}}))
	}
	put()
	path := "/api/v1/workflows/" + g.workflowID(k, "flow")
	pause := func(crons string) {
		g.rest("PATCH", path, g.token, `{"pause":{"action":"pause","pausedWorkflowQueueTTL":"1h","pausedWorkflowCronRunQueueBehavior":"`+crons+`"}}`,
			200, nil)
	}
	pause("DROP")
	put("0 0 1 1 *")
	if crons := must[[]stint.CronInfo](t)(g.c.ListCrons(t.Context())); len(crons) != 1 || !crons[0].Paused {
		t.Errorf("crons of the definition: %+v", crons)
	}
	kept := k.trigger(t, "flow", "{}")
	if err := g.c.CronJSON(t.Context(), "flow", "program", "0 0 1 1 *", []byte("{}")); err != nil {
		t.Fatal(err)
	}
	tick := must[string](t)(g.c.TriggerCron(t.Context(), "program"))
	ctx, cancel := context.WithTimeout(t.Context(), watchdog)
	defer cancel()
	for at := uint64(0); ; {
		_, err := g.c.GetRun(ctx, tick)
		paused := !slices.ContainsFunc(must[[]stint.CronInfo](t)(g.c.ListCrons(ctx)), func(c stint.CronInfo) bool { return !c.Paused })
		if errors.Is(err, stint.ErrNotFound) && paused {
			break
		}
		if at, err = g.c.Changed(ctx, at); err != nil {
			t.Fatal(err)
		}
	}
	pause("QUEUE")
	for _, c := range must[[]stint.CronInfo](t)(g.c.ListCrons(t.Context())) {
		if c.Paused {
			t.Errorf("cron %s is paused", c.Name)
		}
	}
	unpause := func() { g.rest("PATCH", path, g.token, `{"pause":{"action":"unpause"}}`, 200, nil) }
	queued := must[string](t)(g.c.TriggerCron(t.Context(), "program"))
	unpause()
	pause("DROP")
	last := must[string](t)(g.c.TriggerCron(t.Context(), "program"))
	unpause()
	if _, err := g.c.GetRun(t.Context(), last); !errors.Is(err, stint.ErrNotFound) {
		t.Errorf("what a cron started is there when the workflow goes on: %v", err)
	}
	for _, id := range []string{kept, queued} {
		must[*stint.RunInfo](t)(g.c.GetRun(t.Context(), id))
	}
}

// A worker that is paused before it listens takes no runs when it does, nor after a restart of the server, until the pause ends.
func TestPauseOfSilentWorker(t *testing.T) {
	open := openDB(t)
	g := serveOn(t, open(), "127.0.0.1:0", hatchet.Options{})
	k := g.dial(g.token)
	k.define(t, "job", "other")
	answer := must[*wire.RegisterResponse](t)(k.Register(t.Context(), &wire.RegisterRequest{WorkerName: "silent", Actions: []string{"job:job"}}))
	path := "/api/v1/workers/" + answer.WorkerId
	g.rest("PATCH", path, g.token, `{"isPaused":true}`, 200, nil)
	w := &fakeWorker{k: k, t: t, id: answer.WorkerId}
	w.listen()
	run := k.trigger(t, "job", "{}")
	worksOther := func() {
		t.Helper()
		w := k.work(t, "other")
		k.trigger(t, "other", "{}")
		w.complete(w.start(), "{}")
	}
	worksOther()
	g.awaitState(run, stint.StateQueued)
	address := g.address
	g.stop()
	g = serveOn(t, open(), address, hatchet.Options{})
	k = g.dial(g.token)
	w = &fakeWorker{k: k, t: t, id: answer.WorkerId}
	w.listen()
	worksOther()
	g.awaitState(run, stint.StateQueued)
	g.rest("PATCH", path, g.token, `{"isPaused":false}`, 200, nil)
	w.complete(w.start(), "{}")
	g.awaitState(run, stint.StateSucceeded)
}
