package hatchet_test

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"syscall"
	"testing"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/hatchet/internal/wire"
)

// How many there are when the server is killed. Each worker has two streams.
const (
	killedRuns    = 1_000
	killedWorkers = 20
	killedOthers  = 80 // streams of results, and as many of events
)

// The server's process is killed while 1,000 runs are executed and 200 streams are open, and is started again. Programs go on
// by opening their streams again; what was acknowledged is not lost, and each run has one result.
func TestServerKilled(t *testing.T) {
	d := newDatabase(t)
	p := startProcess(t, d)
	k := &killing{fleet: newFleet(t, p.address, p.token), early: make(chan struct{}), late: make(chan struct{}), waits: map[string]bool{}}
	runs, durables := k.begin()
	k.until("all runs execute, and durable tasks wait", func() bool {
		return len(k.began) == len(runs)+len(durables) && len(k.waits) == len(durables)
	})
	var producing sync.WaitGroup
	produced := []string(nil)
	producing.Go(func() { produced = k.produce() })
	close(k.early)
	k.publish(durables[:len(durables)/2])
	k.until("many results are acknowledged", func() bool { return len(k.acked) >= killedRuns/10 })

	k.failed.Store(true)
	p.end(syscall.SIGKILL)
	p.start()
	close(k.late)
	k.publish(durables[len(durables)/2:])
	producing.Wait()
	k.wg.Go(func() { k.awaitResults(k.dial(), produced) })
	all := append(append(runs, durables...), produced...)
	k.until("all runs have ended", func() bool { return len(k.results) == len(all) && k.hungUp == killedOthers })
	k.stop()
	k.wg.Wait()
	p.end(syscall.SIGTERM)
	k.check(must[*stint.Client](t)(d.open(context.Background())), all)
}

// A killing is a fleet whose server is killed.
type killing struct {
	*fleet
	early, late chan struct{} // closed when the runs that end before, and those that end after the kill, shall end

	// Guarded by mu.
	waits  map[string]bool // durable runs that wait, as was acknowledged
	hungUp int             // streams of events that have ended
}

// begin starts the workers, the runs and those who wait for them.
func (k *killing) begin() (runs, durables []string) {
	c := k.dial()
	c.define(k.t, "job")
	must[*wire.PutWorkflowResponse](k.t)(c.PutWorkflow(k.ctx, &wire.PutWorkflowRequest{Name: "long", Tasks: []*wire.TaskDefinition{
		{ReadableId: "long", Action: "long:long", IsDurable: true, SlotRequests: map[string]int32{"durable": 1}}}}))
	for i := range killedWorkers {
		k.work(&wire.RegisterRequest{WorkerName: fmt.Sprint("worker-", i), Actions: []string{"job:job", "long:long"},
			SlotConfig: map[string]int32{"default": killedRuns / killedWorkers, "durable": 1}}, k.execute)
	}
	for range killedRuns / 100 {
		bulk := &wire.BulkTriggerWorkflowRequest{}
		for range 100 {
			bulk.Workflows = append(bulk.Workflows, &wire.TriggerWorkflowRequest{Name: "job", Input: fmt.Sprintf(`{"i":%d}`, len(runs)+len(bulk.Workflows))})
		}
		runs = append(runs, must[*wire.BulkTriggerWorkflowResponse](k.t)(c.BulkTriggerWorkflow(k.ctx, bulk)).WorkflowRunIds...)
	}
	for range killedWorkers {
		durables = append(durables, c.trigger(k.t, "long", "{}"))
	}
	for i := range killedOthers {
		if i%10 == 0 {
			c = k.dial()
		}
		part := len(runs) / killedOthers
		c := c // a later connection is not for these
		mine := append([]string{durables[i%len(durables)]}, runs[i*part:]...)
		if i < killedOthers-1 {
			mine = mine[:part+1]
		}
		k.wg.Go(func() { k.awaitResults(c, mine) })
		k.wg.Go(func() {
			k.awaitEvents(c, runs[len(runs)-1-i])
			k.note(func() { k.hungUp++ })
		})
	}
	return runs, durables
}

// execute does what a worker does of a run.
func (k *killing) execute(w *steadyWorker, a *wire.AssignedAction) {
	w.report(a, wire.StepEventType_STEP_EVENT_STARTED, "")
	if a.ActionId == "long:long" {
		w.durable.runDurable(a, func() { k.note(func() { k.waits[a.TaskRunExternalId] = true }) })
		return
	}
	var in struct{ Input struct{ I int } }
	if err := json.Unmarshal([]byte(a.ActionPayload), &in); err != nil {
		k.t.Error(err)
	}
	shall := k.early
	if in.Input.I >= killedRuns/2 {
		shall = k.late
	}
	select {
	case <-shall:
		w.complete(a, map[string]any{})
	case <-k.ctx.Done():
	}
}

// publish publishes the events that durable runs wait for.
func (k *killing) publish(runs []string) {
	k.t.Helper()
	c := k.dial()
	for _, r := range runs {
		must[*wire.Event](k.t)(c.Push(k.ctx, &wire.PushEventRequest{Key: "go-" + r, Payload: `{"for":"` + r + `"}`, EventTimestamp: timestamppb.Now()}))
	}
}

// produce starts runs while the server is killed, and returns those of which that was acknowledged.
func (k *killing) produce() (runs []string) {
	c := k.dial()
	for i := range 200 {
		r, err := c.TriggerWorkflow(k.ctx, &wire.TriggerWorkflowRequest{Name: "job", Input: fmt.Sprintf(`{"i":%d}`, i%2*killedRuns)})
		if err == nil {
			runs = append(runs, r.WorkflowRunId)
		}
	}
	return runs
}

// check compares what the database has with what the programs know.
func (k *killing) check(c *stint.Client, runs []string) {
	defer c.Close()
	for _, id := range runs {
		info, err := c.GetRun(context.Background(), id)
		if err != nil {
			k.t.Errorf("run %s, which was acknowledged: %v", id, err)
			continue
		}
		output := string(info.Output)
		switch acked, ok := k.acked[id]; {
		case info.State != stint.StateSucceeded || info.Attempt != 1:
			k.t.Errorf("run %s is %v in attempt %d: %s", id, info.State, info.Attempt, info.Error)
		case ok && (output != acked || info.Executions != k.began[id]):
			k.t.Errorf("run %s has output %s after %d executions; %s was acknowledged", id, output, info.Executions, acked)
		case !k.reported[id][output] || k.results[id] != output:
			k.t.Errorf("run %s has output %s; its result was %s, and reported were %v", id, output, k.results[id], k.reported[id])
		}
	}
}
