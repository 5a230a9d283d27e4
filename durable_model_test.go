package stint_test

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"pgregory.net/rapid"
)

// An op is a durable call of a random program.
type op struct {
	// kind is step, slow: a step that takes d, fail: a step that fails, broken: one whose
	// failure the handler returns, sleep, event, all, any, child, lost: a child that fails, or
	// undo: a compensation that takes d.
	kind  string
	id    int // one of its own
	d     time.Duration
	times int    // how often broken or undo fails before it succeeds
	subs  [][]op // of all and any: what each branch does
}

// alwaysFails is op.times of a compensation that fails as often as it is tried: 6 times.
const alwaysFails = 6

// drawProgram makes a program. Times are chosen so that few things happen at once.
func drawProgram(rt *rapid.T, depth int, next *int) []op {
	kinds := []string{"step", "step", "slow", "fail", "sleep", "sleep", "event", "child", "lost", "undo", "undo", "broken"}
	if depth > 0 {
		kinds = append(kinds, "all", "any")
	}
	prog := make([]op, rapid.IntRange(0, 5).Draw(rt, "ops"))
	for i := range prog {
		*next++
		o := &prog[i]
		o.kind, o.id = rapid.SampledFrom(kinds).Draw(rt, "kind"), *next
		jitter := time.Duration(*next) * 10 * time.Millisecond
		switch o.kind {
		case "sleep", "slow":
			o.d = time.Duration(rapid.IntRange(0, 30).Draw(rt, "seconds"))*time.Second + jitter
		case "event": // its timeout
			o.d = time.Duration(rapid.IntRange(1, 30).Draw(rt, "timeout"))*time.Second + jitter
		case "undo":
			o.d = time.Duration(rapid.IntRange(0, 3).Draw(rt, "takes"))*time.Second + jitter
			o.times = rapid.SampledFrom([]int{0, 0, 0, 0, 1, 3, alwaysFails}).Draw(rt, "fails")
		case "broken":
			o.times = rapid.SampledFrom([]int{0, 1, 1, 2}).Draw(rt, "breaks")
		case "all", "any":
			for range rapid.IntRange(1, 3).Draw(rt, "branches") {
				*next++
				first := op{kind: "sleep", id: *next, d: time.Duration(*next) * 100 * time.Millisecond}
				o.subs = append(o.subs, append([]op{first}, drawProgram(rt, depth-1, next)...))
			}
		}
	}
	return prog
}

// slack is how exact the model is: of what is nearer to one another it does not say which
// was first.
const slack = 300 * time.Millisecond

// published is when the event of an op is, from the start of the test.
func published(id int) time.Duration {
	return time.Duration(id*7%40)*time.Second + 3*time.Millisecond
}

// A world is what the model knows of a run: what it has recorded, and when a worker is
// there. Times are from the start of the test.
type world struct {
	absent  []absence
	memos   map[int]*memo // by op
	unclear bool          // what the model says may not be so: two things are at once

	journaled bool // a call is recorded that a cancel cut short

	cut     time.Duration // what is under way then is cut off, by a cancel or by a failure
	cancels bool
	failing string // the scope of what fails
}

// An absence is a time without a worker. Work that is under way then begins anew.
type absence struct{ from, to time.Duration }

// A memo is what is recorded of an op.
type memo struct {
	path     string
	begun    bool
	done     bool
	sum      int           // of what is done
	at       time.Duration // when it was done; of an undo: given
	from     time.Duration // when it began
	due      time.Duration // a sleep's end, an event's timeout, the end of a child's sleep
	winner   int           // of any
	branches bool          // it is an all or any: its branches are recorded as they end
	kept     bool          // it stays in the journal, whatever becomes of it: a child was enqueued
	failed   int           // how often a broken op has
}

// clone is a copy, to find out what would be.
func (w *world) clone() *world {
	c := *w
	c.memos = map[int]*memo{}
	for id, m := range w.memos {
		copied := *m
		c.memos[id] = &copied
	}
	return &c
}

func (w *world) near(a, b time.Duration) {
	w.unclear = w.unclear || max(a-b, b-a) < slack
}

// attended is the first time from t on at which a worker is there.
func (w *world) attended(t time.Duration) time.Duration {
	for _, a := range w.absent {
		w.near(t, a.from)
		if t != a.to {
			w.near(t, a.to)
		}
		if a.from <= t && t < a.to {
			return a.to
		}
	}
	return t
}

