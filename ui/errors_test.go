package ui_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/ui"
)

// errorShop has three failed runs of two tasks: two of them failed with the same error. It returns the ID of that.
func errorShop(t *testing.T, opts ...ui.Option) (*shop, string) {
	t.Helper()
	s := newEmptyShop(t, opts...)
	charge := stint.NewTask(s.c, "charge", func(_ context.Context, order int) (int, error) {
		return 0, stint.NonRetryable(fmt.Errorf("order %d: card %q declined\nby the bank", order, "gold"))
	})
	mail := stint.NewTask(s.c, "mail", func(context.Context, int) (int, error) {
		return 0, stint.NonRetryable(errors.New("no such user <script>"))
	})
	s.work()
	for _, enqueue := range []func() (*stint.Run[int], error){func() (*stint.Run[int], error) { return charge.Enqueue(t.Context(), 8177) },
		func() (*stint.Run[int], error) { return charge.Enqueue(t.Context(), 42, stint.WithQueue("payments")) },
		func() (*stint.Run[int], error) { return mail.Enqueue(t.Context(), 1) }} {
		r, err := enqueue()
		if err != nil {
			t.Fatal(err)
		}
		r.Wait(t.Context())
		s.ids = append(s.ids, r.ID())
	}
	page, err := s.c.ListErrors(t.Context(), stint.ErrorFilter{Tasks: []string{"charge"}})
	if err != nil || len(page.Groups) != 1 {
		t.Fatalf("%+v, %v", page, err)
	}
	return s, page.Groups[0].ID
}

// contains fails unless a text has all the others.
func contains(t *testing.T, where, text string, want ...string) {
	t.Helper()
	for _, w := range want {
		if !strings.Contains(text, w) {
			t.Errorf("%s: no %q in %s", where, w, text)
		}
	}
}

// Failed runs are listed by error, with what varies masked, over all time and over a range.
func TestErrorsPage(t *testing.T) {
	s, id := errorShop(t)
	for _, path := range []string{"/errors", "/errors?since=1h"} {
		contains(t, path, s.text(path, nil), "3 runs failed", "2 different errors. 2 are new.", "Open 2", "Muted 0",
			"new charge order n : card &#34; text &#34; declined", "new mail no such user &lt;script&gt;", "Failed runs per")
	}
	_, page := s.ask("GET", "/errors", "", "Accept", "text/html")
	contains(t, "/errors", page, `href="/errors/`+id+`"`, `/confirm?do=runs.replay&amp;group=`+id+`&amp;state=failed`)
	text := s.text("/errors?task=mail", nil)
	if strings.Contains(text, "declined") {
		t.Errorf("of task mail: %s", text)
	}
	contains(t, "of a task", text, "Task mail ×", "1 run failed, with 1 error.")
	contains(t, "an old range", s.text("/errors?since=2020-01-01&until=2020-01-02", nil), "No run failed in the chosen time.")
	contains(t, "the page of a task", s.text("/tasks/charge", nil), "Errors Kind Task Error", "order n : card &#34; text &#34; declined",
		"All errors of the task")
	contains(t, "the page of a run", s.text("/runs/"+s.ids[0], nil), "All runs that failed so")
}

// The page of an error has its sample, its runs, what they have in common, and the replay of all of them.
func TestErrorPage(t *testing.T) {
	s, id := errorShop(t)
	text := s.text("/errors/"+id, nil)
	contains(t, "the page", text, "order 42: card &#34;gold&#34; declined by the bank", "Failed 2 times", "Replay all 2…", "Mute it:",
		"By queue default 1 payments 1", "Runs that are failed now All 2", "order 8177")
	ask := s.text("/confirm?do=runs.replay&group="+id+"&state=failed", nil)
	contains(t, "the question", ask, "2 of the runs that match will be replayed", "that failed with error "+id)
	form, _ := s.asked("/confirm?do=runs.replay&group=" + id + "&state=failed")
	if form.Get("group") != id {
		t.Errorf("the form is %v", form)
	}
	contains(t, "the list of runs", s.text("/runs?group="+id, nil), "of one error", "order 8177", "order 42")
	for _, path := range []string{"/errors/0123456789abcdef", "/errors/nonsense", "/errors?cursor=x"} {
		if status, text := s.ask("GET", path, "", "Accept", "text/html"); status != 404 && status != 400 {
			t.Errorf("%s: %d %s", path, status, text)
		}
	}
}

