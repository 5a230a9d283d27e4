package own

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/google/uuid"
	"github.com/hatchet-dev/hatchet/pkg/client/rest"
	hatchet "github.com/hatchet-dev/hatchet/sdks/go"
)

// begun counts executions by what they are of.
type begun struct {
	mu    sync.Mutex
	times map[string]int
}

func (b *begun) add(what string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.times == nil {
		b.times = map[string]int{}
	}
	b.times[what]++
	return b.times[what]
}

func (b *begun) all() map[string]int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return maps.Clone(b.times)
}

// result waits for the result of a run.
func result(t *testing.T, what string, ref *hatchet.WorkflowRunRef) *hatchet.WorkflowResult {
	t.Helper()
	type answer struct {
		r   *hatchet.WorkflowResult
		err error
	}
	answers := make(chan answer, 1)
	go func() {
		r, err := ref.Result()
		answers <- answer{r, err}
	}()
	a := next(t, what, answers)
	if a.err != nil {
		t.Fatalf("%s: %v", what, a.err)
	}
	return a.r
}

// stored returns the output of a run's only task, as the server has it.
func stored(t *testing.T, c *hatchet.Client, run string) (o output) {
	t.Helper()
	d, err := c.Runs().GetDetails(t.Context(), uuid.MustParse(run))
	if err != nil || len(d.TaskRuns) != 1 {
		t.Fatalf("run %s: %+v, %v", run, d, err)
	}
	for _, task := range d.TaskRuns {
		b, err := json.Marshal(task.Output)
		if err == nil {
			err = json.Unmarshal(b, &o)
		}
		if err != nil || string(task.Status) != "COMPLETED" {
			t.Fatalf("run %s is %s: %s, %v", run, task.Status, b, err)
		}
	}
	return o
}

// The server's process is killed while a worker executes runs, and while results are waited for, and is started again. The worker and
// those who wait go on by themselves; what had ended keeps its result and does not run again, each other run ends once, and new runs start.
func TestServerKilled(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	c := s.connect()
	const n = 80 // half of which end before
	var executions begun
	var reports atomic.Int64
	late := make(chan struct{})
	task := c.NewStandaloneTask("own-killed", func(ctx hatchet.Context, in input) (output, error) {
		executions.add(ctx.WorkflowRunId())
		if in.N%2 == 1 {
			<-late
		}
		return output{N: in.N, Text: fmt.Sprint("report ", reports.Add(1))}, nil
	})
	workAtOnce(t, c, n, task)
	var refs []hatchet.WorkflowRunRef
	for i := range n {
		ref, err := task.RunNoWait(t.Context(), input{i})
		if err != nil {
			t.Fatal(err)
		}
		refs = append(refs, *ref)
	}
	outputs := make([]output, n)
	var waiting sync.WaitGroup
	ended := make(chan struct{}, n)
	for i := range refs {
		waiting.Go(func() {
			r, err := refs[i].Result()
			if err == nil {
				err = r.TaskOutput("own-killed").Into(&outputs[i])
			}
			if err != nil {
				t.Errorf("run %d: %v", i, err)
			}
			ended <- struct{}{}
		})
	}
	for range n / 2 {
		next(t, "the result of a run before the kill", ended)
	}
	eventually(t, "all runs execute", func() bool { return len(executions.all()) == n })
	before := executions.all()

	s.end(syscall.SIGKILL)
	started := make(chan *hatchet.WorkflowRunRef, 1)
	go func() {
		ref, err := task.RunNoWait(context.Background(), input{n}) // the SDK calls again until the server is there
		if err != nil {
			t.Error(err)
		}
		started <- ref
	}()
	s.start()
	close(late)
	for range n / 2 {
		next(t, "the result of a run after the kill", ended)
	}
	waiting.Wait()
	refs = append(refs, *next(t, "a run that was started while there was no server", started))
	outputs = append(outputs, output{})
	if err := result(t, "its result", &refs[n]).TaskOutput("own-killed").Into(&outputs[n]); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for i := range refs {
		o, now := outputs[i], executions.all()[refs[i].RunId]
		if o.N != i || seen[o.Text] {
			t.Errorf("run %d has the result %+v of another", i, o)
		}
		seen[o.Text] = true
		if got := stored(t, c, refs[i].RunId); got != o {
			t.Errorf("run %d has %+v stored, its result was %+v", i, got, o)
		}
		if i < n && i%2 == 0 && now != before[refs[i].RunId] {
			t.Errorf("run %d, which had ended, was executed %d times, and %d before", i, now, before[refs[i].RunId])
		}
	}
}

// A server that ends, as it is asked to or not, and is started again has the worker that it had, under its ID, with its slots and its
// pause, and no other. The worker's program does nothing for that.
func TestWorkerStays(t *testing.T) {
	for name, signal := range map[string]syscall.Signal{"killed": syscall.SIGKILL, "ended": syscall.SIGTERM} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startServer(t)
			c := s.connect()
			var executions begun
			at := make(chan string, 10) // workers that execute the first run
			late := make(chan struct{})
			task := c.NewStandaloneTask("own-stays", func(ctx hatchet.Context, in input) (output, error) {
				if in.N == 1 && executions.add("first") == 1 {
					at <- ctx.Worker().ID()
					<-late
				}
				return output{in.N, ctx.Worker().ID()}, nil
			})
			workAtOnce(t, c, 7, task)
			first, err := task.RunNoWait(t.Context(), input{1})
			if err != nil {
				t.Fatal(err)
			}
			id := next(t, "the first run", at)
			if _, err := c.Workers().Pause(t.Context(), id); err != nil {
				t.Fatal(err)
			}

			s.end(signal)
			s.start()
			eventually(t, "the worker is back, and the only one", func() bool { return slices.Equal(workers(t, c), []string{id + " PAUSED 7"}) })
			close(late)
			if _, err := c.Workers().Unpause(t.Context(), id); err != nil {
				t.Fatal(err)
			}
			second, err := task.RunNoWait(t.Context(), input{2})
			if err != nil {
				t.Fatal(err)
			}
			for i, ref := range []*hatchet.WorkflowRunRef{first, second} {
				var o output
				if err := result(t, "a run's result", ref).TaskOutput("own-stays").Into(&o); err != nil || o != (output{i + 1, id}) {
					t.Errorf("run %d: %+v, %v; the worker is %s", i+1, o, err, id)
				}
			}
			if got := workers(t, c); !slices.Equal(got, []string{id + " ACTIVE 7"}) {
				t.Errorf("workers are %v", got)
			}
		})
	}
}

// workers says of each worker which it is, whether it takes runs, and how many at once.
func workers(t *testing.T, c *hatchet.Client) (all []string) {
	t.Helper()
	list, err := c.Workers().List(t.Context())
	if err != nil || list.Rows == nil {
		t.Fatalf("%+v, %v", list, err)
	}
	for _, w := range *list.Rows {
		slots := rest.WorkerSlotConfig{}
		if w.SlotConfig != nil {
			slots = (*w.SlotConfig)["default"]
		}
		all = append(all, fmt.Sprintf("%s %s %d", w.Metadata.Id, *w.Status, slots.Limit))
	}
	return all
}
