package ui

import (
	"context"
	"errors"
	"net/url"

	"github.com/stint-dev/stint"
)

// withAside returns a list, with what is beside it if it is not nil. Both have the same elements, so that a live page keeps them.
func withAside(list, side node) node {
	if side == nil {
		return el("div.beside", el("div", list))
	}
	return el("div.beside.split", el("div", list), side)
}

// runAside returns the panel beside the list that shows the run that the query names, or nil: what the run is, why it failed or
// waits, its input and output, and what can be done.
func (h *handler) runAside(ctx context.Context, c url.Values) (node, error) {
	id := c.Get("run")
	if id == "" {
		return nil, nil
	}
	without := filterQuery(c)
	without.Del("run")
	closes := el("a.btn.sm.more", attr("href", "?"+without.Encode()), attr("data-soft"), attr("id", "close-aside"),
		attr("aria-keyshortcuts", "Escape"), "Close")
	panel := func(contents ...any) node {
		return el("aside.side", attr("id", "aside"), attr("aria-label", "Run"), attr("tabindex", "0"), group(contents...))
	}
	info, err := h.c.GetRun(ctx, id)
	if errors.Is(err, stint.ErrNotFound) {
		return panel(el("header", row(el("span", "This run is not there any more."), closes))), nil
	}
	if err != nil {
		return nil, err
	}
	h.redactRun(info)
	v := &runView{RunInfo: info, query: c, open: info.Finished.IsZero()}
	if !v.Started.IsZero() && !v.open {
		v.elapsed = v.Finished.Sub(v.Started)
	}
	return panel(
		el("header", row(el("h2", h.link(runPath(v.ID), userText(v.Task))), stateBadge(v.State), closes)),
		el("section", row(h.link(runPath(v.ID), attr("class", "btn sm"), "Open run"), h.asideActions(v, "/runs?"+c.Encode())),
			when(v.Blocked != "", el("p", el("b", "Waits:"), " ", userText(v.Blocked))), h.showError(v), showProgress(v.Progress)),
		el("section", h.showFacts(v)),
		el("section", el("h3", "Input"), jsonTree(v.Input, smallTree)),
		when(len(v.Output) > 0, el("section", el("h3", "Output"), jsonTree(v.Output, smallTree)))), nil
}

// asideActions returns the buttons for a run, which lead back to the list.
func (h *handler) asideActions(v *runView, list string) node {
	path := "runs/" + v.ID + "/"
	return group(when(v.open, h.actionButton("sm.danger", "Cancel", path+"cancel", list)),
		when(!v.open || v.State == stint.StateBlocked, h.actionButton("sm.primary", "Replay", path+"replay", list)))
}
