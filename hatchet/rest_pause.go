package hatchet

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/stint-dev/stint"
)

// settingPause and a workflow's name is the key of its pause.
const settingPause = "hatchet.pause."

// A workflowPause is what is kept of the pause of a workflow. Its queue is paused, so that its runs wait; they are canceled
// when they have waited for the time to live.
type workflowPause struct {
	Since         time.Time     `json:"since"`
	TTL           time.Duration `json:"ttl"`
	DropCrons     bool          `json:"drop_crons,omitempty"`
	DropSchedules bool          `json:"drop_schedules,omitempty"`
	Crons         []string      `json:"crons,omitempty"` // that the pause has paused
}

const (
	pauseEvery = 500 * time.Millisecond // how often the runs of paused workflows are looked at
	pauseLook  = 10 * time.Second       // how often other servers' pauses are looked for
	dropAhead  = 2 * pauseEvery         // a schedule is dropped so long before it would start
)

// What becomes of the crons and schedules of a paused workflow.
const (
	pauseQueues = "QUEUE"
	pauseDrops  = "DROP"
)

// pauseWorkflow pauses a workflow, or ends that.
func (s *Server) pauseWorkflow(r *http.Request) (any, error) {
	w, err := s.workflowByID(r)
	if err != nil {
		return nil, err
	}
	if w.Host {
		return nil, invalid("workflow %.255q is defined by the server's program: pause its queue there", w.Name)
	}
	var body struct {
		Pause *struct {
			Action    string `json:"action"`
			Crons     string `json:"pausedWorkflowCronRunQueueBehavior"`
			Schedules string `json:"pausedWorkflowScheduledRunQueueBehavior"`
			TTL       string `json:"pausedWorkflowQueueTTL"`
		} `json:"pause"`
	}
	if err := readJSON(r, &body); err != nil {
		return nil, err
	}
	b := body.Pause
	switch {
	case b == nil:
		return nil, &restError{http.StatusNotImplemented, "a workflow can be paused and unpaused: want pause, with an action"}
	case b.Action == "unpause":
		return s.restWorkflow(w), s.unpause(r.Context(), w.Name)
	case b.Action != "pause":
		return nil, invalid("action is %.100q: want pause or unpause", b.Action)
	}
	for _, v := range []string{b.Crons, b.Schedules} {
		if v != "" && v != pauseQueues && v != pauseDrops {
			return nil, invalid("a behavior is %.100q: want %s or %s", v, pauseQueues, pauseDrops)
		}
	}
	p := &workflowPause{Since: time.Now(), DropCrons: b.Crons == pauseDrops, DropSchedules: b.Schedules == pauseDrops}
	if p.TTL, err = time.ParseDuration(b.TTL); err != nil || p.TTL <= 0 {
		return nil, invalid("pausedWorkflowQueueTTL is %.100q: want a time such as 10m", b.TTL)
	}
	if err := s.pause(r.Context(), w.Name, p); err != nil {
		return nil, err
	}
	rw := s.restWorkflow(w)
	rw.Paused = true
	return rw, nil
}

// pause pauses a workflow. If it is paused, the new pause takes the place of the former.
func (s *Server) pause(ctx context.Context, workflow string, p *workflowPause) error {
	s.pauseMu.Lock()
	defer s.pauseMu.Unlock()
	if former, err := s.pauseOf(ctx, workflow); err != nil {
		return err
	} else if former != nil && p.DropCrons {
		p.Crons = former.Crons
	} else if former != nil {
		if err := s.resumeCrons(ctx, former); err != nil {
			return err
		}
	}
	if p.DropCrons {
		if err := s.pauseCrons(ctx, workflow, p); err != nil {
			return err
		}
	}
	if err := s.savePause(ctx, workflow, p); err != nil {
		return err
	}
	s.pauses.Store(true)
	return s.c.PauseQueue(ctx, workflow)
}

// pauseCrons pauses the crons of the workflow that are not, and notes them in p.
func (s *Server) pauseCrons(ctx context.Context, workflow string, p *workflowPause) error {
	all, err := s.c.ListCrons(ctx)
	if err != nil {
		return err
	}
	for i := range all {
		if c := &all[i]; c.Task == workflow && !c.Paused {
			if err := s.c.PauseCron(ctx, c.Name); err != nil && !errors.Is(err, stint.ErrNotFound) {
				return err
			}
			if !slices.Contains(p.Crons, c.Name) {
				p.Crons = append(p.Crons, c.Name)
			}
		}
	}
	return nil
}

// resumeCrons ends the pause of the crons that the workflow's pause has paused.
func (s *Server) resumeCrons(ctx context.Context, p *workflowPause) error {
	for _, name := range p.Crons {
		if err := s.c.ResumeCron(ctx, name); err != nil && !errors.Is(err, stint.ErrNotFound) {
			return err
		}
	}
	return nil
}

// pauseNewCrons pauses the crons that a workflow got while it is paused, if it drops them. What they start before that does not
// execute either: see dropTicks.
func (s *Server) pauseNewCrons(ctx context.Context, workflow string) error {
	s.pauseMu.Lock()
	defer s.pauseMu.Unlock()
	p, err := s.pauseOf(ctx, workflow)
	if err != nil || p == nil || !p.DropCrons {
		return err
	}
	return s.dropCrons(ctx, workflow, p)
}

// dropCrons pauses the crons of a paused workflow that are not, and deletes what they have started.
func (s *Server) dropCrons(ctx context.Context, workflow string, p *workflowPause) error {
	known := len(p.Crons)
	err := s.pauseCrons(ctx, workflow, p)
	if err == nil && len(p.Crons) > known {
		err = s.savePause(ctx, workflow, p)
	}
	if err != nil {
		return err
	}
	return s.dropTicks(ctx, workflow, p)
}

