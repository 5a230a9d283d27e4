package hatchet

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/hatchet/internal/wire"
)

type restCron struct {
	Metadata           restMeta          `json:"metadata"`
	TenantID           string            `json:"tenantId"`
	WorkflowID         string            `json:"workflowId"`
	WorkflowVersionID  string            `json:"workflowVersionId"`
	WorkflowName       string            `json:"workflowName"`
	Cron               string            `json:"cron"`
	Name               string            `json:"name,omitempty"`
	Input              json.RawMessage   `json:"input"`
	AdditionalMetadata map[string]string `json:"additionalMetadata"`
	Enabled            bool              `json:"enabled"`
	Method             string            `json:"method"` // DEFAULT: the definition declares it
	Priority           int               `json:"priority,omitempty"`
}

type restSchedule struct {
	Metadata           restMeta          `json:"metadata"`
	TenantID           string            `json:"tenantId"`
	WorkflowID         string            `json:"workflowId"`
	WorkflowVersionID  string            `json:"workflowVersionId"`
	WorkflowName       string            `json:"workflowName"`
	TriggerAt          time.Time         `json:"triggerAt"`
	Input              json.RawMessage   `json:"input"`
	AdditionalMetadata map[string]string `json:"additionalMetadata"`
	Method             string            `json:"method"`
	Priority           int               `json:"priority,omitempty"`
}

// A restStart is what a cron or a schedule starts.
type restStart struct {
	Input      json.RawMessage `json:"input"`
	Metadata   json.RawMessage `json:"additionalMetadata"`
	Priority   *int32          `json:"priority"`
	Name       string          `json:"cronName"`
	Expression string          `json:"cronExpression"`
	At         time.Time       `json:"triggerAt"`
}

// handleCrons registers what is asked of crons and of schedules.
func (s *Server) handleCrons(handle func(pattern string, h restHandler)) {
	handle("POST "+tenantPath+"/workflows/{workflow}/{what}", s.startByPath)
	handle("GET "+tenantPath+"/workflows/crons", s.listCrons)
	handle("GET "+tenantPath+"/workflows/crons/{cron}", func(r *http.Request) (any, error) {
		c, err := s.cronByID(r)
		if err != nil {
			return nil, err
		}
		return s.restCron(c), nil
	})
	handle("PATCH "+tenantPath+"/workflows/crons/{cron}", s.updateCron)
	handle("DELETE "+tenantPath+"/workflows/crons/{cron}", func(r *http.Request) (any, error) {
		c, err := s.cronByID(r)
		if err != nil {
			return nil, err
		}
		return noContent{}, s.c.DeleteCron(r.Context(), c.Name)
	})
	handle("GET "+tenantPath+"/workflows/scheduled", s.listSchedules)
	handle("GET "+tenantPath+"/workflows/scheduled/{run}", s.changeSchedule(func(*http.Request, *stint.RunInfo) error { return nil }))
	handle("PATCH "+tenantPath+"/workflows/scheduled/{run}", s.changeSchedule(func(r *http.Request, info *stint.RunInfo) error {
		var body restStart
		if err := readJSON(r, &body); err != nil {
			return err
		}
		return s.c.Reschedule(r.Context(), info.ID, body.At)
	}))
	handle("POST "+tenantPath+"/workflows/scheduled/bulk-delete", s.deleteSchedules)
	handle("POST "+tenantPath+"/workflows/scheduled/bulk-update", s.updateSchedules)
	handle("DELETE "+tenantPath+"/workflows/scheduled/{run}", func(r *http.Request) (any, error) {
		info, err := s.run(r.Context(), r.PathValue("run"))
		if err != nil {
			return nil, err
		}
		return noContent{}, stint.RunByID[any](s.c, info.ID).Cancel(r.Context())
	})
}

// startByPath makes a cron or a schedule of a workflow, or has a cron start a run: .../workflows/crons/ID, a path that
// http.ServeMux does not tell from .../workflows/NAME/crons.
func (s *Server) startByPath(r *http.Request) (any, error) {
	switch what := r.PathValue("what"); {
	case what == "crons":
		return s.createCron(r)
	case what == "scheduled":
		return s.createSchedule(r)
	case r.PathValue("workflow") == "crons":
		r.SetPathValue("cron", what)
		return s.triggerCron(r)
	default:
		return nil, pathNotServed(r)
	}
}

