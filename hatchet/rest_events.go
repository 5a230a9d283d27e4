package hatchet

import (
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/stint-dev/stint"
)

type restEvent struct {
	Metadata           restMeta          `json:"metadata"`
	Key                string            `json:"key"`
	TenantID           string            `json:"tenantId"`
	Payload            json.RawMessage   `json:"payload"`
	AdditionalMetadata map[string]string `json:"additionalMetadata"`
	Scope              string            `json:"scope,omitempty"`
	SeenAt             time.Time         `json:"seenAt"`
	Triggered          []restTriggered   `json:"triggeredRuns"`
	Summary            map[string]int    `json:"workflowRunSummary"`
	Webhook            string            `json:"triggeringWebhookName,omitempty"`
}

type restTriggered struct {
	RunID string `json:"workflowRunId"`
}

// handleEvents registers what is asked of events.
func (s *Server) handleEvents(handle func(pattern string, h restHandler)) {
	handle("GET "+listPath+"/events", s.listEvents)
	handle("GET "+listPath+"/events/{event}", func(r *http.Request) (any, error) {
		rows, _, err := s.findEvents(r, eventQuery{ids: []string{r.PathValue("event")}}, pageQuery{limit: 1})
		if err != nil {
			return nil, err
		}
		if len(rows) == 0 {
			return nil, notFound("no event has the ID %.100s", r.PathValue("event"))
		}
		return rows[0], nil
	})
}

// An eventQuery says which events are asked for.
type eventQuery struct {
	ids, keys    []string // nil: any
	scopes       []string
	workflows    []string // names, of which it started a run; nil: any
	statuses     []string // that a run which it started has
	metadata     map[string]string
	since, until time.Time
}

func newEventQuery(q url.Values) (e eventQuery, err error) {
	if e.since, err = timeOf(q, "since"); err != nil {
		return e, err
	}
	if e.until, err = timeOf(q, "until"); err != nil {
		return e, err
	}
	e.ids, e.keys = q["eventIds"], q["keys"]
	e.scopes, e.statuses = q["scopes"], q["workflowRunStatuses"]
	if _, err := states(e.statuses); err != nil {
		return e, err
	}
	e.metadata, err = pairsOf(q["additionalMetadata"])
	return e, err
}

// matches reports whether an event is asked for.
func (q *eventQuery) matches(e *stint.EventInfo) bool {
	for k, v := range q.metadata {
		if e.Metadata[k] != v {
			return false
		}
	}
	return (q.ids == nil || slices.Contains(q.ids, e.ID)) && (q.keys == nil || slices.Contains(q.keys, e.Key)) &&
		isOne(q.scopes, e.Scope) && !e.Published.Before(q.since) && (q.until.IsZero() || e.Published.Before(q.until))
}

func (s *Server) listEvents(r *http.Request) (any, error) {
	p, err := newPageQuery(r.URL.Query())
	if err != nil {
		return nil, err
	}
	q, err := newEventQuery(r.URL.Query())
	if err != nil {
		return nil, err
	}
	if ids := r.URL.Query()["workflowIds"]; len(ids) > 0 {
		q.workflows = s.names(ids)
	}
	rows, more, err := s.findEvents(r, q, p)
	if err != nil {
		return nil, err
	}
	return restList{p.page(more), rows}, nil
}

// findEvents returns a page of events, newest first, and whether there are more.
func (s *Server) findEvents(r *http.Request, q eventQuery, p pageQuery) (rows []*restEvent, more bool, err error) {
	f := stint.EventFilter{Limit: maxPage}
	if len(q.keys) == 1 {
		f.Key = q.keys[0]
	}
	rows = []*restEvent{}
	for skip := p.offset; ; {
		page, err := s.c.ListEvents(r.Context(), f)
		if err != nil {
			return nil, false, err
		}
		for i := range page.Events {
			switch e := &page.Events[i]; {
			case e.Published.Before(q.since):
				return rows, false, nil // as are all that follow
			case !q.matches(e):
			default:
				row, err := s.restEvent(r, e, &q)
				switch {
				case err != nil:
					return nil, false, err
				case row == nil:
				case skip > 0:
					skip--
				case len(rows) == p.limit:
					return rows, true, nil
				default:
					rows = append(rows, row)
				}
			}
		}
		if f.Cursor = page.Next; f.Cursor == "" {
			return rows, false, nil
		}
	}
}

// restEvent returns an event as REST lists it, with how the runs that it started went; nil: none of them is asked for.
func (s *Server) restEvent(r *http.Request, e *stint.EventInfo, q *eventQuery) (*restEvent, error) {
	ev := &restEvent{Metadata: restMeta{e.ID, e.Published, e.Published}, Key: e.Key, TenantID: s.tenant, Payload: asObject(e.Payload),
		AdditionalMetadata: shownMetadata(e.Metadata), Scope: e.Scope, SeenAt: e.Published,
		Webhook: e.Metadata[metaWebhook], Triggered: []restTriggered{},
		Summary: map[string]int{"running": 0, "queued": 0, "succeeded": 0, "failed": 0, "cancelled": 0}}
	asked := q.workflows == nil && len(q.statuses) == 0
	if len(e.Started) == 0 {
		if !asked {
			return nil, nil
		}
		return ev, nil
	}
	page, err := s.c.ListRuns(r.Context(), stint.RunFilter{IDs: e.Started, Limit: maxPage})
	if err != nil {
		return nil, err
	}
	names := map[string]string{"RUNNING": "running", "QUEUED": "queued", "COMPLETED": "succeeded", "FAILED": "failed",
		"CANCELLED": "cancelled"}
	for i := range page.Runs {
		ev.Triggered = append(ev.Triggered, restTriggered{page.Runs[i].ID})
		status := statusText(page.Runs[i].State)
		ev.Summary[names[status]]++
		asked = asked || (q.workflows == nil || slices.Contains(q.workflows, page.Runs[i].Task)) && isOne(q.statuses, status)
	}
	if !asked {
		return nil, nil
	}
	return ev, nil
}
