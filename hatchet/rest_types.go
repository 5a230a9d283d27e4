package hatchet

import (
	"encoding/json"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// The types of REST's answers, with the protocol's names of their fields.

type restMeta struct {
	ID        string    `json:"id"`
	CreatedAt time.Time `json:"createdAt"`
	UpdatedAt time.Time `json:"updatedAt"`
}

type restPage struct {
	Current int `json:"current_page"`
	Next    int `json:"next_page"`
	Pages   int `json:"num_pages"`
}

type restList struct {
	Pagination restPage `json:"pagination"`
	Rows       any      `json:"rows"`
}

type restTask struct {
	Metadata           restMeta          `json:"metadata"`
	ID                 string            `json:"id"`
	ActionID           string            `json:"actionId,omitempty"`
	AdditionalMetadata map[string]string `json:"additionalMetadata"`
	Attempt            int               `json:"attempt"`
	Children           []restTask        `json:"children,omitempty"`
	CreatedAt          time.Time         `json:"createdAt"`
	DisplayName        string            `json:"displayName"`
	Duration           *int64            `json:"duration,omitempty"`
	ErrorMessage       string            `json:"errorMessage,omitempty"`
	FinishedAt         *time.Time        `json:"finishedAt,omitempty"`
	IdempotencyKey     string            `json:"idempotencyKey,omitempty"`
	Input              json.RawMessage   `json:"input"`
	IsDurable          bool              `json:"isDurable"`
	IsEvicted          bool              `json:"isEvicted"`
	SpawnedChildren    int               `json:"numSpawnedChildren"`
	Output             json.RawMessage   `json:"output"`
	ParentTask         string            `json:"parentTaskExternalId,omitempty"`
	RetryCount         int               `json:"retryCount"`
	StartedAt          *time.Time        `json:"startedAt,omitempty"`
	Status             string            `json:"status"`
	StepID             string            `json:"stepId,omitempty"`
	TaskExternalID     string            `json:"taskExternalId"`
	TaskID             int64             `json:"taskId"`
	TaskInsertedAt     time.Time         `json:"taskInsertedAt"`
	TenantID           string            `json:"tenantId"`
	Type               string            `json:"type"`
	WorkflowID         string            `json:"workflowId"`
	WorkflowName       string            `json:"workflowName"`
	WorkflowRunID      string            `json:"workflowRunExternalId"`
	WorkflowVersionID  string            `json:"workflowVersionId,omitempty"`
}

type restRun struct {
	Metadata           restMeta          `json:"metadata"`
	ID                 string            `json:"id"`
	Status             string            `json:"status"`
	StartedAt          *time.Time        `json:"startedAt,omitempty"`
	FinishedAt         *time.Time        `json:"finishedAt,omitempty"`
	CreatedAt          time.Time         `json:"createdAt"`
	Duration           *int64            `json:"duration,omitempty"`
	TenantID           string            `json:"tenantId"`
	AdditionalMetadata map[string]string `json:"additionalMetadata"`
	DisplayName        string            `json:"displayName"`
	WorkflowID         string            `json:"workflowId"`
	WorkflowVersionID  string            `json:"workflowVersionId,omitempty"`
	Input              json.RawMessage   `json:"input"`
	Output             json.RawMessage   `json:"output"`
	ErrorMessage       string            `json:"errorMessage,omitempty"`
	ParentTask         string            `json:"parentTaskExternalId,omitempty"`
}

type restShape struct {
	TaskExternalID string   `json:"taskExternalId"`
	StepID         string   `json:"stepId"`
	TaskName       string   `json:"taskName"`
	Children       []string `json:"childrenStepIds"`
}

type restTaskEvent struct {
	ID           int64     `json:"id"`
	TaskID       string    `json:"taskId"`
	Timestamp    time.Time `json:"timestamp"`
	Type         string    `json:"eventType"`
	Message      string    `json:"message"`
	ErrorMessage string    `json:"errorMessage,omitempty"`
	WorkerID     string    `json:"workerId,omitempty"`
	TaskName     string    `json:"taskDisplayName"`
	RetryCount   int       `json:"retryCount"`
	Attempt      int       `json:"attempt"`
}

// asObject returns JSON as an object, which is all that SDKs decode: another value becomes {"value": ...}.
func asObject(v json.RawMessage) json.RawMessage {
	switch text := strings.TrimSpace(string(v)); {
	case text == "" || text == "null":
		return json.RawMessage("{}")
	case strings.HasPrefix(text, "{"):
		return v
	}
	return json.RawMessage(`{"value":` + string(v) + `}`)
}

// orNil returns nil for the zero time, which SDKs would take for one.
func orNil(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

const (
	defaultPage = 50
	maxPage     = 1_000
	maxOffset   = 100_000
)

// A pageQuery is which part of a list is asked for.
type pageQuery struct{ limit, offset int }

func newPageQuery(q url.Values) (p pageQuery, err error) {
	p.limit = defaultPage
	for name, v := range map[string]*int{"limit": &p.limit, "offset": &p.offset} {
		if text := q.Get(name); text != "" {
			if *v, err = strconv.Atoi(text); err != nil {
				return p, invalid("%s is %.100q: want a number", name, text)
			}
		}
	}
	if p.limit < 1 || p.limit > maxPage || p.offset < 0 || p.offset > maxOffset {
		return p, invalid("limit %d, offset %d: want a limit of 1 to %d, an offset of 0 to %d", p.limit, p.offset, maxPage, maxOffset)
	}
	return p, nil
}

// page returns the numbers of a page that has or has not one after it.
func (p pageQuery) page(more bool) restPage {
	n := p.offset/p.limit + 1
	if more {
		return restPage{Current: n, Next: n + 1, Pages: n + 1}
	}
	return restPage{Current: n, Next: n, Pages: n}
}

// cut returns the part of a whole list that is asked for.
func cut[T any](p pageQuery, all []T) restList {
	from, to := min(p.offset, len(all)), min(p.offset+p.limit, len(all))
	return restList{p.page(to < len(all)), append([]T{}, all[from:to]...)}
}

// timeOf returns a time of a query.
func timeOf(q url.Values, name string) (time.Time, error) {
	text := q.Get(name)
	if text == "" {
		return time.Time{}, nil
	}
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return t, invalid("%s is %.100q: want a time such as 2026-01-31T12:00:00Z", name, text)
	}
	return t, nil
}

// pairsOf returns metadata that is given as key:value.
func pairsOf(texts []string) (map[string]string, error) {
	pairs := make(map[string]string, len(texts))
	for _, text := range texts {
		k, v, ok := strings.Cut(text, ":")
		if !ok {
			return nil, invalid("metadata is %.100q: want key:value", text)
		}
		pairs[k] = v
	}
	return pairs, nil
}
