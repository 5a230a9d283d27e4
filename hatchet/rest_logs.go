package hatchet

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/stint-dev/stint"
)

type restLogLine struct {
	CreatedAt  time.Time       `json:"createdAt"`
	Message    string          `json:"message"`
	Level      string          `json:"level"`
	Metadata   json.RawMessage `json:"metadata"`
	Attempt    int             `json:"attempt"`
	RetryCount int             `json:"retryCount"`
	TaskID     string          `json:"taskExternalId"`
	TaskName   string          `json:"taskDisplayName"`
}

// handleLogs registers what is asked of logs.
func (s *Server) handleLogs(handle func(pattern string, h restHandler)) {
	handle("GET "+stablePath+"/tasks/{run}/logs", s.listLogs)
	handle("GET "+listPath+"/logs", s.listAllLogs)
}

const (
	defaultLines = 1_000
	maxLines     = 10_000
)

// A logQuery says which lines of a run are asked for.
type logQuery struct {
	limit           int
	since, until    time.Time
	levels          []string // nil: any
	search, attempt string   // "": any
	newestFirst     bool
}

func newLogQuery(q url.Values) (l logQuery, err error) {
	l = logQuery{limit: defaultLines, levels: q["levels"], search: q.Get("search"), attempt: q.Get("attempt"),
		newestFirst: strings.EqualFold(q.Get("order_by_direction"), "DESC")}
	if text := q.Get("limit"); text != "" {
		if l.limit, err = strconv.Atoi(text); err != nil || l.limit < 1 || l.limit > maxLines {
			return l, invalid("limit is %.100q: want 1 to %d", text, maxLines)
		}
	}
	if l.since, err = timeOf(q, "since"); err == nil {
		l.until, err = timeOf(q, "until")
	}
	return l, err
}

func (q *logQuery) matches(l *stint.LogLine) bool {
	return !l.At.Before(q.since) && (q.until.IsZero() || l.At.Before(q.until)) && isOne(q.levels, levelText(l.Level)) &&
		strings.Contains(l.Message, q.search) && wants(q.attempt, itoa(l.Attempt))
}

// listLogs lists the lines that a task's run logged: the first that match, or with order_by_direction DESC the last,
// which then come first.
func (s *Server) listLogs(r *http.Request) (any, error) {
	info, err := s.run(r.Context(), r.PathValue("run"))
	if err != nil {
		return nil, err
	}
	q, err := newLogQuery(r.URL.Query())
	if err != nil {
		return nil, err
	}
	rows, err := s.linesOf(r.Context(), info, &q)
	if err != nil {
		return nil, err
	}
	if q.newestFirst {
		slices.Reverse(rows)
	}
	return cut(pageQuery{limit: q.limit}, rows), nil
}

// linesOf returns the first lines of a run that match, up to the limit, or the last if the newest come first; in order.
func (s *Server) linesOf(ctx context.Context, info *stint.RunInfo, q *logQuery) (rows []restLogLine, err error) {
	name := s.newTaskRun(info).Readable
	for after := int64(0); ; {
		lines, err := s.c.Logs(ctx, info.ID, after, maxPage)
		if err != nil {
			return nil, err
		}
		for i := range lines {
			l := &lines[i]
			if after = l.Seq; !q.matches(l) {
				continue
			}
			rows = append(rows, restLogLine{CreatedAt: l.At, Message: l.Message, Level: levelText(l.Level), Metadata: asObject(l.Attrs),
				Attempt: l.Attempt, RetryCount: max(0, l.Attempt-1), TaskID: info.ID, TaskName: name})
			if q.newestFirst && len(rows) > q.limit {
				rows = rows[1:]
			}
		}
		if len(lines) == 0 || !q.newestFirst && len(rows) >= q.limit {
			return rows, nil
		}
	}
}

// listAllLogs lists the lines of many tasks in the order in which they were logged: of those with the IDs, or of the
// newest maxLogged that are selected.
func (s *Server) listAllLogs(r *http.Request) (any, error) {
	values := r.URL.Query()
	q, err := newLogQuery(values)
	if err != nil {
		return nil, err
	}
	f := stint.RunFilter{Limit: maxLogged, Until: q.until}
	if ids := values["taskExternalIds"]; len(ids) > 0 {
		f.IDs = ids
	}
	if ids := values["workflow_ids"]; len(ids) > 0 {
		f.Tasks = s.taskNames(s.names(ids))
	}
	page, err := s.c.ListRuns(r.Context(), f)
	if err != nil {
		return nil, err
	}
	rows, more := []restLogLine{}, false
	for i := range page.Runs {
		info := &page.Runs[i]
		if info.Workflow || !info.Finished.IsZero() && info.Finished.Before(q.since) {
			continue
		}
		lines, err := s.linesOf(r.Context(), info, &q)
		if err != nil {
			return nil, err
		}
		rows = append(rows, lines...)
		slices.SortStableFunc(rows, q.compare)
		if len(rows) > q.limit {
			rows, more = rows[:q.limit], true
		}
	}
	return restList{pageQuery{limit: q.limit}.page(more), rows}, nil
}

// compare orders lines as a list has them.
func (q *logQuery) compare(a, b restLogLine) int {
	if q.newestFirst {
		a, b = b, a
	}
	return a.CreatedAt.Compare(b.CreatedAt)
}

// maxLogged is the highest number of tasks whose lines a list has.
const maxLogged = 1_000

func levelText(l slog.Level) string {
	switch {
	case l < slog.LevelInfo:
		return "DEBUG"
	case l < slog.LevelWarn:
		return "INFO"
	case l < slog.LevelError:
		return "WARN"
	}
	return "ERROR"
}
