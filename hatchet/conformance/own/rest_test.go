package own

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/hatchet-dev/hatchet/pkg/client/rest"
	"github.com/hatchet-dev/hatchet/pkg/client/types"
	hatchet "github.com/hatchet-dev/hatchet/sdks/go"
	"github.com/hatchet-dev/hatchet/sdks/go/features"
)

const sticky = types.StickyStrategy_HARD

func containsText(text, part string) bool { return strings.Contains(text, part) }

// serverURL returns the address of REST, which the token says.
func serverURL(t *testing.T) string {
	t.Helper()
	parts := strings.Split(os.Getenv("HATCHET_CLIENT_TOKEN"), ".")
	var claims struct {
		URL string `json:"server_url"`
	}
	b, err := base64.RawURLEncoding.DecodeString(parts[len(parts)/2])
	if err == nil {
		err = json.Unmarshal(b, &claims)
	}
	if err != nil {
		t.Fatal(err)
	}
	return claims.URL
}

// A cron is made, listed and read, starts runs with its input, and ends when it is deleted.
func TestCrons(t *testing.T) {
	t.Parallel()
	c := connect(t)
	task, starts := telling(c, "own-cron")
	work(t, c, task)
	cron, err := c.Crons().Create(t.Context(), "own-cron", features.CreateCronTrigger{Name: "each minute", Expression: "* * * * *",
		Input: map[string]any{"n": 5}, AdditionalMetadata: map[string]any{"by": "cron"}})
	if err != nil {
		t.Fatal(err)
	}
	got, err := c.Crons().Get(t.Context(), cron.Metadata.Id)
	if err != nil || got.Cron != "* * * * *" || got.WorkflowName != "own-cron" {
		t.Errorf("%+v, %v", got, err)
	}
	if in := next(t, "the cron's run", starts); in.N != 5 {
		t.Errorf("ran with %+v", in)
	}
	if err := c.Crons().Delete(t.Context(), cron.Metadata.Id); err != nil {
		t.Fatal(err)
	}
	all, err := c.Crons().List(t.Context(), rest.CronWorkflowListParams{})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range *all.Rows {
		if r.Metadata.Id == cron.Metadata.Id {
			t.Error("a deleted cron is listed")
		}
	}
	if _, err := c.Crons().Create(t.Context(), "own-cron", features.CreateCronTrigger{Name: "none", Expression: "every day"}); err == nil {
		t.Error("an invalid expression was taken")
	}
}

// A schedule starts its run at its time, and one that is deleted does not.
func TestSchedules(t *testing.T) {
	t.Parallel()
	c := connect(t)
	task, starts := telling(c, "own-schedule")
	work(t, c, task)
	create := func(in time.Duration, n int) string {
		t.Helper()
		s, err := c.Schedules().Create(t.Context(), "own-schedule",
			features.CreateScheduledRunTrigger{TriggerAt: time.Now().Add(in), Input: map[string]any{"n": n}})
		if err != nil {
			t.Fatal(err)
		}
		return s.Metadata.Id
	}
	gone, later := create(2*time.Second, 1), create(time.Hour, 2)
	if err := c.Schedules().Delete(t.Context(), gone); err != nil {
		t.Fatal(err)
	}
	if s, err := c.Schedules().Get(t.Context(), later); err != nil || s.WorkflowName != "own-schedule" {
		t.Errorf("%+v, %v", s, err)
	}
	create(3*time.Second, 3)
	if in := next(t, "the scheduled run", starts); in.N != 3 {
		t.Errorf("ran with %+v", in)
	}
	all, err := c.Schedules().List(t.Context(), rest.WorkflowScheduledListParams{})
	if err != nil || all.Rows == nil {
		t.Fatalf("%+v, %v", all, err)
	}
	listed := false
	for _, r := range *all.Rows {
		listed = listed || r.Metadata.Id == later
		if r.Metadata.Id == gone {
			t.Error("a deleted schedule is listed")
		}
	}
	if !listed {
		t.Error("a schedule of the next hour is not listed")
	}
}

// A limit of one unit a minute, which an SDK sets, admits one run and keeps the next waiting; so does one that comes by an
// expression, for each of its keys.
func TestRateLimits(t *testing.T) {
	t.Parallel()
	c := connect(t)
	if err := c.RateLimits().Upsert(features.CreateRatelimitOpts{Key: "own-static", Limit: 1, Duration: types.Minute}); err != nil {
		t.Fatal(err)
	}
	one, minute, limit := 1, types.Minute, "1"
	key := `"own-dynamic-" + string(input.n)`
	static, staticStarts := telling(c, "own-static", hatchet.WithRateLimits(&types.RateLimit{Key: "own-static", Units: &one}))
	dynamic, dynamicStarts := telling(c, "own-dynamic", hatchet.WithRateLimits(&types.RateLimit{KeyExpr: &key, Units: &one,
		LimitValueExpr: &limit, Duration: &minute}))
	work(t, c, static, dynamic)
	start := func(task *hatchet.StandaloneTask, n int) string {
		t.Helper()
		r, err := task.RunNoWait(t.Context(), input{n})
		if err != nil {
			t.Fatal(err)
		}
		return r.RunId
	}
	start(static, 1)
	next(t, "the first run of the static limit", staticStarts)
	second := start(static, 2)
	start(dynamic, 1)
	next(t, "the first run of a key", dynamicStarts)
	same := start(dynamic, 1)
	start(dynamic, 2)
	if in := next(t, "the run of another key", dynamicStarts); in.N != 2 {
		t.Errorf("ran %+v, want the other key's", in)
	}
	for _, id := range []string{second, same} {
		if s := status(t, c, id); s != rest.V1TaskStatusQUEUED {
			t.Errorf("a run over its limit is %s", s)
		}
	}
	all, err := c.RateLimits().List(t.Context(), nil)
	if err != nil || all.Rows == nil {
		t.Fatalf("%+v, %v", all, err)
	}
	keys := map[string]int{}
	for _, l := range *all.Rows {
		keys[l.Key] = l.LimitValue
	}
	if keys["own-static"] != 1 || keys["own-dynamic-1"] != 1 {
		t.Errorf("listed are %v", keys)
	}
}

