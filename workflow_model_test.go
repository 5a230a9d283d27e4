package stint_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stint-dev/stint"
	"pgregory.net/rapid"
)

// A planned task is one of a random graph, with what will happen to it.
type planned struct {
	parents            []int
	takes              time.Duration
	fails              int // attempts that fail
	retries            int
	cancel, skip, wait *plannedCondition
}

// A plannedCondition is a condition as the test means it.
type plannedCondition struct {
	kind  string // sleep, event, yes, no, any, all
	d     time.Duration
	of    int // the parent, for yes and no
	parts []plannedCondition
}

const eventAt = 7500 * time.Millisecond // from the start of the run

var never = time.Duration(1 << 60)

// since is when the condition comes true, from the start; the parents ended at done.
func (c *plannedCondition) since(done time.Duration, states []string) time.Duration {
	switch c.kind {
	case "sleep":
		return done + c.d
	case "event":
		return eventAt
	case "yes":
		if states[c.of] == "succeeded" {
			return done
		}
		return never
	case "no":
		return never
	}
	at := c.parts[0].since(done, states)
	for i := range c.parts {
		if p := c.parts[i].since(done, states); c.kind == "any" && p < at || c.kind == "all" && p > at {
			at = p
		}
	}
	return at
}

func (c *plannedCondition) real(nodes []*stint.Node[int]) stint.Condition {
	var parts []stint.Condition
	for i := range c.parts {
		parts = append(parts, c.parts[i].real(nodes))
	}
	switch c.kind {
	case "sleep":
		return stint.SleepFor(c.d)
	case "event":
		return stint.UserEvent("event", stint.WithMatch("n", 1))
	case "any":
		return stint.AnyOf(parts...)
	case "all":
		return stint.AllOf(parts...)
	}
	return stint.ParentOutput(nodes[c.of], func(int) bool { return c.kind == "yes" })
}

func drawCondition(rt *rapid.T, parents []int, depth int) plannedCondition {
	kinds := []string{"sleep", "sleep", "event"}
	if len(parents) > 0 {
		kinds = append(kinds, "yes", "no")
	}
	if depth > 0 {
		kinds = append(kinds, "any", "all")
	}
	c := plannedCondition{kind: rapid.SampledFrom(kinds).Draw(rt, "kind")}
	switch c.kind {
	case "sleep":
		c.d = time.Duration(rapid.IntRange(1, 9).Draw(rt, "sleep")) * time.Second
	case "yes", "no":
		c.of = rapid.SampledFrom(parents).Draw(rt, "of")
	case "any", "all":
		for range rapid.IntRange(1, 3).Draw(rt, "parts") {
			c.parts = append(c.parts, drawCondition(rt, parents, depth-1))
		}
	}
	return c
}

func drawPlan(rt *rapid.T) []planned {
	plan := make([]planned, rapid.IntRange(1, 9).Draw(rt, "tasks"))
	for i := range plan {
		p := &plan[i]
		for j := range i {
			if rapid.IntRange(0, 2).Draw(rt, "edge") == 0 {
				p.parents = append(p.parents, j)
			}
		}
		p.takes = time.Duration(rapid.IntRange(1, 4).Draw(rt, "takes")) * time.Second
		if rapid.IntRange(0, 3).Draw(rt, "bad") == 0 {
			p.fails, p.retries = rapid.IntRange(1, 2).Draw(rt, "fails"), rapid.IntRange(0, 1).Draw(rt, "retries")
		}
		for _, c := range []**plannedCondition{&p.cancel, &p.skip, &p.wait} {
			if rapid.IntRange(0, 3).Draw(rt, "condition") == 0 {
				drawn := drawCondition(rt, p.parents, 2)
				*c = &drawn
			}
		}
	}
	return plan
}

// A fate is how a task of the model ended, and when, from the start.
type fate struct {
	state   string
	at      time.Duration
	started bool
}

