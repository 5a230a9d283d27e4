package main

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/stint-dev/stint"
)

// A view is what top shows.
type view struct {
	s             *session
	name          string // of the database
	width, height int
	held          bool
}

type viewLine struct {
	text string
	head bool
}

// lines returns the lines of a view, made of parts that have a part of the height each.
func (v *view) lines(ctx context.Context) ([]viewLine, error) {
	head, err := v.header(ctx)
	if err != nil {
		return nil, err
	}
	all := head
	rest := max(v.height-len(head), 16)
	for _, part := range []struct {
		show func(context.Context, int) (string, error)
		most int // of lines
	}{{v.queues, rest / 4}, {v.workers, rest / 4}, {v.running, rest / 4}, {v.failed, rest - rest/4*3}} {
		text, err := part.show(ctx, max(part.most-2, 1)) // less its head and the line between
		if err != nil {
			return nil, err
		}
		for i, line := range strings.Split(strings.TrimRight(text, "\n"), "\n") {
			if line != "" {
				if i == 0 {
					all = append(all, viewLine{})
				}
				all = append(all, viewLine{strings.TrimRight(line, " "), i == 0})
			}
		}
	}
	return all, nil
}

// header returns the counts of runs by state, and what happened in the last minutes.
func (v *view) header(ctx context.Context) ([]viewLine, error) {
	counts, err := v.s.c.CountRuns(ctx)
	if err != nil {
		return nil, err
	}
	stats, err := v.s.c.Stats(ctx, stint.StatsFilter{Since: time.Now().Add(-5 * time.Minute)})
	if err != nil {
		return nil, err
	}
	title := "stint top: " + oneLine(v.name) + "  " + time.Now().Format("15:04:05")
	if v.held {
		title += "  held: space goes on"
	}
	var states []string
	for _, name := range stateNames {
		var st stint.State
		if st.UnmarshalText([]byte(name)) == nil && counts[st] > 0 {
			states = append(states, fmt.Sprintf("%d %s", counts[st], name))
		}
	}
	lines := []viewLine{{title, true}, {cmp.Or(strings.Join(states, "  "), "no runs"), false}}
	var sum stint.Stats
	for i := range stats {
		sum.Add(&stats[i])
	}
	if sum.Started+sum.Enqueued > 0 {
		const text = "last 5 min: %d enqueued, %d started, %d succeeded, %d failed, %d retried; " +
			"wait p50 %s p99 %s; duration p50 %s p95 %s"
		lines = append(lines, viewLine{text: fmt.Sprintf(text, sum.Enqueued, sum.Started, sum.Succeeded, sum.Failed, sum.Retried,
			short(sum.Wait(.5)), short(sum.Wait(.99)), short(sum.Duration(.5)), short(sum.Duration(.95)))})
	}
	return lines, nil
}

// viewTable returns rows as a table, and how many are left out.
func viewTable[T any](header string, all []T, most int, row func(*T) string) string {
	if len(all) == 0 {
		return ""
	}
	var b bytes.Buffer
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, header)
	for i := range all {
		if i == most-1 && len(all) > most {
			fmt.Fprintf(t, "and %d more\n", len(all)-i)
			break
		}
		fmt.Fprintln(t, row(&all[i]))
	}
	t.Flush()
	return b.String()
}

func (v *view) queues(ctx context.Context, most int) (string, error) {
	all, err := v.s.c.ListQueues(ctx)
	return viewTable("QUEUE\tREADY\tRUNNING\tOLDEST\t", all, most, func(q *stint.QueueInfo) string {
		oldest, paused := "-", ""
		if !q.Oldest.IsZero() {
			oldest = short(max(time.Since(q.Oldest), 0).Round(time.Second))
		}
		if q.Paused {
			paused = "paused"
		}
		return columns(truncate(q.Name), q.Ready, q.Running, oldest, paused)
	}), err
}

func (v *view) workers(ctx context.Context, most int) (string, error) {
	all, err := v.s.c.ListWorkers(ctx)
	return viewTable("WORKER\tRUNNING\tSLOTS\tQUEUES\t", all, most, func(w *stint.WorkerInfo) string {
		queues, paused := "all", ""
		if len(w.Queues) > 0 {
			queues = truncate(strings.Join(w.Queues, " "))
		}
		if w.Paused {
			paused = "paused"
		}
		return columns(truncate(w.Name), w.Running, w.Slots, queues, paused)
	}), err
}

func (v *view) running(ctx context.Context, most int) (string, error) {
	page, err := v.s.c.ListRuns(ctx, stint.RunFilter{States: []stint.State{stint.StateRunning}, Limit: min(most, 1000)})
	if err != nil {
		return "", err
	}
	return viewTable("RUNNING\tTASK\tATTEMPT\tFOR\tWORKER", page.Runs, most, func(r *stint.RunInfo) string {
		return columns(r.ID, truncate(r.Task), r.Attempt, short(max(time.Since(r.Started), 0).Round(time.Second)), truncate(r.Worker))
	}), nil
}

func (v *view) failed(ctx context.Context, most int) (string, error) {
	page, err := v.s.c.ListRuns(ctx, stint.RunFilter{States: []stint.State{stint.StateFailed, stint.StateBlocked}, Limit: min(most, 1000)})
	if err != nil {
		return "", err
	}
	return viewTable("FAILED, BLOCKED\tTASK\tSTATE\tAT\tERROR", page.Runs, most, func(r *stint.RunInfo) string {
		return columns(r.ID, truncate(r.Task), r.State, formatTime(r.Finished), truncate(r.Error))
	}), nil
}
