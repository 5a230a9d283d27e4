package own

import (
	"encoding/json"
	"fmt"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/google/uuid"
	hatchet "github.com/hatchet-dev/hatchet/sdks/go"
)

const (
	ordersSteps    = 4
	ordersChildren = 5
)

// An ordered is what a durable task was answered, as it asked.
type ordered struct {
	Memos    []int64  `json:"memos"`
	Events   []int    `json:"events"`
	Children []output `json:"children"`
}

// orders are durable runs that ask for one answer after the other.
type orders struct {
	t        *testing.T
	c        *hatchet.Client
	memos    begun        // by key: how often one was computed
	numbers  atomic.Int64 // of memos
	starts   begun        // by run: executions of children
	answered chan int     // steps that have their answers
	released chan struct{}

	task, child *hatchet.StandaloneTask
}

func newOrders(t *testing.T, c *hatchet.Client) *orders {
	o := &orders{t: t, c: c, answered: make(chan int, 1_000), released: make(chan struct{})}
	o.child = c.NewStandaloneTask("own-order-child", func(ctx hatchet.Context, in input) (output, error) {
		o.starts.add(ctx.WorkflowRunId())
		<-o.released
		return output{in.N, ctx.WorkflowRunId()}, nil
	})
	o.task = c.NewStandaloneDurableTask("own-order", o.run)
	return o
}

// run memoizes a number and waits for an event in each step, and then starts children, whose results it asks for from the last.
func (o *orders) run(ctx hatchet.DurableContext, _ input) (out ordered, err error) {
	for i := range ordersSteps {
		key := fmt.Sprint("step-", i)
		memo, err := ctx.Memo(key, func() (any, error) {
			o.memos.add(key)
			return o.numbers.Add(1), nil
		})
		if err != nil {
			return out, err
		}
		var number int64
		if err := json.Unmarshal(memo, &number); err != nil {
			return out, err
		}
		event, err := ctx.WaitForEvent(stepEvent(i), "")
		if err != nil {
			return out, err
		}
		var in input
		if err := event.Unmarshal(&in); err != nil {
			return out, err
		}
		out.Memos, out.Events = append(out.Memos, number), append(out.Events, in.N)
		o.answered <- i
	}
	var inputs []hatchet.RunManyOpt
	for i := range ordersChildren {
		inputs = append(inputs, hatchet.RunManyOpt{Input: input{i}})
	}
	refs, err := o.child.RunMany(ctx, inputs)
	if err != nil {
		return out, err
	}
	for i := range slices.Backward(refs) {
		var got output
		r, err := refs[i].Result()
		if err == nil {
			err = r.TaskOutput("own-order-child").Into(&got)
		}
		if err != nil {
			return out, err
		}
		out.Children = append(out.Children, got)
	}
	return out, nil
}

func stepEvent(i int) string { return fmt.Sprint("own-order:", i) }

// push publishes a step's event until the run has it: it may not wait for it yet, or not again.
func (o *orders) push(i int) {
	o.t.Helper()
	eventually(o.t, fmt.Sprint("the answer of step ", i), func() bool {
		if err := o.c.Events().Push(o.t.Context(), stepEvent(i), input{i * 10}); err != nil {
			o.t.Fatal(err)
		}
		for len(o.answered) > 0 {
			if <-o.answered == i {
				return true
			}
		}
		return false
	})
}

// A durable run whose server is killed, and started again, once while it waits for an event and once while its children execute, is
// answered what it was answered before, in the order of its calls: no memo is computed again, and no child is started again.
func TestDurableServerKilled(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	o := newOrders(t, s.connect())
	work(t, o.c, o.task, o.child)
	restart := func() {
		s.end(syscall.SIGKILL)
		s.start()
	}
	ref, err := o.task.RunNoWait(t.Context(), input{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range ordersSteps {
		eventually(t, "the memo of the step", func() bool { return o.memos.all()[fmt.Sprint("step-", i)] > 0 })
		if i == ordersSteps/2 {
			restart()
		}
		o.push(i)
	}
	eventually(t, "the children execute", func() bool { return len(o.starts.all()) == ordersChildren })
	restart()
	close(o.released)
	var out ordered
	if err := result(t, "the result", ref).TaskOutput("own-order").Into(&out); err != nil {
		t.Fatal(err)
	}
	o.check(out)
	if d, err := o.c.Runs().GetDetails(t.Context(), uuid.MustParse(ref.RunId)); err != nil || string(d.Status) != "COMPLETED" {
		t.Errorf("%+v, %v", d, err)
	}
}

func (o *orders) check(out ordered) {
	if len(out.Memos) != ordersSteps || len(out.Events) != ordersSteps || len(out.Children) != ordersChildren {
		o.t.Fatalf("answers are %+v", out)
	}
	for i := range ordersSteps {
		times := o.memos.all()[fmt.Sprint("step-", i)]
		if times != 1 && i != ordersSteps/2 { // that one's may not have been stored when the server was killed
			o.t.Errorf("the memo of step %d was computed %d times", i, times)
		}
		if out.Events[i] != i*10 || i > 0 && out.Memos[i] <= out.Memos[i-1] {
			o.t.Errorf("step %d was answered memo %d and event %d", i, out.Memos[i], out.Events[i])
		}
	}
	if runs := o.starts.all(); len(runs) != ordersChildren {
		o.t.Errorf("%d children were started: %v", len(runs), runs)
	}
	for i, c := range out.Children {
		if c.N != ordersChildren-1-i {
			o.t.Errorf("answer %d is of child %d", i, c.N)
		}
	}
}
