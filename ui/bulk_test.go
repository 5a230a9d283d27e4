package ui_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/ui"
)

const asForm = "application/x-www-form-urlencoded"

// states returns the states of the shop's runs, in the order in which they were enqueued.
func (s *shop) states() (all []string) {
	s.t.Helper()
	for _, id := range s.ids {
		info, err := s.c.GetRun(s.t.Context(), id)
		if err != nil {
			all = append(all, "gone")
			continue
		}
		all = append(all, info.State.String())
	}
	return all
}

// Pages and the API refuse an action with nothing selected, and change nothing.
func TestNothingSelected(t *testing.T) {
	s := newShop(t)
	for _, verb := range []string{"cancel", "replay", "delete"} {
		for _, path := range []string{"", "&selected=true", "&selected=true&task=charge&state=failed", "&id=", "&id=&state=failed", "&all=", "&all=false"} {
			if status, text := s.ask("GET", "/confirm?do=runs."+verb+path, "", "Accept", "text/html"); status != 400 || strings.Contains(text, "<form") {
				t.Errorf("confirm %s%s: %d %s", verb, path, status, text)
			}
		}
		for _, body := range []string{`{}`, ``, `{"id": []}`, `{"id": [], "state": ["failed", "succeeded"]}`, `{"task": [], "all": true}`, `{"state": ""}`, `{"metadata": {}}`, `{"id": null, "state": ["failed"]}`, `{"task": null, "all": true}`,
			`{"all": false}`, `{"all": "no"}`, `{"all": 0}`, `{"paced": true}`, `{"paced": true, "id": []}`, `{"dry_run": true}`, `{"limit": 1, "all": true}`} {
			if status, text := s.ask("POST", "/api/runs."+verb, body, "Content-Type", asJSON); status != 400 {
				t.Errorf("%s %s: %d %s", verb, body, status, text)
			}
		}
		for _, kind := range []string{"", "text/plain", "multipart/form-data; boundary=x"} { // a body that would be passed by, and a query
			for path, body := range map[string]string{"": `{"state": ["failed"]}`, "?state=failed": "", "?task=charge": `{"state": ["failed"]}`} {
				if status, text := s.ask("POST", "/api/runs."+verb+path, body, "Content-Type", kind); status != 400 || strings.Contains(path+body, "}") && !strings.Contains(text, "body") {
					t.Errorf("%s%s %s as %q: %d %s", verb, path, body, kind, status, text)
				}
			}
		}
		if status, text := s.ask("POST", "/api/runs."+verb+"?task=none", `{"all": true}`, "Content-Type", asJSON); status != 400 {
			t.Errorf("%s with a query: %d %s", verb, status, text)
		}
		for _, form := range []string{"", "paced=1", "id=", "all=", "all=false", "all=0&paced=1", "next=/"} {
			if status, text := s.ask("POST", "/api/runs."+verb, form, "Content-Type", asForm, "Accept", "text/html"); status != 400 {
				t.Errorf("%s %s: %d %s", verb, form, status, text)
			}
		}
	}
	if got := strings.Join(s.states(), " "); got != "succeeded failed succeeded" {
		t.Errorf("the runs are %s", got)
	}
	for _, body := range []string{`{"all": true}`, `{"task": "charge"}`, `{"state": ["failed", "canceled"]}`} {
		if status, text := s.ask("POST", "/api/runs.replay", strings.Replace(body, "{", `{"dry_run": true, `, 1), "Content-Type", asJSON); status != 200 || !strings.Contains(text, `"changed":1}`) {
			t.Errorf("replay %s: %d %s", body, status, text)
		}
	}
	if status, text := s.ask("POST", "/api/runs.delete", `{"all": true}`, "Content-Type", asJSON); status != 200 || !strings.Contains(text, `"changed":3}`) {
		t.Errorf("delete all: %d %s", status, text)
	}
}