// A paused worker takes no runs, and goes on when the pause ends.
func TestPause(t *testing.T) {
	t.Parallel()
	c := connect(t)
	task, starts := telling(c, "own-pause")
	other, otherStarts := telling(c, "own-pause-other")
	work(t, c, task)
	id := ""
	eventually(t, "the worker is listed", func() bool { // a worker registers after its start has returned
		workers, err := c.Workers().List(t.Context())
		if err != nil || workers.Rows == nil {
			t.Fatalf("%+v, %v", workers, err)
		}
		for _, w := range *workers.Rows {
			if w.Name == t.Name() {
				id = w.Metadata.Id
			}
		}
		return id != ""
	})
	if _, err := c.Workers().Pause(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	waits, err := task.RunNoWait(t.Context(), input{1})
	if err != nil {
		t.Fatal(err)
	}
	t.Run("other", func(t *testing.T) { // a worker that is not paused works meanwhile
		work(t, c, other)
		if _, err := other.RunNoWait(t.Context(), input{2}); err != nil {
			t.Fatal(err)
		}
		next(t, "the other worker's run", otherStarts)
	})
	if s := status(t, c, waits.RunId); s != rest.V1TaskStatusQUEUED || len(starts) > 0 {
		t.Errorf("the paused worker's run is %s", s)
	}
	if w, err := c.Workers().Unpause(t.Context(), id); err != nil || w.Metadata.Id != id {
		t.Fatalf("%+v, %v", w, err)
	}
	next(t, "the run, after the pause", starts)
}

// A webhook that an SDK makes takes what has its key, refuses what has not, and starts the task of its event.
func TestWebhooks(t *testing.T) {
	t.Parallel()
	c := connect(t)
	task, starts := telling(c, "own-webhook", hatchet.WithWorkflowEvents("shop.paid"))
	work(t, c, task)
	hook, err := c.Webhooks().Create(t.Context(), features.CreateWebhookOpts{Name: "own-shop", SourceName: rest.GENERIC,
		EventKeyExpression: `"shop." + input.kind`, Auth: features.APIKeyAuth{HeaderName: "X-Shop-Key", APIKey: "open sesame"}})
	if err != nil {
		t.Fatal(err)
	}
	tenant := hook.TenantId
	post := func(key string) int {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), "POST",
			serverURL(t)+"/api/v1/stable/tenants/"+tenant+"/webhooks/own-shop", strings.NewReader(`{"kind":"paid","n":9}`))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("X-Shop-Key", key)
		r.Header.Set("Content-Type", "application/json")
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	if s := post("guess"); s < 400 || s >= 500 {
		t.Errorf("a wrong key: %d", s)
	}
	if s := post("open sesame"); s != 200 {
		t.Errorf("the right key: %d", s)
	}
	if in := next(t, "the webhook's run", starts); in.N != 9 || len(starts) > 0 {
		t.Errorf("ran with %+v", in)
	}
	if err := c.Webhooks().Delete(t.Context(), "own-shop"); err != nil {
		t.Fatal(err)
	}
	if s := post("open sesame"); s != 404 {
		t.Errorf("after its deletion: %d", s)
	}
}

// What a task logs is read by its run.
func TestLogs(t *testing.T) {
	t.Parallel()
	c := connect(t)
	listed := make(chan struct{})
	task := c.NewStandaloneTask("own-logs", func(ctx hatchet.Context, in input) (output, error) {
		ctx.Log("measuring") // the SDK sends it later
		<-listed
		return output{N: in.N}, nil
	})
	work(t, c, task)
	ref, err := task.RunNoWait(t.Context(), input{1})
	if err != nil {
		t.Fatal(err)
	}
	end := sync.OnceFunc(func() { close(listed) })
	defer end()
	eventually(t, "the line is listed", func() bool {
		l, err := c.Logs().List(t.Context(), uuid.MustParse(ref.RunId), nil)
		return err == nil && l.Rows != nil && len(*l.Rows) == 1 && (*l.Rows)[0].Message == "measuring"
	})
	end()
	if _, err := ref.Result(); err != nil {
		t.Fatal(err)
	}
}

// Expressions are tried, and queues are counted.
func TestMetrics(t *testing.T) {
	t.Parallel()
	c := connect(t)
	for expr, want := range map[string]bool{"input.n > 1": true, "input.n > 2": false} {
		r, err := c.CEL().Debug(t.Context(), expr, map[string]any{"n": 2}, nil, nil)
		if err != nil || r.Output == nil || *r.Output != want {
			t.Errorf("%s: %+v, %v", expr, r, err)
		}
	}
	if m, err := c.Metrics().GetQueueMetrics(t.Context(), nil); err != nil || m == nil {
		t.Errorf("%+v, %v", m, err)
	}
}