// A muted error is in a list of its own, and needs no attention.
func TestMutedErrors(t *testing.T) {
	s, id := errorShop(t)
	s.counted("3")
	contains(t, "attention", s.text("/", attention), "charge fails: 1 of 1 runs", "mail fails: 1 of 1 runs", "Show errors")
	post := func(what string, form url.Values) {
		t.Helper()
		if status, text := s.ask("POST", "/api/errors/"+id+"/"+what, form.Encode(), "Content-Type", asForm, "Accept", "text/html"); status != 303 {
			t.Errorf("%s %v: %d %s", what, form, status, text)
		}
	}
	post("mute", url.Values{"for": {"24h"}, "next": {"/errors"}})
	contains(t, "the open ones", s.text("/errors", nil), "1 run failed", "Open 1", "Muted 1")
	contains(t, "the muted ones", s.text("/errors?show=muted", nil), "muted charge", "Open 1", "Muted 1")
	contains(t, "its page", s.text("/errors/"+id, nil), "It is muted until", "Unmute")
	if text := s.text("/", attention); strings.Contains(text, "charge fails") {
		t.Errorf("a muted error needs attention: %s", text)
	}
	post("unmute", url.Values{"next": {"/errors"}})
	post("mute", url.Values{"next": {"/errors"}})
	contains(t, "its page", s.text("/errors/"+id, nil), "It is muted for good.")
	for _, path := range []string{"/api/errors/0123456789abcdef/mute", "/api/errors/x/unmute"} {
		if status, text := s.ask("POST", path, "{}", "Content-Type", asJSON); status != 404 {
			t.Errorf("%s: %d %s", path, status, text)
		}
	}
	if status, text := s.ask("POST", "/api/errors/"+id+"/mute", `{"for": "long"}`, "Content-Type", asJSON); status != 400 {
		t.Errorf("a wrong duration: %d %s", status, text)
	}
}

// A new error of a task that seldom fails needs attention.
func TestNewErrorNeedsAttention(t *testing.T) {
	s := newEmptyShop(t)
	task := stint.NewTask(s.c, "sync", func(_ context.Context, n int) (int, error) {
		if n == 7 {
			return 0, stint.NonRetryable(errors.New("account 7 is locked"))
		}
		return n, nil
	})
	s.work()
	for n := range 12 {
		task.Run(t.Context(), n)
	}
	s.counted("12")
	contains(t, "attention", s.text("/", attention), "New error of sync · 1 run · account n is locked", "Replay… Show error")
}

func TestErrorsAPI(t *testing.T) {
	s, id := errorShop(t)
	var out struct {
		Errors []struct {
			ID, Task, Text, Sample, Run string
			Count                       int64
			Muted                       bool
			MutedUntil                  *string `json:"muted_until"`
			Trend                       []struct{ Count int64 }
		}
		Next string
	}
	get := func(query string, n int) {
		t.Helper()
		out.Errors, out.Next = nil, ""
		status, text := s.ask("GET", "/api/errors"+query, "")
		if err := json.Unmarshal([]byte(text), &out); status != 200 || err != nil || len(out.Errors) != n {
			t.Fatalf("%s: %d %s", query, status, text)
		}
	}
	get("", 2)
	get("?limit=1", 1)
	first := out.Errors[0].ID // which of the two that is decides a millisecond
	if get("?limit=1&cursor="+out.Next, 1); out.Errors[0].ID == first || out.Next != "" {
		t.Errorf("the second page has %+v after %s", out, first)
	}
	get("?task=charge", 1)
	if e := out.Errors[0]; e.Task != "charge" || e.Count != 2 || e.Run != s.ids[1] || len(e.Trend) == 0 || e.MutedUntil != nil ||
		e.Text != "order <n>: card \"<text>\" declined" || e.Sample != "order 42: card \"gold\" declined\nby the bank" {
		t.Errorf("%+v", out)
	}
	get("?id="+id+"&span=hour&since=2h", 1)
	get("?task=none", 0)
	status, text := s.ask("GET", "/api/runs?group="+id, "")
	if status != 200 || strings.Count(text, `"error_group":"`+id+`"`) != 2 {
		t.Errorf("runs of the group: %d %s", status, text)
	}
	for _, query := range []string{"?id=x", "?span=day", "?since=x", "?until=x", "?limit=x", "?cursor=x", "?typo=1"} {
		if status, text := s.ask("GET", "/api/errors"+query, ""); status != 400 && status != 404 {
			t.Errorf("%s: %d %s", query, status, text)
		}
	}
}

// A page that is read-only offers nothing to change, and refuses to mute.
func TestErrorsReadOnly(t *testing.T) {
	s, id := errorShop(t, ui.WithReadOnly())
	for _, path := range []string{"/errors", "/errors/" + id} {
		if text := s.text(path, nil); strings.Contains(text, "Replay") || strings.Contains(text, "Mute it") {
			t.Errorf("%s: %s", path, text)
		}
	}
	if status, _ := s.ask("POST", "/api/errors/"+id+"/mute", "{}", "Content-Type", asJSON); status != 403 {
		t.Errorf("muted with status %d", status)
	}
}