// fates reads semantics off the plan, task by task. stop is when the run is canceled;
// before says what stays of an earlier pass, and began when this one did.
func fates(plan []planned, stop, began time.Duration, before []fate) []fate {
	all := make([]fate, len(plan))
	states := make([]string, len(plan))
	for i, p := range plan {
		all[i] = p.fate(began, all, states)
		if before != nil && before[i].state != "" {
			all[i] = before[i]
		}
		if all[i].at > stop {
			all[i] = fate{"canceled", stop, all[i].started && all[i].at-p.runs() < stop}
		}
		states[i] = all[i].state
	}
	return all
}

// runs is how long the task's attempts take together.
func (p *planned) runs() time.Duration { return time.Duration(min(p.fails, p.retries)+1) * p.takes }

func (p *planned) fate(began time.Duration, all []fate, states []string) fate {
	done, skipped, dead := began, len(p.parents) > 0, false
	for _, j := range p.parents {
		done = max(done, all[j].at)
		skipped = skipped && states[j] == "skipped"
		dead = dead || states[j] == "failed" || states[j] == "canceled"
	}
	switch {
	case dead:
		return fate{"canceled", done, false}
	case skipped && p.skip == nil:
		return fate{"skipped", done, false}
	}
	since := func(c *plannedCondition, otherwise time.Duration) time.Duration {
		if c == nil {
			return otherwise
		}
		return c.since(done, states)
	}
	cancel, skip, wait := since(p.cancel, never), since(p.skip, never), since(p.wait, done)
	switch first := min(cancel, skip, wait); {
	case first == never:
		return fate{"waiting", never, false}
	case first == cancel:
		return fate{"canceled", max(first, done), false}
	case first == skip:
		return fate{"skipped", max(first, done), false}
	}
	start := max(wait, done)
	end := start + p.runs()
	if p.fails > p.retries {
		return fate{"failed", end, true}
	}
	return fate{"succeeded", end, true}
}

// whole is how the workflow's run ends; one that was canceled as a whole is canceled,
// also where a task had failed.
func whole(all []fate, stop time.Duration) string {
	state := "succeeded"
	if slices.ContainsFunc(all, func(f fate) bool { return f.at == stop }) {
		return "canceled"
	}
	for _, f := range all {
		if f.state == "failed" || f.state == "canceled" && state == "succeeded" {
			state = f.state
		}
	}
	return state
}

// Random graphs with random outcomes, conditions, cancels and replays do what the
// meanings say, to the instant: this model reads them off the plan, task by task.
func TestWorkflowModel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rapid.Check(struct{ testing.TB }{t}, func(rt *rapid.T) {
			c, err := openAt(t, ":memory:")
			if err != nil {
				rt.Fatal(err)
			}
			defer c.Close()
			m := &graphRun{t: t, rt: rt, plan: drawPlan(rt)}
			m.define(c)
			stop := working(t, c)
			defer stop()
			m.pass(c)
		})
	})
}

type graphRun struct {
	t     *testing.T
	rt    *rapid.T
	plan  []planned
	nodes []*stint.Node[int]
	w     *stint.Workflow[int]
	good  bool // after the replay nothing fails
}

func (m *graphRun) define(c *stint.Client) {
	m.w = stint.NewWorkflow[int](c, "random")
	for i := range m.plan {
		p := &m.plan[i]
		opts := []stint.TaskOption{stint.WithRetries(p.retries)}
		for _, j := range p.parents {
			opts = append(opts, stint.WithParents(m.nodes[j]))
		}
		if p.cancel != nil {
			opts = append(opts, stint.WithCancelIf(p.cancel.real(m.nodes)))
		}
		if p.skip != nil {
			opts = append(opts, stint.WithSkipIf(p.skip.real(m.nodes)))
		}
		if p.wait != nil {
			opts = append(opts, stint.WithWaitFor(p.wait.real(m.nodes)))
		}
		m.nodes = append(m.nodes, stint.AddTask(m.w, fmt.Sprint("t", i), func(ctx context.Context, n int) (int, error) {
			info, _ := stint.Info(ctx)
			select {
			case <-time.After(p.takes):
			case <-ctx.Done():
				return 0, context.Cause(ctx)
			}
			if info.Attempt <= p.fails && !m.good {
				return 0, errors.New("planned")
			}
			return i, nil
		}, opts...))
	}
}

