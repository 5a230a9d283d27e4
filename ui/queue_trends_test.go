package ui_test

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/ui"
)

// The pages of queues, of one queue and of limits have charts of the samples, which begin where the data begin; keys of rates
// are redacted in them and in the API.
func TestSamplesOverTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, h := opened(t, ui.WithRedact(func(p ui.Payload) json.RawMessage {
			if p.Of == "limit_key" {
				return json.RawMessage(`"hidden"`)
			}
			return p.JSON
		}))
		task := stint.NewTask(c, "encode", func(context.Context, int) (int, error) { time.Sleep(20 * time.Minute); return 1, nil },
			stint.WithQueue("media"), stint.WithConcurrency(stint.Concurrency[int]{Max: 2, Strategy: stint.StrategyQueue}))
		send := stint.NewTask(c, "send", func(context.Context, int) (int, error) { return 1, nil }, stint.WithQueue("mail/out"),
			stint.WithRateLimit("secret tenant", 1))
		if err := c.SetRateLimit(t.Context(), "secret tenant", .001, 1); err != nil {
			t.Fatal(err)
		}
		time.Sleep(30 * time.Minute)
		for n := range 5 {
			if _, err := task.Enqueue(t.Context(), n); err != nil {
				t.Fatal(err)
			}
			if _, err := send.Enqueue(t.Context(), n); err != nil {
				t.Fatal(err)
			}
		}
		if err := c.PauseQueue(t.Context(), "mail/out"); err != nil {
			t.Fatal(err)
		}
		working(t, c)
		time.Sleep(10 * time.Minute)
		for path, shows := range map[string][]string{
			"/queues": {`href="/queues/media"`, "Each queue over time", `aria-label="media, runs, sampled once a minute: at most 2"`,
				`data-chart="{&#34;t&#34;:946686480,&#34;step&#34;:60,`}, // 12 points at least: from 00:28 on
			"/queues/media": {`<h1><bdi>media</bdi>`, "Ready and running", `aria-label="Ready and running, runs, sampled once a minute: at most 2"`,
				"Enqueued and started", "in use", "All its runs"},
			"/queues/mail%2Fout":              {"paused", `<bdi>all</bdi>`, `aria-label="Ready and running, runs, sampled once a minute: at most 1"`},
			"/limits":                         {"Over time", `aria-label="encode, all keys together, sampled once a minute: at most 3"`, "most that it allows", `aria-label="hidden, rate`},
			"/api/stats?per_limit=1&since=1h": {`"limit_name":"encode"`, `"limit_key":"hidden"`, `"depth":3,"active":2,"max":2`},
		} {
			w, _ := asked(t, h, path, "Accept", "text/html")
			for _, text := range shows {
				if w.Code != http.StatusOK || !strings.Contains(w.Body.String(), text) {
					t.Errorf("%s: %d, it does not show %q", path, w.Code, text)

				}
			}
			if strings.Contains(w.Body.String(), "secret") {
				t.Errorf("%s shows what is redacted", path)
			}
		}
		if w, _ := asked(t, h, "/queues/none", "Accept", "text/html"); w.Code != http.StatusNotFound {
			t.Errorf("a queue that there is not: %d", w.Code)
		}
		if err := c.PauseQueue(t.Context(), "media"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Hour) // until what runs has ended
	})
}