// An unknown name is an error that suggests similar ones, and nothing is created.
func TestTypos(t *testing.T) {
	s := newShop(t)
	for _, tt := range []struct {
		method, path, body string
		status             int
		has                string
	}{
		{"POST", "/api/queues/defualt/pause", ``, 404, `did you mean \"default\"?`},
		{"POST", "/api/queues/defualt/resume", ``, 404, `did you mean \"default\"?`},
		{"POST", "/api/tasks/chagre/runs", `{"input": 1}`, 404, `did you mean \"charge\"?`},
		{"POST", "/api/runs.delete", `{"task": ["chargee"]}`, 404, `did you mean \"charge\"?`},
		{"POST", "/api/runs.cancel", `{"queue": "Default2", "paced": true}`, 404, `did you mean \"default\"?`},
		{"POST", "/api/filters", `{"task": "charg", "scope": "s", "expr": "true"}`, 404, `did you mean \"charge\"?`},
		{"POST", "/api/tasks/charge/runs", `{"input": 1, "dealy": null}`, 400, `there is no \"dealy\" here`},
		{"POST", "/api/tasks/charge/runs?delay=1h", `{"input": 1}`, 400, "in the body"},
		{"POST", "/api/workers/nobody/pause", ``, 404, "not found"},
		{"POST", "/api/crons/nobody/pause", ``, 404, "not found"},
		{"POST", "/api/queues/default/pause", `{"force": "maybe"}`, 400, "want true or false"},
		{"GET", "/runs?task=chareg", ``, 200, "did you mean &#34;charge&#34;?"},
		{"GET", "/api/queues", ``, 200, `{"queues":[{"name":"default"`},
		{"POST", "/api/queues/default/resume", `{"force": null}`, 200, "true"},
		{"POST", "/api/queues/new/pause", `{"force": true}`, 200, "true"},
		{"POST", "/api/tasks/elsewhere/runs", `{"input": 1, "force": true}`, 200, "run"},
		{"GET", "/api/runs?task=elsewhere", ``, 200, "no worker has task elsewhere"},
		{"GET", "/runs?task=elsewhere", ``, 200, "no worker has task elsewhere"},
	} {
		status, text := s.ask(tt.method, tt.path, tt.body, "Content-Type", asJSON)
		if status != tt.status || !strings.Contains(text, tt.has) {
			t.Errorf("%s %s %s: %d, want %d with %q:\n%.400s", tt.method, tt.path, tt.body, status, tt.status, tt.has, text)
		}
	}
}

var (
	hiddenField = regexp.MustCompile(`<input type="hidden" name="([^"]+)" value="([^"]*)">`)
	counted     = regexp.MustCompile(`<b>([0-9,]+)</b>`)
)

// asked returns the form with which a page asks to confirm an action.
func (s *shop) asked(path string) (form url.Values, text string) {
	s.t.Helper()
	status, text := s.ask("GET", path, "", "Accept", "text/html")
	if status != http.StatusOK {
		s.t.Fatalf("%s: %d %s", path, status, text)
	}
	form = url.Values{}
	for _, m := range hiddenField.FindAllStringSubmatch(text, -1) {
		form.Add(m[1], m[2])
	}
	return form, text
}

// A page asks in words and with the exact count, and then does just that: newer runs, and
// succeeded ones that were not asked for, are unchanged.
func TestConfirmed(t *testing.T) {
	more := func(s *shop) {
		for _, cents := range []int{-2, -3, 5} {
			s.ids = append(s.ids, enqueued(s, cents))
		}
	}
	for _, tt := range []struct {
		path, words, count, then string
	}{
		{"runs.replay&all=true", "all runs in state failed or canceled or blocked", "1", ""},
		{"runs.replay&task=charge", "all runs of task &#34;charge&#34;, in state failed or canceled or blocked", "1", ""},
		{"runs.replay&state=succeeded", "in state succeeded", "2", ""},
		{"runs.delete&state=failed&queue=default&since=24h&error=THAN", "in queue &#34;default&#34;, in state failed, whose error has &#34;THAN&#34;, created since 2", "1", "succeeded gone succeeded failed failed succeeded"},
		{"runs.delete&top=1&metadata=a=b", "with metadata a=b, that have no parent", "0", "succeeded failed succeeded failed failed succeeded"},
		{"runs.delete&all=true", "all runs in state", "3", "gone gone gone failed failed succeeded"},
		{"runs.cancel&all=true", "all runs in state scheduled or", "0", "succeeded failed succeeded failed failed succeeded"},
	} {
		t.Run(tt.path, func(t *testing.T) {
			s := newShop(t)
			form, text := s.asked("/confirm?do=" + tt.path)
			if got := counted.FindStringSubmatch(text); got == nil || got[1] != tt.count || !strings.Contains(text, tt.words) {
				t.Errorf("counted %q, want %s with %q:\n%s", got, tt.count, tt.words, text)
			}
			more(s)
			if tt.count == "0" {
				if len(form) != 0 {
					t.Errorf("asks with nothing to do: %v", form)
				}
				return
			}
			verb, _, _ := strings.Cut(tt.path, "&")
			status, text := s.ask("POST", "/api/"+verb, form.Encode(), "Content-Type", asForm, "Accept", "text/html")
			if got := counted.FindStringSubmatch(text); status != 200 || got == nil || got[1] != tt.count {
				t.Errorf("%d: done to %q, want %s:\n%s", status, got, tt.count, text)
			}
			if got := strings.Join(s.states(), " "); tt.then != "" && got != tt.then {
				t.Errorf("the runs are %s, want %s", got, tt.then)
			}
		})
	}
	t.Run("selected", func(t *testing.T) {
		s := newShop(t)
		form, text := s.asked("/confirm?do=runs.delete&selected=true&id=" + s.ids[0])
		if !strings.Contains(text, "the runs that you selected (1)") || !strings.Contains(text, "<b>1</b>") {
			t.Errorf("asks: %s", text)
		}
		s.ask("POST", "/api/runs.delete", form.Encode(), "Content-Type", asForm, "Accept", "text/html")
		if got := strings.Join(s.states(), " "); got != "gone failed succeeded" {
			t.Errorf("the runs are %s", got)
		}
	})
	t.Run("all that match nothing in particular", func(t *testing.T) {
		s := newShop(t, ui.WithTitle("x"))
		if _, text := s.asked("/runs"); !strings.Contains(text, "/confirm?do=runs.delete&amp;all=true") {
			t.Errorf("no link to an action on all: %s", text)
		}
	})
}