// A workflow that fails has no error of its own: its tasks have.
func TestFailingWorkflowNeedsAttention(t *testing.T) {
	s := newEmptyShop(t)
	flow := stint.NewWorkflow[int](s.c, "site")
	stint.AddTask(flow, "build", func(context.Context, int) (int, error) { return 0, stint.NonRetryable(errors.New("no disk")) })
	s.work()
	if _, err := flow.Run(t.Context(), 1); err == nil {
		t.Fatal("it succeeded")
	}
	s.counted("2")
	contains(t, "attention", s.text("/", attention), "site:build fails: 1 of 1 runs · no disk",
		"Replay 1… Show errors")
	contains(t, "the errors", s.text("/errors", nil), "1 run failed, with 1 error.", "site:build no disk")
}

// A resolved error is not open until a run fails so again; then it has regressed. One that is muted until twice as many runs
// failed is open again when they have.
func TestResolvedErrors(t *testing.T) {
	s := newEmptyShop(t)
	task := stint.NewTask(s.c, "sync", func(_ context.Context, n int) (int, error) {
		return 0, stint.NonRetryable(fmt.Errorf("account %d is locked", n))
	})
	s.work()
	fail := func() {
		t.Helper()
		if _, err := task.Run(t.Context(), 1); err == nil {
			t.Fatal("it succeeded")
		}
	}
	fail()
	page, err := s.c.ListErrors(t.Context(), stint.ErrorFilter{})
	if err != nil || len(page.Groups) != 1 {
		t.Fatal(page, err)
	}
	id := page.Groups[0].ID
	const asForm, rail = "application/x-www-form-urlencoded", `>1<span class="vh"> open</span>`
	post := func(what string, form url.Values) {
		t.Helper()
		form.Set("next", "/errors")
		if status, text := s.ask("POST", "/api/errors/"+id+"/"+what, form.Encode(), "Content-Type", asForm, "Accept", "text/html"); status != 303 {
			t.Errorf("%s: %d %s", what, status, text)
		}
	}
	is := func(what string, open bool, want ...string) {
		t.Helper()
		if in := strings.Contains(s.get("/workers"), rail); in != open {
			t.Errorf("%s: the rail counts it %v", what, in)
		}
		if in := strings.Contains(s.text("/", attention), "sync fails"); in != open {
			t.Errorf("%s: it needs attention %v", what, in)
		}
		contains(t, what, s.text("/errors", nil), want...)
	}
	s.counted("1")
	is("new", true, "Open 1", "Muted 0", "Resolved 0", "new sync")
	post("resolve", url.Values{})
	is("resolved", false, "Open 0", "Resolved 1", "No error is open.")
	contains(t, "its page", s.text("/errors/"+id, nil), "It is resolved: until a run fails so again.", "Open again")
	contains(t, "the resolved ones", s.text("/errors?show=resolved", nil), "resolved sync")
	fail()
	s.counted("2")
	is("seen again", true, "Open 1", "Resolved 0", "regressed sync")
	post("mute", url.Values{"to_double": {"true"}})
	is("muted", false, "Open 0", "Muted 1")
	contains(t, "its page", s.text("/errors/"+id, nil), "It is muted until 4 runs have failed so.")
	fail()
	s.counted("3")
	is("three times", false, "Muted 1")
	fail()
	s.counted("4")
	is("twice as often", true, "Open 1", "Muted 0")
	post("mute", url.Values{})
	post("resolve", url.Values{})
	is("resolved instead of muted", false, "Muted 0", "Resolved 1")
	post("unmute", url.Values{})
	is("open again", true, "Open 1")
	for _, body := range []string{`{"for": "1h", "to_double": true}`, `{"to_double": "maybe"}`} {
		if status, text := s.ask("POST", "/api/errors/"+id+"/mute", body, "Content-Type", asJSON); status != 400 {
			t.Errorf("%s: %d %s", body, status, text)
		}
	}
	if status, _ := s.ask("GET", "/errors?show=all", "", "Accept", "text/html"); status != 400 {
		t.Errorf("show=all: %d", status)
	}
}

// Errors are found by their text and their task, but not where WithRedact may hide the text.
func TestSearchErrors(t *testing.T) {
	s, _ := errorShop(t)
	for query, want := range map[string][]string{"text=DECLINED": {"Open 1", "charge"}, "text=gold": {"Open 1", "charge"}, "text=mail": {"Open 1", "no such user"},
		"text=never": {"Open 0", "No open error has this text."}} {
		contains(t, query, s.text("/errors?"+query, nil), want...)
	}
	if _, text := s.ask("GET", "/api/errors?text=%3Cscript", ""); strings.Count(text, `"task":"mail"`) != 1 || strings.Contains(text, `"task":"charge"`) {
		t.Errorf("the API finds %s", text)
	}
	hidden, _ := errorShop(t, ui.WithRedact(func(p ui.Payload) json.RawMessage { return p.JSON }))
	for _, path := range []string{"/errors?text=gold", "/api/errors?text=gold"} {
		if status, text := hidden.ask("GET", path, ""); status != 400 || !strings.Contains(text, "WithRedact") {
			t.Errorf("%s: %d %s", path, status, text)
		}
	}
	if text := hidden.get("/errors"); strings.Contains(text, `name="text"`) {
		t.Error("a field to search hidden texts")
	}
}
