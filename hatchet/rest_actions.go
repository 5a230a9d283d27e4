package hatchet

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/hatchet/internal/wire"
)

// A restSelection says which runs a request acts on.
type restSelection struct {
	IDs    []string    `json:"externalIds"`
	Filter *restFilter `json:"filter"`
}

type restFilter struct {
	Since     time.Time  `json:"since"`
	Until     *time.Time `json:"until"`
	Statuses  []string   `json:"statuses"`
	Workflows []string   `json:"workflowIds"`
	Metadata  []string   `json:"additionalMetadata"`
}

const maxSelected = 10_000

// A runAction does something to the run with an ID, and reports whether that changed it.
type runAction func(ctx context.Context, id string) (bool, error)

// actOnRuns does act to each run that a request selects, and returns the IDs of those that it changed.
func (s *Server) actOnRuns(r *http.Request, act runAction) (any, error) {
	var sel restSelection
	if err := readJSON(r, &sel); err != nil {
		return nil, err
	}
	ids, err := s.actOn(r.Context(), &sel, act)
	if err != nil {
		return nil, err
	}
	return map[string]any{"ids": ids}, nil
}

func (s *Server) actOn(ctx context.Context, sel *restSelection, act runAction) ([]string, error) {
	ids, err := s.selected(ctx, sel)
	if err != nil {
		return nil, err
	}
	done := []string{}
	for _, id := range ids {
		changed, err := act(ctx, id)
		if err != nil {
			return nil, err
		}
		if changed {
			done = append(done, id)
		}
	}
	return done, nil
}

// selected returns the IDs of the runs that are selected.
func (s *Server) selected(ctx context.Context, sel *restSelection) ([]string, error) {
	switch {
	case len(sel.IDs) > 0 && sel.Filter != nil:
		return nil, invalid("want external IDs or a filter, not both")
	case len(sel.IDs) > maxSelected:
		return nil, invalid("%d external IDs: want at most %d", len(sel.IDs), maxSelected)
	case sel.Filter == nil:
		return sel.IDs, nil
	}
	f, err := s.runFilter(sel.Filter)
	if err != nil {
		return nil, err
	}
	var ids []string
	for f.Limit = maxPage; ; {
		page, err := s.c.ListRuns(ctx, f)
		if err != nil {
			return nil, err
		}
		for i := range page.Runs {
			ids = append(ids, page.Runs[i].ID)
		}
		if len(ids) > maxSelected {
			return nil, invalid("the filter selects more than %d runs: narrow it", maxSelected)
		}
		if page.Next == "" {
			return ids, nil
		}
		f.Cursor = page.Next
	}
}

func (s *Server) runFilter(r *restFilter) (f stint.RunFilter, err error) {
	f = stint.RunFilter{Since: r.Since, TopLevel: true}
	if r.Until != nil {
		f.Until = *r.Until
	}
	if len(r.Workflows) > 0 {
		f.Tasks = s.names(r.Workflows)
	}
	if f.States, err = states(r.Statuses); err != nil {
		return f, err
	}
	if f.Metadata, err = runMetadata(r.Metadata); err != nil {
		return f, err
	}
	for _, pair := range r.Metadata { // all of them are wanted
		if k, v, _ := strings.Cut(pair, ":"); f.Metadata[storedKey(k)] != v {
			return f, invalid("metadata %.100q is given as %.100q too, and no run has both", pair, f.Metadata[storedKey(k)])
		}
	}
	return f, nil
}

// cancelRun cancels a run, or what is under way of it when it has failed, and reports whether it had not ended.
func (s *Server) cancelRun(ctx context.Context, id string) (bool, error) {
	info, err := s.run(ctx, id)
	if err != nil {
		return false, err
	}
	if final(info.State) {
		if id = onFailureRun(info); id == "" {
			return false, nil
		}
	}
	return true, stint.RunByID[any](s.c, id).Cancel(ctx)
}

// cancelGrace bounds the wait of a replay for the end of a run that was canceled.
const cancelGrace = 5 * time.Second

// replayRun runs a run again, of a workflow all its tasks, and reports whether it does. One that its worker has unloaded
// goes on, one that a worker has is left alone.
func (s *Server) replayRun(ctx context.Context, id string) (bool, error) {
	info, err := s.run(ctx, id)
	if err == nil && info.Canceling {
		ending, cancel := context.WithTimeout(ctx, cancelGrace)
		defer cancel()
		if err = s.awaitEnd(ending, id); err == nil || ctx.Err() == nil {
			info, err = s.run(ctx, id)
		}
	}
	if err != nil {
		return false, err
	}
	if s.evicted(info) {
		return s.restore(ctx, id)
	}
	n, err := s.c.ReplayRuns(ctx, stint.RunFilter{IDs: []string{info.ID}, Whole: true, States: []stint.State{stint.StateSucceeded,
		stint.StateFailed, stint.StateCanceled, stint.StateSkipped, stint.StateBlocked}})
	return n > 0, err
}

// branch runs a durable run again from a node: what was recorded before it is kept.
func (s *Server) branch(r *http.Request) (any, error) {
	var body struct {
		Run    string `json:"taskExternalId"`
		Node   int64  `json:"nodeId"`
		Branch int64  `json:"branchId"`
	}
	if err := readJSON(r, &body); err != nil {
		return nil, err
	}
	if err := s.branchAt(r.Context(), body.Run, body.Node); err != nil {
		return nil, err
	}
	return map[string]any{"taskExternalId": body.Run, "nodeId": body.Node, "branchId": body.Branch + 1}, nil
}

// BranchDurableTask is branch as a call of gRPC.
func (s rpc) BranchDurableTask(ctx context.Context, r *wire.BranchDurableTaskRequest) (*wire.BranchDurableTaskResponse, error) {
	if err := s.branchAt(ctx, r.TaskExternalId, r.NodeId); err != nil {
		return nil, err
	}
	return &wire.BranchDurableTaskResponse{TaskExternalId: r.TaskExternalId, NodeId: r.NodeId, BranchId: r.BranchId + 1}, nil
}

func (s *Server) branchAt(ctx context.Context, run string, node int64) error {
	if _, err := s.run(ctx, run); err != nil {
		return err
	}
	entries, err := s.c.Journal(ctx, run)
	if err != nil {
		return err
	}
	at := ""
	for i := range entries {
		if n, ok := nodeOf(&entries[i]); ok && n.id <= node && !n.later {
			at = entries[i].Address // of several children it is one operation
		}
	}
	if at == "" || node < 1 {
		return notFound("run %s has no node %d", run, node)
	}
	return s.c.RestartAt(ctx, run, at)
}
