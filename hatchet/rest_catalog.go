package hatchet

import (
	"cmp"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/stint-dev/stint"
)

type restWorkflow struct {
	Metadata    restMeta              `json:"metadata"`
	Name        string                `json:"name"`
	Description string                `json:"description,omitempty"`
	TenantID    string                `json:"tenantId"`
	Paused      bool                  `json:"isPaused"`
	Versions    []restWorkflowVersion `json:"versions"`
}

type restWorkflowVersion struct {
	Metadata   restMeta `json:"metadata"`
	Version    string   `json:"version"`
	Order      int      `json:"order"`
	WorkflowID string   `json:"workflowId"`
}

type restWorker struct {
	Metadata      restMeta            `json:"metadata"`
	Name          string              `json:"name"`
	Type          string              `json:"type"`
	LastHeartbeat *time.Time          `json:"lastHeartbeatAt,omitempty"`
	Actions       []string            `json:"actions"`
	Status        string              `json:"status"`
	Slots         map[string]restSlot `json:"slotConfig"`
	Labels        []restLabel         `json:"labels"`
	Runtime       map[string]string   `json:"runtimeInfo"`
}

type restSlot struct {
	Available int `json:"available"`
	Limit     int `json:"limit"`
}

type restLabel struct {
	Metadata restMeta `json:"metadata"`
	Key      string   `json:"key"`
	Value    string   `json:"value"`
}

// handleCatalog registers what is asked of workflows and workers.
func (s *Server) handleCatalog(handle func(pattern string, h restHandler)) {
	handle("GET "+tenantPath, func(*http.Request) (any, error) {
		return map[string]any{"metadata": restMeta{ID: s.tenant}, "name": "stint", "slug": "stint", "version": "V1",
			"environment": "local"}, nil
	})
	handle("GET "+tenantPath+"/workflows", s.listWorkflows)
	handle("GET /api/v1/workflows/{workflow}", func(r *http.Request) (any, error) {
		w, err := s.workflowByID(r)
		if err != nil {
			return nil, err
		}
		rw := s.restWorkflow(w)
		p, err := s.pauseOf(r.Context(), w.Name)
		rw.Paused = p != nil
		return rw, err
	})
	handle("DELETE /api/v1/workflows/{workflow}", s.deleteWorkflow)
	handle("PATCH /api/v1/workflows/{workflow}", s.pauseWorkflow)
	handle("GET "+tenantPath+"/worker", s.listWorkers)
	handle("GET /api/v1/workers/{worker}", func(r *http.Request) (any, error) {
		w, err := s.worker(r.Context(), r.PathValue("worker"))
		if err != nil {
			return nil, err
		}
		return s.restWorker(w), nil
	})
	handle("PATCH /api/v1/workers/{worker}", s.pauseWorker)
}

func (s *Server) listWorkflows(r *http.Request) (any, error) {
	p, err := newPageQuery(r.URL.Query())
	if err != nil {
		return nil, err
	}
	if err := s.catalog.refresh(r.Context()); err != nil {
		return nil, err
	}
	name, rows := strings.ToLower(r.URL.Query().Get("name")), []restWorkflow{}
	for _, w := range s.catalog.all() {
		if strings.Contains(strings.ToLower(w.Name), name) {
			rows = append(rows, s.restWorkflow(w))
		}
	}
	slices.SortFunc(rows, func(a, b restWorkflow) int {
		return cmp.Or(cmp.Compare(len(a.Name), len(b.Name)), cmp.Compare(a.Name, b.Name)) // the name itself first
	})
	list := cut(p, rows)
	return map[string]any{"metadata": restMeta{ID: s.tenant}, "rows": list.Rows, "pagination": list.Pagination}, nil
}

func (s *Server) restWorkflow(w *workflow) restWorkflow {
	return restWorkflow{Metadata: restMeta{w.id(), w.Created, w.Updated}, Name: w.Name, Description: w.Description, TenantID: s.tenant,
		Versions: []restWorkflowVersion{{restMeta{w.versionID(), w.Updated, w.Updated}, w.Version, 1, w.id()}}}
}

func (s *Server) workflowByID(r *http.Request) (*workflow, error) {
	id := r.PathValue("workflow")
	for _, w := range s.catalog.all() {
		if w.id() == id {
			return w, nil
		}
	}
	return nil, notFound("no workflow has the ID %.100s", id)
}

// deleteWorkflow ends a definition. Its runs stay.
func (s *Server) deleteWorkflow(r *http.Request) (any, error) {
	w, err := s.workflowByID(r)
	if err != nil {
		return nil, err
	}
	if w.Host {
		return nil, invalid("workflow %.255q is defined by the server's program", w.Name)
	}
	if err := s.unpause(r.Context(), w.Name); err != nil {
		return nil, err
	}
	if err := s.c.DeleteDefinition(r.Context(), w.Name); err != nil && !errors.Is(err, stint.ErrNotFound) {
		return nil, err
	}
	return noContent{}, s.catalog.remove(r.Context(), w)
}

func (s *Server) listWorkers(r *http.Request) (any, error) {
	rows := []restWorker{}
	for _, w := range s.allWorkers() {
		rows = append(rows, s.restWorker(w))
	}
	slices.SortFunc(rows, func(a, b restWorker) int { return b.Metadata.CreatedAt.Compare(a.Metadata.CreatedAt) })
	return map[string]any{"rows": rows, "pagination": pageQuery{limit: maxPage}.page(false)}, nil
}

func (s *Server) restWorker(w *worker) restWorker {
	w.mu.Lock()
	defer w.mu.Unlock()
	r := restWorker{Metadata: restMeta{w.rec.ID, w.rec.Since, w.seen}, Name: w.rec.Name, Type: "SELFHOSTED",
		LastHeartbeat: orNil(w.seen), Actions: w.rec.Actions, Status: "ACTIVE", Slots: map[string]restSlot{},
		Labels: []restLabel{}, Runtime: map[string]string{}}
	switch {
	case w.session != nil && w.rec.Paused:
		r.Status = "PAUSED"
	case w.session == nil || w.claiming == nil:
		r.Status = "INACTIVE"
	}
	for name, p := range w.pools {
		r.Slots[name] = restSlot{p.unused(), p.size}
	}
	for k, v := range w.rec.Labels {
		r.Labels = append(r.Labels, restLabel{restMeta{idOf("label", w.rec.ID, k), w.rec.Since, w.rec.Since}, k, v})
	}
	for k, v := range map[string]string{"sdkVersion": w.rec.SDK, "os": w.rec.OS, "language": restLanguages[w.rec.Language]} {
		if v != "" {
			r.Runtime[k] = v
		}
	}
	return r
}

var restLanguages = map[string]string{"LANGUAGE_GO": "GOLANG", "LANGUAGE_PYTHON": "PYTHON", "LANGUAGE_TYPESCRIPT": "TYPESCRIPT",
	"LANGUAGE_RUBY": "RUBY"}

// pauseWorker pauses a worker, or ends that.
func (s *Server) pauseWorker(r *http.Request) (any, error) {
	w, err := s.worker(r.Context(), r.PathValue("worker"))
	if err != nil {
		return nil, err
	}
	var body struct {
		Paused *bool `json:"isPaused"`
	}
	if err := readJSON(r, &body); err != nil {
		return nil, err
	}
	if body.Paused != nil {
		if err := w.pause(r.Context(), *body.Paused); err != nil {
			return nil, err
		}
	}
	return s.restWorker(w), nil
}
