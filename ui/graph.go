package ui

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/stint-dev/stint"
	g "maragu.dev/gomponents"
)

const (
	nodeWide, nodeHigh = 170, 44
	gapWide, gapHigh   = 60, 18

	// maxColumn is the number of nodes in a column from which equal tasks are folded into one, if at least minFolded are.
	maxColumn, minFolded = 30, 4
	maxNodes             = 400
)

// A graphNode is a box of a graph: a task, or equal ones that are folded.
type graphNode struct {
	tasks   []stint.TaskInfo
	parents []int // nodes
	lit     int   // the parent through which a failure came to be, from 1; 0: none
	failing bool  // it is on such a path
}

// A graph is how a workflow is drawn.
type graph struct {
	nodes  []graphNode
	folded bool
	states bool
	chosen string                  // the key of a node or of a task in it
	path   func(key string) string // that shows it; nil: nothing to show
}

// newGraph returns the graph of tasks, parents first. Where a column would be too high, tasks with the same parents
// and the same children become one node.
func newGraph(tasks []stint.TaskInfo, fold bool) *graph {
	at := map[string]int{}
	for i, t := range tasks {
		at[t.Name] = i
	}
	gr := &graph{}
	for _, t := range tasks {
		n := graphNode{tasks: []stint.TaskInfo{t}}
		for _, p := range t.Parents {
			if from, ok := at[p]; ok {
				n.parents = append(n.parents, from)
			}
		}
		gr.nodes = append(gr.nodes, n)
	}
	columns, _ := gr.layers()
	if high := slices.ContainsFunc(columns, func(c []int) bool { return len(c) > maxColumn }); fold && high {
		gr.fold()
	}
	return gr
}

// fold joins nodes with the same parents and the same children.
func (gr *graph) fold() {
	children := make([][]int, len(gr.nodes))
	for i, n := range gr.nodes {
		for _, p := range n.parents {
			children[p] = append(children[p], i)
		}
	}
	groups := map[string][]int{}
	key := func(i int) string { return fmt.Sprint(slices.Sorted(slices.Values(gr.nodes[i].parents)), children[i]) }
	for i := range gr.nodes {
		groups[key(i)] = append(groups[key(i)], i)
	}
	to := make([]int, len(gr.nodes)) // where a node is now
	var nodes []graphNode
	for i, n := range gr.nodes {
		group := groups[key(i)]
		if len(group) >= minFolded && group[0] != i {
			first := &nodes[to[group[0]]]
			first.tasks = append(first.tasks, n.tasks...)
			to[i] = to[group[0]]
			continue
		}
		to[i] = len(nodes)
		nodes = append(nodes, n)
	}
	for i := range nodes {
		for j, p := range nodes[i].parents {
			nodes[i].parents[j] = to[p]
		}
		slices.Sort(nodes[i].parents)
		nodes[i].parents = slices.Compact(nodes[i].parents)
	}
	gr.folded = len(nodes) < len(gr.nodes)
	gr.nodes = nodes
}

// light marks the paths that led to failures: from each task that failed back to the parent that ended last, and so on.
func (gr *graph) light() {
	for i := range gr.nodes {
		if gr.nodes[i].state() != stint.StateFailed {
			continue
		}
		for at := i; ; {
			n := &gr.nodes[at]
			n.failing = true
			if n.lit > 0 || len(n.parents) == 0 {
				break
			}
			last := slices.MaxFunc(n.parents, func(a, b int) int { return gr.nodes[a].ended().Compare(gr.nodes[b].ended()) })
			n.lit, at = last+1, last
		}
	}
}

// key names a node in the query.
func (n *graphNode) key() string {
	if len(n.tasks) > 1 {
		return groupKey(n.tasks[0].Name)
	}
	return taskKey(n.tasks[0].Name)
}

func groupKey(first string) string { return "g" + first }

// name is the task's, or what the names of folded tasks have in common.
func (n *graphNode) name() string {
	name := n.tasks[0].Name
	for _, t := range n.tasks[1:] {
		for !strings.HasPrefix(t.Name, name) {
			name = name[:len(name)-1]
		}
	}
	if len(n.tasks) == 1 {
		return name
	}
	if name = strings.TrimRight(strings.ToValidUTF8(name, ""), "-_.0123456789 "); name == "" {
		name = n.tasks[0].Name
	}
	return name
}

