package browser

import (
	"context"
	"fmt"
	"testing"

	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp"
)

// The graph zooms by button, key and wheel, around the pointer; dragging pans it and clicks nothing; the map shows what is
// seen, and goes to another part. A live update leaves that as it is.
func TestGraphZoom(t *testing.T) {
	d, base := served(t)
	b := opened(t, 1440, "light")
	b.do(t, chromedp.Navigate(base+"/runs/"+d.runs["broken flow"]), chromedp.WaitReady(".graph"))
	appears(t, b, connected)
	const wide = `document.querySelector(".graph").getBoundingClientRect().width`
	natural := eval[float64](t, b, wide)
	for range 6 {
		b.do(t, chromedp.Click(`[data-zoom="1"]`))
	}
	appears(t, b, fmt.Sprintf(`%s > 2.9 * %f`, wide, natural))
	appears(t, b, `!document.querySelector(".minimap").hasAttribute("hidden") && +document.querySelector(".seen").getAttribute("width") > 0`)
	const left = `document.querySelector(".graph-box .scroll").scrollLeft`
	before, path := eval[float64](t, b, left), eval[string](t, b, "location.href")
	mouse := func(kind input.MouseType, dx, dy float64) chromedp.Action {
		return chromedp.ActionFunc(func(ctx context.Context) error {
			var at []float64
			err := chromedp.Evaluate(`(() => { const r = document.querySelector(".graph-box .scroll").getBoundingClientRect(); return [r.left + r.width / 2, r.top + r.height / 2]; })()`, &at).Do(ctx)
			if err != nil {
				return err
			}
			return input.DispatchMouseEvent(kind, at[0]+dx, at[1]+dy).WithButton(input.Left).WithButtons(1).WithClickCount(1).Do(ctx)
		})
	}
	b.do(t, mouse(input.MousePressed, 0, 0), mouse(input.MouseMoved, 60, 0), mouse(input.MouseMoved, 120, 0), mouse(input.MouseReleased, 120, 0))
	appears(t, b, fmt.Sprintf(`Math.abs(%s - %f) < 2`, left, before-120))
	if now := eval[string](t, b, "location.href"); now != path {
		t.Errorf("dragging opened %s", now)
	}
	b.do(t, chromedp.Evaluate(`document.dispatchEvent(new CustomEvent("stint:shown"))`, nil))
	appears(t, b, fmt.Sprintf(`%s > 2.9 * %f`, wide, natural))
	b.do(t, chromedp.Evaluate(`(() => { const p = document.querySelector(".graph-box .scroll"); p.focus(); const r = p.getBoundingClientRect();
		p.dispatchEvent(new WheelEvent("wheel", { deltaY: 300, clientX: r.left + 10, clientY: r.top + 10, bubbles: true, cancelable: true })); })()`, nil))
	appears(t, b, fmt.Sprintf(`%s < 1.6 * %f`, wide, natural))
	b.do(t, chromedp.KeyEvent("+"))
	appears(t, b, fmt.Sprintf(`%s > 1.7 * %f`, wide, natural))
	b.do(t, chromedp.Click(`[data-zoom="0"]`))
	appears(t, b, `(() => { const p = document.querySelector(".graph-box .scroll"); return p.scrollWidth <= p.clientWidth + 1 && p.scrollHeight <= p.clientHeight + 1 &&
		document.querySelector(".minimap").hasAttribute("hidden"); })()`)
}
