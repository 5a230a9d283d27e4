package browser

import (
	"database/sql"
	"testing"
	"time"

	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp"
	"github.com/stint-dev/stint"
)

// fileOf opens the file of a client, past it.
func fileOf(t *testing.T, c *stint.Client) *sql.DB {
	t.Helper()
	info, err := c.Database(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", info.Path+"?_pragma=busy_timeout(30000)")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

// sample stores samples of the last 40 minutes, which a program takes once a minute.
func (d *demo) sample(t *testing.T) {
	t.Helper()
	db := fileOf(t, d.c)
	now := time.Now().Truncate(time.Minute)
	for ago := range 40 {
		for _, x := range []struct {
			kind                 int
			name                 string
			waiting, active, max int
		}{{1, "media", 40 - ago, 1, 0}, {1, "default", ago % 7, 3, 0}, {2, hostile, 40 - ago, 1, 1}, {3, "smtp", ago % 5, 990, 1000}} {
			_, err := db.ExecContext(t.Context(), `INSERT INTO stint_samples (span, kind, name, at, waiting, active, max) VALUES (60000, ?, ?, ?, ?, ?, ?)
				ON CONFLICT DO NOTHING`, x.kind, x.name, now.Add(-time.Duration(ago)*time.Minute).UnixMilli(), x.waiting, x.active, x.max)
			if err != nil {
				t.Fatal(err)
			}
		}
	}
}

// The page of queues charts each over time; a queue's name leads to its own page, whose chart is read by the pointer.
func TestQueueOverTime(t *testing.T) {
	_, base := served(t)
	b := opened(t, 1440, "light")
	b.do(t, chromedp.Navigate(base+"/queues"), chromedp.WaitReady("main h1"))
	appears(t, b, connected)
	const titles = `[...document.querySelectorAll("main figure.chart h2")].map(h => h.textContent)`
	appears(t, b, titles+`.includes("media")`)
	b.do(t, chromedp.Click(`main tbody a[href$="/queues/media"]`, chromedp.ByQuery))
	appears(t, b, `document.querySelector("main h1").textContent == "media"`)
	appears(t, b, connected)
	appears(t, b, titles+`.includes("Ready and running")`)
	at := eval[[]float64](t, b, `(({ left, top, width, height }) => [left + width / 2, top + height / 2])(document.querySelector("main figure.chart svg.plot").getBoundingClientRect())`)
	b.do(t, input.DispatchMouseEvent(input.MouseMoved, at[0], at[1]))
	appears(t, b, `/^\d\d:\d\d\s*ready\d+\s*running1/.test(document.querySelector(".tip:not([hidden])")?.textContent)`)
	b.do(t, chromedp.Navigate(base+"/limits"), chromedp.WaitReady("main h1"))
	appears(t, b, titles+`.includes("smtp")`)
}
