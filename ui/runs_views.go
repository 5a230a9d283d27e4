package ui

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/stint-dev/stint"
)

// A saved view is a query of the list of runs with a name. All who may see the page see it: it is kept as a setting of the
// database.
const (
	viewSetting  = "stint.view/" // before the name
	maxViews     = 100
	maxViewName  = 60      // bytes
	maxViewQuery = 4 << 10 // bytes
)

type wireView struct {
	Name  string `json:"name"`
	Query string `json:"query"` // of the list of runs
}

type wireViews struct {
	Views []wireView `json:"views"`
}

// loadViews returns the saved views by name.
func (h *handler) loadViews(ctx context.Context) ([]wireView, error) {
	stored, err := h.c.Settings(ctx, viewSetting)
	if err != nil {
		return nil, err
	}
	all := []wireView{}
	for key, value := range stored {
		v := wireView{Name: strings.TrimPrefix(key, viewSetting)}
		if json.Unmarshal(value, &v.Query) == nil {
			all = append(all, v)
		}
	}
	slices.SortFunc(all, func(a, b wireView) int { return strings.Compare(a.Name, b.Name) })
	return all, nil
}

func listViews(h *handler, ctx context.Context, in url.Values) (any, error) {
	all, err := h.loadViews(ctx)
	return wireViews{all}, err
}

// viewQuery checks a query, and returns it without what belongs to one look at the list: its cursor and the open run.
func (h *handler) viewQuery(text string) (string, error) {
	if len(text) > maxViewQuery {
		return "", fmt.Errorf("query: want at most %d bytes", maxViewQuery)
	}
	q, err := url.ParseQuery(strings.TrimPrefix(text, "?"))
	if err != nil {
		return "", fmt.Errorf("query: want that of a list of runs, such as state=failed&task=charge: %w", err)
	}
	if _, err := h.filterOf(filterOnly(q)); err != nil {
		return "", fmt.Errorf("query: %w", err)
	}
	return listQuery(filterQuery(q)), nil
}

func saveView(h *handler, ctx context.Context, in url.Values) (any, error) {
	name, err := requiredParam(in, "name")
	if err != nil {
		return nil, err
	}
	if name = strings.TrimSpace(name); name == "" || len(name) > maxViewName {
		return nil, fmt.Errorf("name: want 1 to %d bytes", maxViewName)
	}
	query, err := h.viewQuery(in.Get("query"))
	if err != nil {
		return nil, err
	}
	all, err := h.loadViews(ctx)
	if err != nil {
		return nil, err
	}
	if len(all) >= maxViews && !slices.ContainsFunc(all, func(v wireView) bool { return v.Name == name }) {
		return nil, fmt.Errorf("there are %d saved views: delete one first", len(all))
	}
	value, err := json.Marshal(query)
	if err != nil {
		return nil, err
	}
	return wireDone{true}, h.c.SetSetting(ctx, viewSetting+name, value)
}

func deleteView(h *handler, ctx context.Context, in url.Values) (any, error) {
	key := viewSetting + in.Get("view")
	if _, err := h.c.Setting(ctx, key); err != nil {
		if errors.Is(err, stint.ErrNotFound) {
			err = fmt.Errorf("saved view %.100q: %w", in.Get("view"), stint.ErrNotFound)
		}
		return nil, err
	}
	return wireDone{true}, h.c.SetSetting(ctx, key, nil)
}

// showViews returns links to the saved views, or nil.
func (h *handler) showViews(all []wireView, c url.Values) node {
	here := listQuery(c)
	return when(len(all) > 0, el("ul.chips.views", attr("aria-label", "Saved views"), each(all, func(v wireView) node {
		return el("li", h.link("/runs?"+v.Query, when(v.Query == here, attr("aria-current", "true")), userText(v.Name)))
	})))
}

// viewsMenu returns the forms that save the list's query as a view, and delete views; nil if the page is read-only.
func (h *handler) viewsMenu(all []wireView, c url.Values) node {
	if h.readOnly {
		return nil
	}
	query := listQuery(c)
	return el("details.pop", el("summary.btn.sm", "Save view", icon("down")), el("div.menu", attr("data-keep"),
		h.form("saver", "views", "/runs?"+query, hidden("query", query),
			input("Name", attr("type", "text"), attr("name", "name"), attr("required"), attr("maxlength", fmt.Sprint(maxViewName)),
				attr("autocomplete", "off")), button("sm.primary", "Save this list")),
		when(len(all) > 0, el("hr"), el("h3", "Delete")), each(all, func(v wireView) node {
			return h.form("", "views/"+escapeSegment(v.Name)+"/delete", "/runs?"+query, button("sm.quiet", "",
				attr("aria-label", "Delete the view "+v.Name), userText(v.Name), " ×"))
		})))
}

// listQuery returns what a saved view keeps of a list's query.
func listQuery(c url.Values) string {
	q := filterOnly(c)
	for _, name := range looks {
		if vs, ok := c[name]; ok {
			q[name] = vs
		}
	}
	return q.Encode()
}
