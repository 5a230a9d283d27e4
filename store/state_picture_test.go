package store_test

import (
	"fmt"
	"math"
	"os"
	"strings"
	"testing"

	"github.com/stint-dev/stint/store"
)

// Where a state's box is in the picture, by its middle.
var positions = map[store.State][2]float64{
	store.Scheduled: {90, 60}, store.Waiting: {420, 60}, store.Queued: {90, 230}, store.Running: {420, 230}, store.Blocked: {255, 400},
	store.Skipped: {770, 40}, store.Succeeded: {770, 160}, store.Failed: {770, 280}, store.Canceled: {770, 400},
}

const boxWidth, boxHeight = 116.0, 40.0

// docs/images/states.svg shows the states and transitions that there are.
func TestStatesPicture(t *testing.T) {
	var b strings.Builder
	b.WriteString(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 860 450" font-family="sans-serif" font-size="15">` +
		"\n<title>The states of a run</title>\n" +
		`<defs><marker id="a" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto"><path d="M0 0 8 4 0 8z" fill="#667"/></marker></defs>` +
		"\n" + `<rect width="860" height="450" fill="#fff"/>` + "\n")
	for _, tr := range store.Transitions {
		if !tr.From.Terminal() {
			fmt.Fprintf(&b, "%s\n", arrow(tr))
		}
	}
	for _, s := range []store.State{store.Scheduled, store.Queued, store.Running, store.Waiting, store.Blocked,
		store.Succeeded, store.Failed, store.Canceled, store.Skipped} {
		p, fill := positions[s], "#e4edfb"
		if s.Terminal() {
			fill = "#ececec"
		}
		fmt.Fprintf(&b, `<rect x="%g" y="%g" width="%g" height="%g" rx="8" fill="%s" stroke="#667"/>`, p[0]-boxWidth/2, p[1]-boxHeight/2, boxWidth, boxHeight, fill)
		fmt.Fprintf(&b, "<text x=\"%g\" y=\"%g\" text-anchor=\"middle\" fill=\"#223\">%v</text>\n", p[0], p[1]+5, s)
	}
	b.WriteString(`<text x="90" y="440" text-anchor="middle" fill="#556" font-size="13">grey: the run has ended</text>` + "\n</svg>\n")
	const picture = "../docs/images/states.svg"
	if *update {
		if err := os.WriteFile(picture, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile(picture); err != nil || strings.ReplaceAll(string(got), "\r\n", "\n") != b.String() {
		t.Errorf("%s is not what store.Transitions says (%v): run go test ./store -update", picture, err)
	}
}

// arrow returns the line of a transition, bent a little, so that two between the same states stand apart.
func arrow(tr store.Transition) string {
	from, to := positions[tr.From], positions[tr.To]
	dx, dy := to[0]-from[0], to[1]-from[1]
	length := math.Hypot(dx, dy)
	const bend = 26
	mx, my := (from[0]+to[0])/2-dy/length*bend, (from[1]+to[1])/2+dx/length*bend
	x1, y1 := edge(from, mx, my)
	x2, y2 := edge(to, mx, my)
	return fmt.Sprintf(`<path d="M%.0f %.0fQ%.0f %.0f %.0f %.0f" fill="none" stroke="#889" marker-end="url(#a)"><title>%v to %v: %s</title></path>`,
		x1, y1, mx, my, x2, y2, tr.From, tr.To, tr.When)
}

// edge returns where the line from the middle of a box to a point leaves the box.
func edge(box [2]float64, x, y float64) (float64, float64) {
	dx, dy := x-box[0], y-box[1]
	scale := min((boxWidth/2+3)/math.Max(math.Abs(dx), 1e-9), (boxHeight/2+3)/math.Max(math.Abs(dy), 1e-9))
	return box[0] + dx*scale, box[1] + dy*scale
}