// dropTicks deletes the runs that crons have started since the workflow was paused: of crons that were made after that, by whatever
// program, and ticked before they were paused too. They wait in the paused queue; of a workflow of several tasks these do, and its run
// counts as running.
func (s *Server) dropTicks(ctx context.Context, workflow string, p *workflowPause) error {
	return s.dropRuns(ctx, stint.RunFilter{Tasks: []string{workflow}, States: []stint.State{stint.StateQueued, stint.StateRunning},
		TopLevel: true, Since: p.Since}, func(run *stint.RunInfo) bool { return run.Metadata[stint.MetaCron] != "" && run.Executions == 0 })
}

func (s *Server) unpause(ctx context.Context, workflow string) error {
	s.pauseMu.Lock()
	defer s.pauseMu.Unlock()
	p, err := s.pauseOf(ctx, workflow)
	if err != nil || p == nil {
		return err
	}
	if p.DropCrons {
		if err := s.dropTicks(ctx, workflow, p); err != nil {
			return err
		}
	}
	if err := s.resumeCrons(ctx, p); err != nil {
		return err
	}
	if err := s.c.SetSetting(ctx, settingPause+workflow, nil); err != nil {
		return err
	}
	return s.c.ResumeQueue(ctx, workflow)
}

// pauseOf returns the pause of a workflow, or nil.
func (s *Server) pauseOf(ctx context.Context, workflow string) (*workflowPause, error) {
	stored, err := s.c.Setting(ctx, settingPause+workflow)
	if errors.Is(err, stint.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	p := &workflowPause{}
	return p, json.Unmarshal(stored, p)
}

func (s *Server) savePause(ctx context.Context, workflow string, p *workflowPause) error {
	stored, err := json.Marshal(p)
	if err != nil {
		return err
	}
	return s.c.SetSetting(ctx, settingPause+workflow, stored)
}

// watchPauses cancels what waits too long in paused workflows, and drops their schedules, until the server ends.
func (s *Server) watchPauses() {
	tick := time.NewTicker(pauseEvery)
	defer tick.Stop()
	var looked time.Time
	for {
		select {
		case <-s.ctx.Done():
			return
		case now := <-tick.C:
			if !s.pauses.Load() && now.Sub(looked) < pauseLook {
				continue
			}
			looked = now
			if err := s.enforcePauses(s.ctx, now); err != nil && s.ctx.Err() == nil {
				s.opts.Logger.Error("hatchet: paused workflows", "err", err)
			}
		}
	}
}

func (s *Server) enforcePauses(ctx context.Context, now time.Time) error {
	s.pauseMu.Lock()
	defer s.pauseMu.Unlock()
	stored, err := s.c.Settings(ctx, settingPause)
	if err != nil {
		return err
	}
	s.pauses.Store(len(stored) > 0)
	for key, value := range stored {
		workflow := strings.TrimPrefix(key, settingPause)
		p := &workflowPause{}
		if err := json.Unmarshal(value, p); err != nil {
			return err
		}
		late, err := s.waiting(ctx, stint.RunFilter{Queues: []string{workflow}, States: []stint.State{stint.StateQueued}},
			func(run *stint.RunInfo) bool {
				since := slices.MaxFunc([]time.Time{p.Since, run.Scheduled, run.Created}, time.Time.Compare)
				return now.Sub(since) > p.TTL
			})
		if err == nil && len(late) > 0 {
			_, err = s.c.CancelRuns(ctx, stint.RunFilter{IDs: late})
		}
		if err == nil && p.DropSchedules {
			err = s.dropSchedules(ctx, workflow, now)
		}
		if err == nil && p.DropCrons {
			err = s.dropCrons(ctx, workflow, p)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// dropNew drops a schedule that is new and about to start, if its workflow is paused and drops them.
func (s *Server) dropNew(ctx context.Context) error {
	if !s.pauses.Load() {
		return nil
	}
	return s.enforcePauses(ctx, time.Now())
}

// dropSchedules deletes the schedules of a workflow that are about to start.
func (s *Server) dropSchedules(ctx context.Context, workflow string, now time.Time) error {
	return s.dropRuns(ctx, stint.RunFilter{Tasks: []string{workflow}, States: []stint.State{stint.StateScheduled}, TopLevel: true},
		func(run *stint.RunInfo) bool { return run.Executions == 0 && run.Scheduled.Before(now.Add(dropAhead)) })
}

// dropRuns cancels and deletes the runs that f selects and that are wanted.
func (s *Server) dropRuns(ctx context.Context, f stint.RunFilter, want func(*stint.RunInfo) bool) error {
	due, err := s.waiting(ctx, f, want)
	if err != nil || len(due) == 0 {
		return err
	}
	if _, err := s.c.CancelRuns(ctx, stint.RunFilter{IDs: due}); err != nil {
		return err
	}
	_, err = s.c.DeleteRuns(ctx, stint.RunFilter{IDs: due})
	return err
}

// waiting returns the IDs of the runs that f selects and are wanted, at most maxSelected.
func (s *Server) waiting(ctx context.Context, f stint.RunFilter, want func(*stint.RunInfo) bool) (ids []string, err error) {
	for f.Limit = maxPage; ; {
		page, err := s.c.ListRuns(ctx, f)
		if err != nil {
			return nil, err
		}
		for i := range page.Runs {
			if want(&page.Runs[i]) && len(ids) < maxSelected {
				ids = append(ids, page.Runs[i].ID)
			}
		}
		if f.Cursor = page.Next; f.Cursor == "" || len(ids) == maxSelected {
			return ids, nil
		}
	}
}
