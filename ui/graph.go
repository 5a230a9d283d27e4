package ui

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/stint-dev/stint"
	g "maragu.dev/gomponents"
)

const (
	nodeWide, nodeHigh = 170, 44
	gapWide, gapHigh   = 60, 18
)

// drawGraph draws the tasks of a workflow in columns, each task to the right of its parents.
// Within a column tasks are ordered by the mean row of their parents, so that few edges cross:
// one sweep of the barycenter method (Sugiyama, Tagawa and Toda, 1981).
func drawGraph(base string, tasks []stint.TaskInfo, states bool) node {
	if len(tasks) == 0 || len(tasks) > 400 {
		return nil
	}
	at := map[string]int{}
	for i, t := range tasks {
		at[t.Name] = i
	}
	columns, column := layers(tasks, at)
	row := make([]float64, len(tasks))
	tallest := 0
	for _, c := range columns {
		tallest = max(tallest, len(c))
		for _, i := range c {
			row[i] = barycenter(tasks[i].Parents, at, row)
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
	fmt.Fprint(&b, `<div class="scroll" tabindex="0" role="region" aria-label="graph">`)
	fmt.Fprintf(&b, `<svg class="graph" width="%d" height="%d" viewBox="-2 -2 %[1]d %[2]d">`, wide+4, high+4)
	for i, t := range tasks {
		for _, p := range t.Parents {
			from, ok := at[p]
			if !ok {
				continue
			}
			x1, y1, x2, y2 := x(from)+nodeWide, y(from)+nodeHigh/2, x(i), y(i)+nodeHigh/2
			fmt.Fprintf(&b, `<path class="edge" d="M%d %dC%d %d %d %d %d %d"/>`, x1, y1, x1+gapWide/2, y1, x2-gapWide/2, y2, x2, y2)
		}
	}
	for i, t := range tasks {
		writeNode(&b, base, &t, x(i), y(i), states)
	}
	b.WriteString(`</svg></div>`)
	return g.Raw(b.String())
}

func writeNode(b *strings.Builder, base string, t *stint.TaskInfo, x, y int, states bool) {
	class, state, sign, indent := "node", "", "", 10
	if states {
		state, indent = t.State.String(), 28
		class = "node " + state
		sign = fmt.Sprintf(`<svg class="i st-%s" x="%d" y="%d" width="14" height="14" viewBox="0 0 16 16"><use href="#i-st-%[1]s"/></svg>`,
			state, x+10, y+23)
	}
	name := escapeInvisible(t.Name)
	box := fmt.Sprintf(`<g class="%s"><title>%s</title><rect x="%d" y="%d" width="%d" height="%d" rx="6"/>`,
		class, escapeHTML(name+" "+state), x, y, nodeWide, nodeHigh) +
		fmt.Sprintf(`<text x="%d" y="%d">%s</text>`, x+10, y+18, escapeHTML(escapeInvisible(truncate(22, t.Name)))) +
		fmt.Sprintf(`%s<text class="small" x="%d" y="%d">%s</text></g>`, sign, x+indent, y+35, state)
	if t.RunID != "" {
		box = fmt.Sprintf(`<a href="%s/runs/%s">%s</a>`, base, t.RunID, box)
	}
	b.WriteString(box)
}

// layers puts each task into the column after the last column of its parents. Parents come
// before their children in tasks.
func layers(tasks []stint.TaskInfo, at map[string]int) (columns [][]int, column []int) {
	column = make([]int, len(tasks))
	for i, t := range tasks {
		for _, p := range t.Parents {
			if from, ok := at[p]; ok && from < i {
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

func barycenter(parents []string, at map[string]int, row []float64) float64 {
	sum := 0.0
	for _, p := range parents {
		sum += row[at[p]]
	}
	return sum / float64(max(len(parents), 1))
}
