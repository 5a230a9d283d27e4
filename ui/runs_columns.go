package ui

import (
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/stint-dev/stint"
)

// A runColumn is a column of the list of runs.
type runColumn struct {
	key, title string
	class      string // of its heading: the width
	shown      bool   // unless columns are chosen
	cell       func(h *handler, r *stint.RunInfo) node
	by         func(r *stint.RunInfo) time.Duration // what the list is sorted by; nil: not by this
}

// metaColumn begins the key of a column that shows a key of metadata.
const metaColumn = "metadata."

var runColumns = []runColumn{
	{"about", "Error, wait or input", "", true, func(h *handler, r *stint.RunInfo) node { return el("td.c-about", aboutRun(r)) }, nil},
	{"queue", "Queue", "w-q", true, textCell(func(r *stint.RunInfo) string { return truncate(30, r.Queue) }), nil},
	{"metadata", "Metadata", "w-x", true, func(h *handler, r *stint.RunInfo) node {
		pair := func(k string) node { return group(el("bdi.dim", truncate(20, k)+"="+truncate(24, r.Metadata[k])), " ") }
		return el("td.opt", each(firstKeys(r.Metadata), pair))
	}, nil},
	{"attempt", "Attempt", "w-n", true, func(h *handler, r *stint.RunInfo) node { return el("td.num.opt", when(r.Attempt > 0, r.Attempt)) },
		func(r *stint.RunInfo) time.Duration { return time.Duration(r.Attempt) }},
	{"waited", "Waited", "w-m", false, func(h *handler, r *stint.RunInfo) node {
		return el("td.num.opt", elapsed(r.Scheduled, r.Started))
	}, func(r *stint.RunInfo) time.Duration { return between(r.Scheduled, r.Started) }},
	{"took", "Took", "w-m", true, func(h *handler, r *stint.RunInfo) node { return el("td.num.opt", elapsed(r.Started, r.Finished)) },
		func(r *stint.RunInfo) time.Duration { return between(r.Started, r.Finished) }},
	{"priority", "Priority", "w-n", false, func(h *handler, r *stint.RunInfo) node { return el("td.num.opt", r.Priority) },
		func(r *stint.RunInfo) time.Duration { return time.Duration(r.Priority + 128) }},
	{"worker", "Worker", "w-x", false, textCell(func(r *stint.RunInfo) string { return truncate(40, r.Worker) }), nil},
	{"key", "Key", "w-x", false, textCell(func(r *stint.RunInfo) string { return truncate(40, r.Key) }), nil},
	{"id", "ID", "w-l", false, func(h *handler, r *stint.RunInfo) node { return el("td.mono.opt", "…"+shortID(r.ID)) }, nil},
	{"started", "Started", "w-l", false, timeCell(startedAt), since(startedAt)},
	{"ended", "Ended", "w-l", false, timeCell(endedAt), since(endedAt)},
}

func startedAt(r *stint.RunInfo) time.Time { return r.Started }

func endedAt(r *stint.RunInfo) time.Time { return r.Finished }

func textCell(text func(*stint.RunInfo) string) func(*handler, *stint.RunInfo) node {
	return func(_ *handler, r *stint.RunInfo) node { return el("td.opt", userText(text(r))) }
}

func timeCell(at func(*stint.RunInfo) time.Time) func(*handler, *stint.RunInfo) node {
	return func(_ *handler, r *stint.RunInfo) node {
		return el("td.num.opt", when(!at(r).IsZero(), timestamp(at(r))))
	}
}

// since returns a time of a run as what a list is sorted by; -1 where it is not set.
func since(at func(*stint.RunInfo) time.Time) func(*stint.RunInfo) time.Duration {
	return func(r *stint.RunInfo) time.Duration { return between(time.UnixMilli(0), at(r)) }
}

// between returns the time from one instant to another; -1 where one is not set.
func between(from, to time.Time) time.Duration {
	if from.IsZero() || to.IsZero() {
		return -1
	}
	return max(to.Sub(from), 0)
}

// aboutRun returns what is to be known of a run first: its error, what it waits for, or its input.
func aboutRun(r *stint.RunInfo) node {
	switch {
	case r.Error != "":
		return el("bdi.error", truncate(160, r.Error))
	case r.Blocked != "":
		return el("bdi.dim", truncate(160, r.Blocked))
	}
	return el("bdi.dim.mono", truncate(100, string(r.Input)))
}