// request returns what is started as a call of gRPC says it.
func (b *restStart) request(workflow string) *wire.TriggerWorkflowRequest {
	text := func(v json.RawMessage) string {
		if string(v) == "null" {
			return ""
		}
		return string(v)
	}
	meta := text(b.Metadata)
	return &wire.TriggerWorkflowRequest{Name: workflow, Input: text(b.Input), AdditionalMetadata: &meta, Priority: b.Priority}
}

// cronName returns stint's name of a cron, which all workflows share.
func cronName(workflow, name string) string { return workflow + ":" + name }

// createCron makes a cron, or replaces the one of its name.
func (s *Server) createCron(r *http.Request) (any, error) {
	var body restStart
	if err := readJSON(r, &body); err != nil {
		return nil, err
	}
	workflow := r.PathValue("workflow")
	run, err := s.newRun(body.request(workflow))
	if err != nil {
		return nil, err
	}
	if body.Name == "" {
		return nil, invalid("cronName is empty")
	}
	var opts []stint.CronOption
	for _, o := range run.Options {
		if c, ok := o.(stint.CronOption); ok { // metadata and priority: all that there can be
			opts = append(opts, c)
		}
	}
	name := cronName(workflow, body.Name)
	if err := s.c.CronJSON(r.Context(), workflow, name, body.Expression, run.Input, opts...); err != nil {
		return nil, invalidRun(err)
	}
	if err := s.pauseNewCrons(r.Context(), workflow); err != nil {
		return nil, err
	}
	c, err := s.cron(r, func(c *stint.CronInfo) bool { return c.Name == name })
	if err != nil {
		return nil, err
	}
	return s.restCron(c), nil
}

func (s *Server) restCron(c *stint.CronInfo) restCron {
	name, own := strings.CutPrefix(c.Name, c.Task+":")
	if !own {
		name = c.Name
	}
	rc := restCron{Metadata: restMeta{ID: idOf("cron", c.Name)}, TenantID: s.tenant, WorkflowID: idOf("workflow", c.Task),
		WorkflowVersionID: s.versionOf(c.Task), WorkflowName: c.Task, Cron: c.Spec, Name: name, Input: asObject(c.Input),
		AdditionalMetadata: shownMetadata(c.Metadata), Enabled: !c.Paused, Method: "API", Priority: c.Priority}
	if c.Declared {
		rc.Method = "DEFAULT"
	}
	return rc
}

// versionOf returns the ID of a workflow's newest version.
func (s *Server) versionOf(workflow string) string {
	if w := s.catalog.workflow(workflow); w != nil {
		return w.versionID()
	}
	return idOf("version", workflow) // of the host
}

func (s *Server) listCrons(r *http.Request) (any, error) {
	q := r.URL.Query()
	p, err := newPageQuery(q)
	if err != nil {
		return nil, err
	}
	meta, err := pairsOf(q["additionalMetadata"])
	if err != nil {
		return nil, err
	}
	all, err := s.c.ListCrons(r.Context())
	if err != nil {
		return nil, err
	}
	rows := []restCron{}
	for i := range all {
		c := s.restCron(&all[i])
		if wants(q.Get("workflowId"), c.WorkflowID) && wants(q.Get("workflowName"), c.WorkflowName) && wants(q.Get("cronName"), c.Name) &&
			hasAll(c.AdditionalMetadata, meta) {
			rows = append(rows, c)
		}
	}
	return cut(p, rows), nil
}

// wants reports whether a parameter of a query is not given, or is v.
func wants(param, v string) bool { return param == "" || param == v }

func hasAll(m, want map[string]string) bool {
	for k, v := range want {
		if m[k] != v {
			return false
		}
	}
	return true
}

func (s *Server) cronByID(r *http.Request) (*stint.CronInfo, error) {
	id := r.PathValue("cron")
	return s.cron(r, func(c *stint.CronInfo) bool { return idOf("cron", c.Name) == id })
}