// worked is when work ends that takes d, from t on, and begins anew when its worker is gone.
func (w *world) worked(t, d time.Duration) time.Duration {
	t = w.attended(t)
	for _, a := range w.absent {
		w.near(t+d, a.from)
		if t < a.from && a.from < t+d {
			t = a.to
		}
	}
	return t + d
}

// How a program comes to an end.
const (
	hasReturned = iota
	hasFailed   // with the error of a broken op
	isCut
)

// An ending is how a program ended, and when.
type ending struct {
	how int
	sum int
	by  int // the op that failed
	at  time.Duration
}

// run is what a program comes to that begins, or goes on, at a time.
func (w *world) run(prog []op, now time.Duration, path string) ending {
	e := ending{at: now}
	for _, o := range prog {
		m := w.memos[o.id]
		if m == nil {
			m = &memo{path: path}
			w.memos[o.id] = m
		}
		got := w.op(&o, m, e.at)
		e.sum, e.at, e.how, e.by = e.sum+got.sum, max(e.at, got.at), got.how, got.by
		if e.how != hasReturned {
			break
		}
	}
	return e
}

// isFailing reports whether what is done in a scope comes before the failure that cuts.
func (w *world) isFailing(path string) bool {
	return !w.cancels && strings.HasPrefix(w.failing+"/", path+"/")
}

func (w *world) op(o *op, m *memo, now time.Duration) ending {
	switch {
	case m.done:
		return ending{sum: m.sum, at: now}
	case o.subs != nil:
		return w.branches(o, m, now)
	}
	if !w.isFailing(m.path) {
		w.near(now, w.cut)
	}
	if now > w.cut && !m.begun && o.kind != "undo" {
		return ending{how: isCut, at: w.cut}
	}
	if o.kind == "broken" && m.failed < o.times {
		m.failed++
		return ending{how: hasFailed, by: o.id, at: now}
	}
	begins := !m.begun
	if begins {
		m.begun, m.from = o.kind == "sleep" || o.kind == "event" || o.kind == "child" || o.kind == "lost", now
	}
	ready := now // when it is over, though nobody may be there to see it
	switch o.kind {
	case "step", "broken":
		m.sum = o.id
	case "fail":
		m.sum = 1000
	case "slow":
		m.sum, ready = o.id, w.worked(now, o.d)
	case "sleep":
		m.due = m.from + o.d
		ready = m.due
	case "child", "lost":
		m.sum = map[string]int{"child": 2 * o.id, "lost": 2000}[o.kind]
		m.due = w.attended(m.from) + time.Second
		ready = w.attended(m.due)
	case "event":
		ready = w.event(o, m, now)
	}
	if o.kind != "undo" && !w.isFailing(m.path) {
		w.near(ready, w.cut)
	}
	if ready > w.cut && o.kind != "undo" {
		w.journaled = w.journaled || m.begun
		m.kept = o.kind == "child" || o.kind == "lost"
		slept := false // a child whose sleep is over, and no worker was there to see it, sleeps no more
		if m.kept {
			w.near(m.due, w.cut)
			slept = m.due < w.cut
		}
		m.begun = m.begun && (slept || !w.cancels) // a call that a cancel cuts short is made anew
		return ending{how: isCut, at: w.cut}
	}
	m.done, m.at = true, w.attended(max(now, ready))
	return ending{sum: m.sum, at: m.at}
}

// event is when a wait for an event is over.
func (w *world) event(o *op, m *memo, now time.Duration) time.Duration {
	m.due = m.from + o.d
	came := max(m.from, published(o.id))
	w.near(came, m.due)
	if came < m.due {
		m.sum = 3 * o.id
		return came
	}
	if noticed := w.attended(max(now, m.due)); came < noticed+slack { // which of them counts nobody says
		w.unclear = true
	}
	m.sum = 7
	return m.due
}