// pass runs the workflow, perhaps cancels it, and perhaps replays it.
func (m *graphRun) pass(c *stint.Client) {
	ctx := m.t.Context()
	run, err := m.w.Enqueue(ctx, 0)
	if err != nil {
		m.rt.Fatal(err)
	}
	began := time.Now()
	stop := never
	if rapid.IntRange(0, 2).Draw(m.rt, "cancel") == 0 {
		stop = time.Duration(rapid.IntRange(0, 20_000).Draw(m.rt, "cancel at"))*time.Millisecond + 321*time.Millisecond
		stop -= stop % time.Second
		stop += 321 * time.Millisecond // never at the instant of anything else
	}
	events := time.AfterFunc(eventAt, func() {
		c.Publish(ctx, "event", map[string]int{"n": 2})
		c.Publish(ctx, "event", map[string]int{"n": 1})
	})
	defer events.Stop()
	want := fates(m.plan, stop, 0, nil)
	if stop == never && slices.ContainsFunc(want, func(f fate) bool { return f.state == "waiting" }) {
		stop = time.Minute + 321*time.Millisecond // else it waits for ever
		want = fates(m.plan, stop, 0, nil)
	}
	cancel := time.AfterFunc(stop, func() { run.Cancel(ctx) })
	defer cancel.Stop()
	run.Wait(ctx)
	m.compare(run, began, want, stop)
	time.Sleep(time.Minute) // the event has come in any case
	synctest.Wait()
	if whole(want, stop) == "succeeded" || rapid.Bool().Draw(m.rt, "no replay") {
		return
	}
	m.replay(c, run, began, want)
}

// replay mends what failed, and has the run go on.
func (m *graphRun) replay(c *stint.Client, run *stint.Run[stint.Outputs], began time.Time, before []fate) {
	m.good = true
	again := time.Since(began)
	plan := slices.Clone(m.plan)
	kept := make([]fate, len(plan))
	for i := range plan {
		plan[i].fails = 0
		decided := true // parents stay, so what they came to stays
		for _, j := range plan[i].parents {
			decided = decided && kept[j].state != ""
		}
		switch {
		case decided && (before[i].state == "succeeded" || before[i].state == "skipped"):
			kept[i] = before[i]
			kept[i].at = min(before[i].at, again)
		case decided && before[i].started: // its conditions held then
			if plan[i].wait = nil; plan[i].skip != nil { // and it still decides itself whether it is skipped with its parents
				plan[i].skip = &plannedCondition{kind: "no"}
			}
		}
		plan[i].cancel = nil // or it might be canceled again, and wait for ever
	}
	if m.hasCancel() {
		return
	}
	want := fates(plan, never, again, kept)
	if slices.ContainsFunc(want, func(f fate) bool { return f.state == "waiting" }) {
		return
	}
	if n, err := c.ReplayRuns(m.t.Context(), stint.RunFilter{IDs: []string{run.ID()}}); n != 1 || err != nil {
		m.rt.Fatalf("ReplayRuns = %d, %v", n, err)
	}
	run.Wait(m.t.Context())
	var states []string
	for _, f := range want {
		states = append(states, f.state)
	}
	var got []string
	for _, task := range infoOf(m.t, run).Tasks {
		got = append(got, task.State.String())
	}
	if d := cmp.Diff(states, got); d != "" {
		m.rt.Fatalf("after the replay (-want +got):\n%s\nplan %+v", d, m.plan)
	}
}

func (m *graphRun) hasCancel() bool {
	return slices.ContainsFunc(m.plan, func(p planned) bool { return p.cancel != nil })
}

func (m *graphRun) compare(run *stint.Run[stint.Outputs], began time.Time, want []fate, stop time.Duration) {
	info := infoOf(m.t, run)
	var got []fate
	for _, task := range info.Tasks {
		got = append(got, fate{task.State.String(), task.Finished.Sub(began).Round(time.Millisecond), !task.Started.IsZero()})
	}
	if d := cmp.Diff(want, got, cmp.AllowUnexported(fate{})); d != "" {
		m.rt.Fatalf("tasks (-want +got):\n%s", d)
	}
	if info.State.String() != whole(want, stop) {
		m.rt.Fatalf("the run is %v, want %s", info.State, whole(want, stop))
	}
}
