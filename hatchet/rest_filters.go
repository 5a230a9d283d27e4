package hatchet

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/stint-dev/stint"
)

type restFilterRow struct {
	Metadata   restMeta        `json:"metadata"`
	TenantID   string          `json:"tenantId"`
	WorkflowID string          `json:"workflowId"`
	Scope      string          `json:"scope"`
	Expression string          `json:"expression"`
	Payload    json.RawMessage `json:"payload"`
}

type restRateLimit struct {
	Key        string    `json:"key"`
	TenantID   string    `json:"tenantId"`
	Limit      int       `json:"limitValue"`
	Value      int       `json:"value"` // units that are left
	Window     string    `json:"window"`
	LastRefill time.Time `json:"lastRefill"`
}

// handleFilters registers what is asked of filters and rate limits.
func (s *Server) handleFilters(handle func(pattern string, h restHandler)) {
	handle("GET "+listPath+"/filters", s.listFilters)
	handle("POST "+listPath+"/filters", s.createFilter)
	handle("GET "+listPath+"/filters/{filter}", func(r *http.Request) (any, error) {
		f, err := s.filter(r.Context(), r.PathValue("filter"))
		if err != nil {
			return nil, err
		}
		return s.restFilter(f), nil
	})
	handle("PATCH "+listPath+"/filters/{filter}", s.updateFilter)
	handle("DELETE "+listPath+"/filters/{filter}", func(r *http.Request) (any, error) {
		f, err := s.filter(r.Context(), r.PathValue("filter"))
		if err == nil {
			err = s.c.DeleteFilter(r.Context(), f.ID)
		}
		if err != nil {
			return nil, err
		}
		return s.restFilter(f), nil
	})
	handle("GET "+tenantPath+"/rate-limits", s.listRateLimits)
}

// A filter's number in the database is the end of its UUID.
const filterIDs = "f1fe7000-0000-4000-8000-"

func filterID(n int64) string { return fmt.Sprintf("%s%012x", filterIDs, n) }

// filter returns the filter with an ID.
func (s *Server) filter(ctx context.Context, id string) (*stint.TriggerFilter, error) {
	end, ok := strings.CutPrefix(strings.ToLower(id), filterIDs)
	n, err := strconv.ParseInt(end, 16, 64)
	if ok && err == nil && n > 0 {
		page, err := s.c.FilterPage(ctx, stint.FilterQuery{Limit: 1, Cursor: strconv.FormatInt(n-1, 10)})
		if err != nil {
			return nil, err
		}
		if len(page.Filters) > 0 && page.Filters[0].ID == n {
			return &page.Filters[0], nil
		}
	}
	return nil, notFound("no filter has the ID %.100s", id)
}

func (s *Server) restFilter(f *stint.TriggerFilter) restFilterRow {
	payload, _ := f.Payload.(json.RawMessage)
	return restFilterRow{Metadata: restMeta{ID: filterID(f.ID)}, TenantID: s.tenant, WorkflowID: idOf("workflow", f.Task), Scope: f.Scope,
		Expression: f.Expression, Payload: asObject(payload)}
}

func (s *Server) listFilters(r *http.Request) (any, error) {
	q := r.URL.Query()
	p, err := newPageQuery(q)
	if err != nil {
		return nil, err
	}
	all, err := s.c.ListFilters(r.Context(), "")
	if err != nil {
		return nil, err
	}
	rows := []restFilterRow{}
	for i := range all {
		f := s.restFilter(&all[i])
		if isOne(q["workflowIds"], f.WorkflowID) && isOne(q["scopes"], f.Scope) {
			rows = append(rows, f)
		}
	}
	return cut(p, rows), nil
}

func (s *Server) createFilter(r *http.Request) (any, error) {
	var body struct {
		Workflow   string          `json:"workflowId"`
		Scope      string          `json:"scope"`
		Expression string          `json:"expression"`
		Payload    json.RawMessage `json:"payload"`
	}
	if err := readJSON(r, &body); err != nil {
		return nil, err
	}
	if err := s.catalog.refresh(r.Context()); err != nil {
		return nil, err
	}
	names := s.names([]string{body.Workflow})
	if len(names) == 0 {
		return nil, notFound("no workflow has the ID %.100s", body.Workflow)
	}
	f := stint.TriggerFilter{Task: names[0], Scope: body.Scope, Expression: body.Expression, Payload: asObject(body.Payload)}
	id, err := s.c.CreateFilter(r.Context(), f)
	if err != nil {
		return nil, invalidRun(err)
	}
	f.ID = id
	return s.restFilter(&f), nil
}

// updateFilter changes what a request names of a filter.
func (s *Server) updateFilter(r *http.Request) (any, error) {
	f, err := s.filter(r.Context(), r.PathValue("filter"))
	if err != nil {
		return nil, err
	}
	var body struct {
		Scope      *string         `json:"scope"`
		Expression *string         `json:"expression"`
		Payload    json.RawMessage `json:"payload"`
	}
	if err := readJSON(r, &body); err != nil {
		return nil, err
	}
	if body.Scope != nil {
		f.Scope = *body.Scope
	}
	if body.Expression != nil {
		f.Expression = *body.Expression
	}
	if body.Payload != nil {
		f.Payload = asObject(body.Payload)
	}
	if err := s.c.UpdateFilter(r.Context(), *f); err != nil {
		return nil, invalidRun(err)
	}
	return s.restFilter(f), nil
}

func (s *Server) listRateLimits(r *http.Request) (any, error) {
	q := r.URL.Query()
	p, err := newPageQuery(q)
	if err != nil {
		return nil, err
	}
	all, err := s.c.ListRateLimits(r.Context())
	if err != nil {
		return nil, err
	}
	rows, now := []restRateLimit{}, time.Now()
	for _, l := range all {
		if strings.Contains(l.Key, q.Get("search")) {
			rows = append(rows, restRateLimit{Key: l.Key, TenantID: s.tenant, Limit: l.Burst, Value: int(l.Tokens),
				Window: windowOf(l.Limit, l.Burst).String(), LastRefill: now})
		}
	}
	return cut(p, rows), nil
}

// isOne reports whether a list of a query is not given, or has v.
func isOne(list []string, v string) bool { return len(list) == 0 || slices.Contains(list, v) }