// branches is what all and any come to.
func (w *world) branches(o *op, m *memo, now time.Duration) ending {
	if now > w.cut && !m.begun {
		return ending{how: isCut, at: w.cut}
	}
	m.begun, m.branches = true, true
	var ends []ending
	for i, sub := range o.subs {
		e := w.run(sub, now, fmt.Sprintf("%s/%d.%d", m.path, o.id, i))
		if e.how == hasReturned && w.cancels && w.isLate(sub) {
			e.how, e.at = isCut, w.cut
		}
		ends = append(ends, e)
	}
	all := ending{at: now}
	// A call that a cancel cuts short in a branch left behind by a failure is made anew by a replay if an execution
	// met it after the cancel. Whether one did depends on what else is in the branch.
	leaves := w.cancels && slices.ContainsFunc(ends, func(e ending) bool { return e.how == isCut })
	wait := func(e ending) bool {
		w.unclear = w.unclear || leaves && e.how == hasFailed
		all.at, all.how, all.by = max(all.at, e.at), e.how, e.by
		return e.how == hasReturned
	}
	if o.kind == "any" {
		for i, first := 0, never; i < len(ends) && m.winner <= 0; i++ {
			if ends[i].how == isCut {
				continue
			}
			if w.near(ends[i].at, first); ends[i].at < first {
				first, m.winner = ends[i].at, -1-i
			}
		}
		m.winner = max(m.winner, -m.winner)
		if m.winner == 0 {
			return ending{how: isCut, at: w.cut}
		}
		if !wait(ends[m.winner-1]) {
			return all
		}
		all.sum = 10 * (m.winner - 1)
	}
	for _, e := range ends {
		if !wait(e) {
			return all
		}
		all.sum += e.sum
	}
	return all
}

// isLate reports whether a branch returned only after the cut, though what it waited for had come before: no worker
// was there. It goes on to its end, but who waits for it is canceled there.
func (w *world) isLate(sub []op) bool {
	return slices.ContainsFunc(sub, func(o op) bool {
		m := w.memos[o.id]
		return m.done && m.at > w.cut || slices.ContainsFunc(o.subs, w.isLate)
	})
}

// An episode is how a run goes from its start, or a replay, to its end.
type episode struct {
	ending
	undone []int         // compensations that run to their end
	undoes bool          // it failed, and was canceled while it ran them: it ends as either
	jitter time.Duration // how exact at is: delays between tries have some
}

// episode is the run's next one, which begins at a time and is canceled at another.
func (w *world) episode(prog []op, now, cancel time.Duration, retries int) (e episode) {
	for attempt := 0; ; attempt++ {
		now = w.attended(now)
		try := w.clone()
		try.cut, try.cancels = never, true
		e.ending = try.run(prog, now, "")
		w.near(e.at, cancel)
		w.unclear = w.unclear || try.unclear
		switch {
		case e.at > cancel:
			w.cut, w.cancels = cancel, true
		case e.how == hasFailed: // what is beside that which fails goes no further
			w.cut, w.cancels, w.failing = e.at, false, try.memos[e.by].path
		default:
			w.cut, w.cancels = never, false
		}
		if e.ending = w.run(prog, now, ""); w.cancels && w.cut == cancel {
			e.how, e.at = isCut, cancel // also where nothing was left to do
		}
		switch {
		case e.how == hasReturned:
			return e
		case e.how == hasFailed && attempt < retries:
			now = e.at
			continue
		}
		from := e.at
		w.undo(prog, &e)
		e.undoes = e.how == hasFailed && from <= cancel && cancel <= e.at+e.jitter+slack
		return e
	}
}

// undo runs the compensations that were given.
func (w *world) undo(prog []op, e *episode) {
	for _, m := range w.memos {
		w.journaled = w.journaled || m.begun && !m.branches || m.done || m.kept || m.winner > 0
	}
	if w.journaled { // else there is nothing to be seen to
		e.at = w.attended(e.at)
	}
	w.journaled = false
	given := slices.DeleteFunc(undos(prog), func(o op) bool { return w.memos[o.id] == nil || !w.memos[o.id].done })
	slices.SortFunc(given, func(a, b op) int { return w.order(b.id, a.id) })
	for _, o := range given {
		for try := 0; ; try++ {
			e.at = w.worked(e.at, o.d)
			if try >= o.times && o.times < alwaysFails {
				e.undone = append(e.undone, o.id)
				break
			}
			if try == 5 {
				break
			}
			delay := 2 * time.Second << try
			e.jitter += delay / 10
			if n := len(w.absent); n > 0 && w.absent[n-1].to > e.at {
				w.unclear = true
			}
			e.at += delay
		}
	}
}

// order compares when compensations were given.
func (w *world) order(a, b int) int {
	x, y := w.memos[a], w.memos[b]
	if strings.HasPrefix(x.path+"/", y.path+"/") || strings.HasPrefix(y.path+"/", x.path+"/") {
		return a - b
	}
	w.near(x.at, y.at)
	return cmp.Compare(x.at, y.at)
}

// undos are the compensations of a program.
func undos(prog []op) (all []op) {
	for _, o := range prog {
		if o.kind == "undo" {
			all = append(all, o)
		}
		for _, sub := range o.subs {
			all = append(all, undos(sub)...)
		}
	}
	return all
}