func (s *Server) cron(r *http.Request, is func(*stint.CronInfo) bool) (*stint.CronInfo, error) {
	all, err := s.c.ListCrons(r.Context())
	if err != nil {
		return nil, err
	}
	for i := range all {
		if is(&all[i]) {
			return &all[i], nil
		}
	}
	return nil, notFound("no cron has the ID %.100s", r.PathValue("cron"))
}

// updateCron pauses a cron, or ends that.
func (s *Server) updateCron(r *http.Request) (any, error) {
	c, err := s.cronByID(r)
	if err != nil {
		return nil, err
	}
	var body struct {
		Enabled *bool `json:"enabled"`
	}
	if err := readJSON(r, &body); err != nil {
		return nil, err
	}
	if body.Enabled != nil && *body.Enabled == c.Paused {
		change := s.c.PauseCron
		if *body.Enabled {
			change = s.c.ResumeCron
		}
		if err := change(r.Context(), c.Name); err != nil {
			return nil, err
		}
	}
	return noContent{}, nil
}

// triggerCron starts a run as the cron does.
func (s *Server) triggerCron(r *http.Request) (any, error) {
	c, err := s.cronByID(r)
	if err != nil {
		return nil, err
	}
	run, err := s.c.EnqueueJSON(r.Context(), c.Task, c.Input, stint.WithMetadata(c.Metadata), stint.WithPriority(c.Priority))
	if err != nil {
		return nil, invalidRun(err)
	}
	return map[string]string{"externalId": run.ID()}, nil
}

func (s *Server) createSchedule(r *http.Request) (any, error) {
	var body restStart
	if err := readJSON(r, &body); err != nil {
		return nil, err
	}
	if body.At.IsZero() {
		return nil, invalid("triggerAt is missing")
	}
	got, err := s.schedule(r.Context(), body.request(r.PathValue("workflow")), []*timestamppb.Timestamp{timestamppb.New(body.At)})
	if err != nil {
		return nil, err
	}
	info, err := s.run(r.Context(), got[0].ID)
	if err != nil {
		return nil, err
	}
	return s.restSchedule(info), s.dropNew(r.Context())
}

func (s *Server) restSchedule(info *stint.RunInfo) restSchedule {
	return restSchedule{Metadata: restMeta{info.ID, info.Created, updated(info)}, TenantID: s.tenant,
		WorkflowID: idOf("workflow", info.Task), WorkflowVersionID: s.versionOf(info.Task), WorkflowName: info.Task,
		TriggerAt: info.Scheduled, Input: asObject(info.Input), AdditionalMetadata: shownMetadata(info.Metadata),
		Method: "API", Priority: info.Priority}
}

// changeSchedule returns the handler that changes a schedule, and answers with it.
func (s *Server) changeSchedule(change func(*http.Request, *stint.RunInfo) error) restHandler {
	return func(r *http.Request) (any, error) {
		info, err := s.run(r.Context(), r.PathValue("run"))
		if err == nil {
			err = change(r, info)
		}
		if err == nil {
			info, err = s.run(r.Context(), info.ID)
		}
		if err != nil {
			return nil, err
		}
		return s.restSchedule(info), nil
	}
}

type restBulkError struct {
	ID    string `json:"id,omitempty"`
	Error string `json:"error"`
}

// deleteSchedules cancels runs that have not ended, and says of each other why it did not.
func (s *Server) deleteSchedules(r *http.Request) (any, error) {
	var body struct {
		IDs    []string        `json:"scheduledWorkflowRunIds"`
		Filter *scheduleFilter `json:"filter"`
	}
	err := readJSON(r, &body)
	if err == nil && body.Filter != nil {
		if len(body.IDs) > 0 {
			return nil, invalid("want IDs or a filter, not both")
		}
		if body.IDs, err = s.schedulesBy(r, body.Filter); err == nil && len(body.IDs) == 0 {
			return map[string]any{"deletedIds": []string{}, "errors": []restBulkError{}}, nil
		}
	}
	if err != nil {
		return nil, err
	}
	done, failed, err := eachOf(body.IDs, func(id string) error { return stint.RunByID[any](s.c, id).Cancel(r.Context()) })
	return map[string]any{"deletedIds": done, "errors": failed}, err
}