// graver orders states by how much they need a person.
var graver = []stint.State{stint.StateFailed, stint.StateBlocked, stint.StateRunning, stint.StateWaiting, stint.StateQueued,
	stint.StateScheduled, stint.StateSucceeded, stint.StateCanceled, stint.StateSkipped}

// state returns the gravest state of a node's tasks.
func (n *graphNode) state() stint.State {
	return slices.MinFunc(n.tasks, func(a, b stint.TaskInfo) int {
		return cmp.Compare(slices.Index(graver, a.State), slices.Index(graver, b.State))
	}).State
}

// ended returns when the last of a node's tasks ended.
func (n *graphNode) ended() (last time.Time) {
	for _, t := range n.tasks {
		if t.Finished.After(last) {
			last = t.Finished
		}
	}
	return last
}

// took returns how long the slowest of a node's tasks took.
func (n *graphNode) took() (longest time.Duration) {
	for _, t := range n.tasks {
		if !t.Started.IsZero() && !t.Finished.IsZero() {
			longest = max(longest, t.Finished.Sub(t.Started))
		}
	}
	return longest
}

// about says what became of a node's tasks.
func (n *graphNode) about() string {
	if len(n.tasks) == 1 {
		if took := n.took(); took > 0 {
			return n.state().String() + ", " + formatDuration(took)
		}
		return n.state().String()
	}
	count := map[stint.State]int{}
	for _, t := range n.tasks {
		count[t.State]++
	}
	var parts []string
	for _, s := range graver {
		if count[s] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", count[s], s))
		}
	}
	return strings.Join(parts, ", ")
}

// draw draws the nodes in columns, each to the right of its parents. Within a column nodes are ordered by the mean row
// of their parents, so that few edges cross: one sweep of the barycenter method (Sugiyama, Tagawa and Toda, 1981).
func (gr *graph) draw() node {
	if len(gr.nodes) == 0 || len(gr.nodes) > maxNodes {
		return nil
	}
	columns, column := gr.layers()
	row := make([]float64, len(gr.nodes))
	tallest := 0
	for _, c := range columns {
		tallest = max(tallest, len(c))
		for _, i := range c {
			row[i] = barycenter(gr.nodes[i].parents, row)
		}
		slices.SortStableFunc(c, func(a, b int) int { return cmp.Compare(row[a], row[b]) })
		for place, i := range c {
			row[i] = float64(place) - float64(len(c)-1)/2
		}
	}
	x := func(i int) int { return column[i] * (nodeWide + gapWide) }
	y := func(i int) int {
		return int((row[i] + float64(tallest-1)/2) * (nodeHigh + gapHigh))
	}
	var b strings.Builder
	wide, high := len(columns)*(nodeWide+gapWide)-gapWide, tallest*(nodeHigh+gapHigh)-gapHigh
	b.WriteString(`<div class="graph-box"><div class="graph-tools" data-scripted>` +
		`<button type="button" class="btn sm" data-zoom="-1" aria-label="Zoom out">−</button>` +
		`<button type="button" class="btn sm" data-zoom="0">Fit</button>` +
		`<button type="button" class="btn sm" data-zoom="1" aria-label="Zoom in">+</button></div>` +
		`<div class="scroll" tabindex="0" role="region" aria-label="graph">`)
	fmt.Fprintf(&b, `<svg class="graph" width="%d" height="%d" viewBox="-5 -5 %[1]d %[2]d">`, wide+10, high+10)
	for _, lit := range []bool{false, true} { // those that are lit lie above the others
		for i, n := range gr.nodes {
			for _, p := range n.parents {
				if (n.lit == p+1) == lit {
					gr.writeEdge(&b, &n, lit, x(p)+nodeWide, y(p)+nodeHigh/2, x(i), y(i)+nodeHigh/2)
				}
			}
		}
	}
	slowest := time.Duration(1)
	for i := range gr.nodes {
		slowest = max(slowest, gr.nodes[i].took())
	}
	for i := range gr.nodes {
		gr.writeNode(&b, &gr.nodes[i], x(i), y(i), slowest)
	}
	fmt.Fprintf(&b, `</svg></div><svg class="minimap" data-scripted aria-hidden="true" viewBox="-5 -5 %d %d">`, wide+10, high+10)
	for i := range gr.nodes {
		fmt.Fprintf(&b, `<rect class="%s" x="%d" y="%d" width="%d" height="%d"/>`, gr.mapClass(&gr.nodes[i]),
			x(i), y(i), nodeWide, nodeHigh)
	}
	b.WriteString(`<rect class="seen" width="0" height="0"/></svg></div>`)
	return g.Raw(b.String())
}

