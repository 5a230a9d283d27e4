package ui

import (
	"context"
	"fmt"
	"slices"

	"github.com/stint-dev/stint"
)

// loadTree reads a run's children and theirs. A workflow's are its tasks, which are shown as such.
func loadTree(h *handler, ctx context.Context, v *runView) error {
	if v.Workflow {
		return nil
	}
	return h.loadChildren(ctx, v, v.ID, 1)
}

// loadChildren reads the tree of children, oldest first, each before its own children.
func (h *handler) loadChildren(ctx context.Context, v *runView, id string, depth int) error {
	if depth > maxChildDepth || len(v.children) >= maxChildren || v.childBytes > maxChildBytes {
		return nil
	}
	page, err := h.list(ctx, stint.RunFilter{ParentID: id, Limit: maxChildren})
	if err != nil {
		return err
	}
	v.childrenMore = v.childrenMore || page.Next != ""
	for i := range page.Runs { // keep only what is shown
		r := &page.Runs[i]
		v.childBytes += len(r.Input) + len(r.Output)
		r.Input, r.Output = cutPayload(r.Input), nil
	}
	for _, r := range slices.Backward(page.Runs) {
		if len(v.children) >= maxChildren || v.childBytes > maxChildBytes && depth > 1 {
			v.childrenMore = true
			break
		}
		v.children = append(v.children, child{r, depth})
		if err := h.loadChildren(ctx, v, r.ID, depth+1); err != nil {
			return err
		}
	}
	return nil
}

func showChildrenTab(h *handler, v *runView) node {
	if len(v.children) == 0 {
		return emptyState("No children. A handler enqueues them by passing its ", code("ctx"), " on: ",
			code("task.Enqueue(ctx, input)"), ".")
	}
	return group(h.showChildren(v.children),
		when(v.childrenMore, el("p.dim", "There are more: filter the list of runs by this parent.")))
}

func (h *handler) showChildren(children []child) node {
	return table(tableHead("State", "Task", "Input.optional", "Took.figure", "Created"), each(children, func(c child) node {
		return h.linkedRow(runPath(c.ID), el("td", stateBadge(c.State)),
			el(fmt.Sprintf("td.in%d", min(c.depth-1, 4)), h.link(runPath(c.ID), userText(c.Task))),
			el("td.optional", el("bdi.dim.mono", truncate(70, string(c.Input)))),
			el("td.number", elapsed(c.Started, c.Finished)), el("td", timestamp(c.Created)))
	}))
}

func (h *handler) showFlow(tasks []stint.TaskInfo) node {
	return table(tableHead("State", "Task", "Waits for, or error", "Took.figure"), eachShown(tasks, func(t stint.TaskInfo) node {
		cells := func(name node) node {
			why := group(userText(truncate(160, t.Blocked)), " ", el("bdi.error", truncate(160, t.Error)))
			return group(el("td", stateBadge(t.State)), el("td", name), el("td", why),
				el("td.number", elapsed(t.Started, t.Finished)))
		}
		if t.RunID == "" {
			return el("tr", cells(userText(t.Name)))
		}
		return h.linkedRow(runPath(t.RunID), cells(h.link(runPath(t.RunID), userText(t.Name))))
	}))
}