// A scheduleFilter selects runs that are to start at a time.
type scheduleFilter struct {
	Workflow string   `json:"workflowId"`
	Run      string   `json:"parentWorkflowRunId"`
	Task     string   `json:"parentStepRunId"`
	Metadata []string `json:"additionalMetadata"`
}

// schedulesBy returns the IDs of the runs that a filter selects, which must say something.
func (s *Server) schedulesBy(r *http.Request, by *scheduleFilter) (ids []string, err error) {
	f := stint.RunFilter{States: []stint.State{stint.StateScheduled}, Limit: maxPage}
	if f.Metadata, err = pairsOf(by.Metadata); err != nil {
		return nil, err
	}
	if f.ParentID = by.Task; by.Task == "" {
		f.ParentID = by.Run
	}
	if by.Workflow != "" {
		f.Tasks = s.names([]string{by.Workflow})
	}
	if by.Workflow == "" && f.ParentID == "" && len(f.Metadata) == 0 {
		return nil, invalid("the filter selects all schedules: want a workflow, a parent or metadata")
	}
	for {
		page, err := s.c.ListRuns(r.Context(), f)
		if err != nil {
			return nil, err
		}
		for i := range page.Runs {
			if page.Runs[i].Executions == 0 {
				ids = append(ids, page.Runs[i].ID)
			}
		}
		if len(ids) > maxBulk {
			return nil, invalid("the filter selects more than %d schedules: narrow it", maxBulk)
		}
		if f.Cursor = page.Next; f.Cursor == "" {
			return ids, nil
		}
	}
}

// updateSchedules moves runs that have not started, and says of each other why it did not.
func (s *Server) updateSchedules(r *http.Request) (any, error) {
	var body struct {
		Updates []struct {
			ID string    `json:"id"`
			At time.Time `json:"triggerAt"`
		} `json:"updates"`
	}
	if err := readJSON(r, &body); err != nil {
		return nil, err
	}
	var ids []string
	times := map[string]time.Time{}
	for _, u := range body.Updates {
		ids, times[u.ID] = append(ids, u.ID), u.At
	}
	done, failed, err := eachOf(ids, func(id string) error { return s.c.Reschedule(r.Context(), id, times[id]) })
	return map[string]any{"updatedIds": done, "errors": failed}, err
}

// eachOf calls change with each ID, and returns those that it changed and the errors of the others.
func eachOf(ids []string, change func(id string) error) (done []string, failed []restBulkError, err error) {
	if len(ids) < 1 || len(ids) > maxBulk {
		return nil, nil, invalid("%d IDs: want 1 to %d", len(ids), maxBulk)
	}
	done, failed = []string{}, []restBulkError{}
	for _, id := range ids {
		if err := change(id); err != nil {
			failed = append(failed, restBulkError{id, err.Error()})
		} else {
			done = append(done, id)
		}
	}
	return done, failed, nil
}

// listSchedules lists the runs that are to start at a time and have not.
func (s *Server) listSchedules(r *http.Request) (any, error) {
	q := r.URL.Query()
	p, err := newPageQuery(q)
	if err != nil {
		return nil, err
	}
	if st := q["statuses"]; len(st) > 0 && !slices.Contains(st, "SCHEDULED") {
		return cut(p, []restSchedule{}), nil // those that have started are runs like others
	}
	f := stint.RunFilter{States: []stint.State{stint.StateScheduled}, TopLevel: true, Limit: maxPage}
	if f.Metadata, err = pairsOf(q["additionalMetadata"]); err != nil {
		return nil, err
	}
	if id := q.Get("workflowId"); id != "" {
		f.Tasks = s.names([]string{id})
	}
	rows := []restSchedule{}
	for {
		page, err := s.c.ListRuns(r.Context(), f)
		if err != nil {
			return nil, err
		}
		for i := range page.Runs {
			if page.Runs[i].Executions == 0 { // else it waits for its next attempt
				rows = append(rows, s.restSchedule(&page.Runs[i]))
			}
		}
		if f.Cursor = page.Next; f.Cursor == "" || len(rows) > p.offset+p.limit {
			return cut(p, rows), nil
		}
	}
}