// mapClass returns the colour of a node on the map of the whole.
func (gr *graph) mapClass(n *graphNode) string {
	if !gr.states {
		return "f-idle"
	}
	switch n.state() {
	case stint.StateFailed, stint.StateBlocked:
		return "f-bad"
	case stint.StateSucceeded:
		return "f-ok"
	case stint.StateRunning, stint.StateWaiting:
		return "f-wait"
	}
	return "f-idle"
}

func (gr *graph) writeEdge(b *strings.Builder, n *graphNode, lit bool, x1, y1, x2, y2 int) {
	class := "edge"
	switch s := n.state(); {
	case lit:
		class = "edge lit"
	case gr.states && (s == stint.StateCanceled || s == stint.StateSkipped):
		class = "edge dead"
	}
	fmt.Fprintf(b, `<path class="%s" d="M%d %dC%d %d %d %d %d %d"/>`, class, x1, y1, x1+gapWide/2, y1, x2-gapWide/2, y2, x2, y2)
}

func (gr *graph) writeNode(b *strings.Builder, n *graphNode, x, y int, slowest time.Duration) {
	class, about, sign, indent := "node", "", "", 10
	if gr.states {
		state := n.state().String()
		about, indent = n.about(), 28
		class = "node " + state
		sign = fmt.Sprintf(`<svg class="i st-%s" x="%d" y="%d" width="14" height="14" viewBox="0 0 16 16"><use href="#i-st-%[1]s"/></svg>`,
			state, x+10, y+23)
	}
	if n.failing {
		class += " failing"
	}
	if slices.ContainsFunc(n.tasks, func(t stint.TaskInfo) bool { return gr.chosen == taskKey(t.Name) }) || gr.chosen == n.key() {
		class += " chosen"
	}
	name, cards := n.name(), ""
	if len(n.tasks) > 1 {
		name += fmt.Sprintf(" ×%d", len(n.tasks))
		cards = fmt.Sprintf(`<rect x="%d" y="%d" width="%d" height="%d" rx="6"/>`, x+4, y+4, nodeWide, nodeHigh)
	}
	if took := n.took(); took > 0 { // how it compares with the slowest
		sign += fmt.Sprintf(`<rect class="heat" x="%d" y="%d" width="%d" height="3"/>`,
			x+6, y+nodeHigh-4, max(int(int64(nodeWide-12)*int64(took)/int64(slowest)), 2))
	}
	box := fmt.Sprintf(`<g class="%s"><title>%s</title>%s<rect x="%d" y="%d" width="%d" height="%d" rx="6"/>`,
		class, escapeHTML(escapeInvisible(name)+" "+about), cards, x, y, nodeWide, nodeHigh) +
		fmt.Sprintf(`<text x="%d" y="%d">%s</text>`, x+10, y+18, escapeHTML(escapeInvisible(truncate(22, name)))) +
		fmt.Sprintf(`%s<text class="small" x="%d" y="%d">%s</text></g>`, sign, x+indent, y+35, escapeHTML(truncate(26, about)))
	if gr.path != nil {
		box = fmt.Sprintf(`<a href="%s" data-soft>%s</a>`, escapeHTML(escapeInvisible(gr.path(n.key()))), box)
	}
	b.WriteString(box)
}

// layers puts each node into the column after the last column of its parents. Parents come before their children.
func (gr *graph) layers() (columns [][]int, column []int) {
	column = make([]int, len(gr.nodes))
	for i, n := range gr.nodes {
		for _, from := range n.parents {
			if from < i {
				column[i] = max(column[i], column[from]+1)
			}
		}
		for len(columns) <= column[i] {
			columns = append(columns, nil)
		}
		columns[column[i]] = append(columns[column[i]], i)
	}
	return columns, column
}

func barycenter(parents []int, row []float64) float64 {
	sum := 0.0
	for _, p := range parents {
		sum += row[p]
	}
	return sum / float64(max(len(parents), 1))
}
