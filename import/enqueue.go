package imports

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/stint-dev/stint"
)

// Options change which jobs are imported.
type Options struct {
	Running bool // also import jobs that the source's workers are executing, or left so when they died
}

// A Line counts the jobs of a kind in a queue.
type Line struct {
	Kind, Queue, State string
	Task               string // "": not mapped, or left out
	Jobs               int
	Problem            string // why they cannot be imported; "": they can, or are left out
	Example            string // the ID of the first
}

// A Plan says what an import would enqueue.
type Plan struct {
	Lines []Line
	Jobs  int // that would be enqueued, if there is no problem
}

// Problems returns what keeps the plan from being carried out, as an error; nil: nothing.
func (p *Plan) Problems() error {
	var errs []error
	for _, l := range p.Lines {
		if l.Problem != "" {
			errs = append(errs, fmt.Errorf("%d jobs of kind %q in queue %q, such as %s: %s", l.Jobs, l.Kind, l.Queue, l.Example, l.Problem))
		}
	}
	return errors.Join(errs...)
}

var errNotJSON = errors.New(`the payload is not JSON: map the kind to {"task": NAME, "bytes": true}, whose task takes a []byte`)

// Look reads all jobs of a source and says what an import would do. It changes nothing.
func Look(ctx context.Context, s Source, m *Mapping, o Options) (*Plan, error) {
	p := &Plan{}
	at := map[Line]int{}
	err := s.Jobs(ctx, func(j Job) error {
		l := Line{Kind: j.Kind, Queue: j.Queue, State: j.State}
		target, known := m.Kinds[j.Kind]
		switch _, err := j.payload(target.Bytes); {
		case !known:
			l.Problem = "the kind is not mapped"
		case target.Skip:
		case j.Problem != "":
			l.Problem = j.Problem
		case j.State == Running && !o.Running:
			l.Problem = "they are being executed: stop the source's workers, or import also those that are left (-running)"
		case err != nil:
			l.Problem = err.Error()
		default:
			l.Task = target.Task
			p.Jobs++
		}
		i, ok := at[l]
		if !ok {
			i = len(p.Lines)
			at[l] = i
			p.Lines = append(p.Lines, l)
			p.Lines[i].Example = j.ID
		}
		p.Lines[i].Jobs++
		return nil
	})
	return p, err
}

// A Report says what an import did.
type Report struct {
	Enqueued int
	Existing int // that an earlier import had enqueued
}

// KeyTime is the time for which an imported job is not imported again.
const KeyTime = 365 * 24 * time.Hour

// batch is the number of runs that are enqueued in one commit.
const batch = 500

// Import enqueues the jobs of a source that a mapping has, if Look finds no problem. A job that was imported before is not
// enqueued again, so an import that failed is repeated.
func Import(ctx context.Context, s Source, m *Mapping, o Options, c *stint.Client) (r Report, err error) {
	plan, err := Look(ctx, s, m, o)
	if err != nil {
		return r, err
	}
	if err := plan.Problems(); err != nil {
		return r, err
	}
	var runs []stint.JSONRun
	enqueue := func() error {
		got, err := c.EnqueueJSONMany(ctx, runs)
		for i := range got {
			if got[i].Existing {
				r.Existing++
			} else {
				r.Enqueued++
			}
		}
		runs = runs[:0]
		return err
	}
	err = s.Jobs(ctx, func(j Job) error {
		target, known := m.Kinds[j.Kind]
		if target.Skip || j.State == Running && !o.Running {
			return nil
		}
		if !known { // it came after Look
			return fmt.Errorf("job %s: kind %q is not mapped: import again", j.ID, j.Kind)
		}
		if j.Problem != "" { // likewise
			return fmt.Errorf("job %s: %s", j.ID, j.Problem)
		}
		input, err := j.payload(target.Bytes)
		if err != nil {
			return fmt.Errorf("job %s: %w", j.ID, err)
		}
		runs = append(runs, stint.JSONRun{Task: target.Task, Input: input, Options: []stint.RunOption{
			stint.WithIdempotencyKey(j.Key, KeyTime), stint.WithQueue(m.queue(j.Queue)), stint.WithRunAt(j.Ready),
			stint.WithPriority(j.Priority), stint.WithMetadata(metadata(&j))}})
		if len(runs) < batch {
			return nil
		}
		return enqueue()
	})
	if err == nil {
		err = enqueue()
	}
	return r, err
}

// metadata returns the metadata of a job's run.
func metadata(j *Job) map[string]string {
	all := map[string]string{"imported": j.ID}
	for k, v := range j.Metadata {
		all[k] = strings.ToValidUTF8(v, "?")
	}
	return all
}