// A page asks for a queue that exists, then with the exact count, and moves the runs that wait; the API and the run's page do
// the same.
func TestMoveToQueue(t *testing.T) {
	s := newShop(t)
	later := func() string {
		run, err := s.c.EnqueueJSON(t.Context(), "charge", jsonOf(1), stint.WithDelay(time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		return run.ID()
	}
	queueOf := func(id string) string {
		info, err := s.c.GetRun(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		return info.Queue
	}
	if err := s.c.PauseQueue(t.Context(), "night"); err != nil { // it exists from then on
		t.Fatal(err)
	}
	first, second := later(), later()
	if _, text := s.asked("/runs"); !strings.Contains(text, "/confirm?do=runs.move&amp;all=true") || !strings.Contains(text, `value="runs.move"`) {
		t.Errorf("no button: %s", text)
	}
	form, text := s.asked("/confirm?do=runs.move&task=charge")
	if form.Get("task") != "charge" || !strings.Contains(text, `<option value="night">`) || !strings.Contains(text, `<option value="default">`) {
		t.Errorf("asks for a queue with %v: %s", form, text)
	}
	form, text = s.asked("/confirm?do=runs.move&task=charge&to=night")
	if got := counted.FindStringSubmatch(text); got == nil || got[1] != "2" || !strings.Contains(text, "Move runs to queue <bdi>night</bdi>?") {
		t.Errorf("asks with %q: %s", got, text)
	}
	third := later()
	status, text := s.ask("POST", "/api/runs.move", form.Encode(), "Content-Type", asForm, "Accept", "text/html")
	if got := counted.FindStringSubmatch(text); status != 200 || got == nil || got[1] != "2" {
		t.Errorf("%d: moved %q: %s", status, got, text)
	}
	if got := []string{queueOf(first), queueOf(second), queueOf(third)}; strings.Join(got, " ") != "night night default" {
		t.Errorf("the queues are %q", got)
	}
	for _, tt := range []struct {
		path, body string
		status     int
		has        string
	}{
		{"/api/runs.move", `{"all": true, "to": "nihgt"}`, 404, `did you mean \"night\"?`},
		{"/api/runs.move", `{"all": true}`, 400, "to is missing"},
		{"/api/runs.move", `{"to": "night"}`, 400, ""},
		{"/api/runs.move", `{"all": true, "to": "night", "dry_run": true}`, 200, `"changed":1}`},
		{"/api/runs/" + third + "/move", `{"to": "new"}`, 404, "new"},
		{"/api/runs/" + third + "/move", `{"to": "new", "force": true}`, 200, `"changed":1}`},
	} {
		if status, text := s.ask("POST", tt.path, tt.body, "Content-Type", asJSON); status != tt.status || !strings.Contains(text, tt.has) {
			t.Errorf("%s %s: %d, want %d with %q: %s", tt.path, tt.body, status, tt.status, tt.has, text)
		}
	}
	if got := queueOf(third); got != "new" {
		t.Errorf("the third is in queue %s", got)
	}
	if _, text := s.ask("GET", "/runs/"+third, ""); !strings.Contains(text, "/confirm?do=runs.move&amp;selected=true&amp;id="+third) {
		t.Errorf("the run's page has no button: %s", text)
	}
	if _, text := s.ask("GET", "/runs/"+s.ids[0], ""); strings.Contains(text, "runs.move") {
		t.Error("the page of a run that has ended has one")
	}
}

// enqueued returns a run of the shop's task that has ended.
func enqueued(s *shop, cents int) string {
	s.t.Helper()
	run, err := s.c.EnqueueJSON(s.t.Context(), "charge", jsonOf(cents))
	if err != nil {
		s.t.Fatal(err)
	}
	stint.RunByID[string](s.c, run.ID()).Wait(s.t.Context())
	return run.ID()
}

func jsonOf(v any) json.RawMessage {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}