// metadataColumn returns the column of a key of metadata.
func metadataColumn(key string) runColumn {
	return runColumn{metaColumn + key, truncate(30, key), "w-x", false,
		textCell(func(r *stint.RunInfo) string { return truncate(40, r.Metadata[key]) }), nil}
}

// maxColumns is the highest number of columns that a list shows.
const maxColumns = 20

// chosenColumns returns the columns that a query names, in the order of runColumns with keys of metadata at the end, or those
// that are shown unless some are chosen. It ignores names that it does not know: they may be of another version.
func chosenColumns(q url.Values) (all []runColumn) {
	names := q["cols"]
	if len(names) == 0 {
		return slices.DeleteFunc(slices.Clone(runColumns), func(c runColumn) bool { return !c.shown })
	}
	for _, c := range runColumns {
		if slices.Contains(names, c.key) {
			all = append(all, c)
		}
	}
	for _, name := range names {
		if key, ok := strings.CutPrefix(name, metaColumn); ok && len(all) < maxColumns {
			all = append(all, metadataColumn(key))
		}
	}
	return all
}

// columnsCookie keeps the columns that a viewer has chosen, as the query has them.
const columnsCookie = "stint-columns"

// remembered adds to the URL of a list of runs the columns that the viewer chose before, unless it names some.
func remembered(r *http.Request, u *url.URL) *url.URL {
	cookie, err := r.Cookie(columnsCookie)
	if err != nil || strings.Trim(u.Path, "/") != "runs" || u.Query().Has("cols") {
		return u
	}
	kept, err := url.ParseQuery(cookie.Value)
	if err != nil || len(kept["cols"]) == 0 {
		return u
	}
	with := *u
	q := u.Query()
	q["cols"] = kept["cols"][:min(len(kept["cols"]), maxColumns)]
	with.RawQuery = q.Encode()
	return &with
}

// columnsChosen keeps the columns of the form that chooses them, or forgets them, and leads to the list.
func (h *handler) columnsChosen(q url.Values) *view {
	to := filterQuery(q)
	to.Del("columns")
	cookie := &http.Cookie{Name: columnsCookie, Path: h.base + "/", HttpOnly: true, SameSite: http.SameSiteLaxMode, MaxAge: -1}
	if q.Get("columns") == "default" || len(to["cols"]) == 0 {
		to.Del("cols")
	} else {
		to["cols"] = to["cols"][:min(len(to["cols"]), maxColumns)]
		cookie.Value, cookie.MaxAge = url.Values{"cols": to["cols"]}.Encode(), 365*24*3600
	}
	return &view{redirect: strings.TrimSuffix("/runs?"+to.Encode(), "?"), cookie: cookie}
}

// columnsMenu returns the form that chooses columns: those that there are, and the keys of metadata of the listed runs.
func (h *handler) columnsMenu(c url.Values, runs []stint.RunInfo) node {
	shown := map[string]bool{}
	for _, col := range chosenColumns(c) {
		shown[col.key] = true
	}
	keys := map[string]bool{}
	for _, r := range runs {
		for _, k := range firstKeys(r.Metadata) {
			keys[metaColumn+k] = true
		}
	}
	for _, name := range c["cols"] {
		if strings.HasPrefix(name, metaColumn) {
			keys[name] = true
		}
	}
	box := func(name, label string) node {
		return el("label", el("input", attr("type", "checkbox"), attr("name", "cols"), attr("value", name),
			when(shown[name], attr("checked"))), userText(label))
	}
	metadata := slices.Sorted(maps.Keys(keys))
	metadata = metadata[:min(len(metadata), maxKeys)]
	fields := []any{attr("method", "get"), attr("action", h.base+"/runs")}
	for name, values := range c {
		if name != "cols" && name != "run" {
			fields = append(fields, each(values, func(v string) node { return hidden(name, v) }))
		}
	}
	fields = append(fields, el("h3", "Beside state, task and time"),
		each(runColumns, func(col runColumn) node { return box(col.key, col.title) }),
		when(len(metadata) > 0, el("h3", "Metadata")), each(metadata, func(name string) node {
			return box(name, truncate(30, strings.TrimPrefix(name, metaColumn)))
		}), row(button("sm.primary", "Show", attr("name", "columns"), attr("value", "chosen")),
			button("sm", "Default", attr("name", "columns"), attr("value", "default"))))
	return el("details.pop", el("summary.btn.sm", "Columns", icon("down")),
		el("div.menu", attr("data-keep"), el("form.columns", fields...)))
}
