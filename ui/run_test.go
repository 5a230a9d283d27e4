package ui_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/stinttest"
	"github.com/stint-dev/stint/ui"
)

// mainOf returns the text of a page's content, without markup.
func mainOf(t *testing.T, h http.Handler, path string) string {
	t.Helper()
	w, _ := asked(t, h, path, "Accept", "text/html")
	if w.Code != http.StatusOK {
		t.Fatalf("GET %s: %d: %.300s", path, w.Code, w.Body)
	}
	_, text, _ := strings.Cut(w.Body.String(), "<main")
	return strings.Join(strings.Fields(markup.ReplaceAllString(text, " ")), " ")
}

// A run's page reads and shows only what its tab is for. The timeline has a drawer with the chosen span.
func TestRunTabs(t *testing.T) {
	c, h := opened(t)
	child := stint.NewTask(c, "child", func(ctx context.Context, s string) (string, error) {
		stint.Logger(ctx).Info("log of the child")
		return "output of the child", nil
	})
	task := stint.NewTask(c, "parent", func(ctx context.Context, in string) (string, error) {
		stint.Logger(ctx).Info("log of the parent")
		if err := stint.Stream(ctx, []byte("streamed")); err != nil {
			return "", err
		}
		if _, err := stint.Step(ctx, "reserve", func(context.Context) (string, error) { return "result of the step", nil }); err != nil {
			return "", err
		}
		_, err := child.Run(ctx, "input of the child")
		return "output of " + in, err
	})
	run, err := task.Enqueue(t.Context(), "all")
	if err = cmp.Or(err, stinttest.Drain(t.Context(), c)); err != nil {
		t.Fatal(err)
	}
	children, err := c.ListRuns(t.Context(), stint.RunFilter{ParentID: run.ID()})
	if err != nil || len(children.Runs) != 1 {
		t.Fatalf("%v, %+v", err, children)
	}
	path := "/runs/" + run.ID()
	for query, want := range map[string]string{
		"": "step reserve", "?tab=journal": "result of the step", "?tab=logs": "log of the parent", "?text=parent": "log of the parent",
		"?tab=stream": "streamed", "?tab=input": "As Go", "?tab=attempts": "When State", "?tab=children": "input of the child",
		"?tab=timeline&span=e1": "result of the step", "?tab=timeline&span=c" + children.Runs[0].ID: "output of the child",
	} {
		text := mainOf(t, h, path+query)
		if !strings.Contains(text, want) {
			t.Errorf("%s%s does not show %q: %s", path, query, want, text)
		}
		for _, other := range []string{"streamed", "As Go", "When State"} {
			if other != want && strings.Contains(text, other) {
				t.Errorf("%s%s shows %q too", path, query, other)
			}
		}
	}
	for query, want := range map[string]string{"?span=e99": "not here any more", "?tab=timeline&zoom=0-1": "Show all", "?zoom=9-1": "step reserve"} {
		if text := mainOf(t, h, path+query); !strings.Contains(text, want) {
			t.Errorf("%s%s does not show %q: %s", path, query, want, text)
		}
	}
	for _, tab := range []string{"graph", "no"} { // it is no workflow
		if w, _ := asked(t, h, path+"?tab="+tab, "Accept", "text/html"); w.Code != http.StatusNotFound {
			t.Errorf("tab %s: %d", tab, w.Code)
		}
	}
}

// The page of a run that waits for an event offers to publish it, with the scope and the field that it must have, by
// the operation that publishes. What may not be seen is not in the form, and who may not publish is refused.
func TestPublishAwaited(t *testing.T) {
	c, open := opened(t)
	task := stint.NewTask(c, "approval", func(ctx context.Context, _ int) (stint.Fired, error) {
		return stint.WaitFor(ctx, stint.AnyOf(stint.UserEvent("approved", stint.WithMatch("id", "ord-7"), stint.WithScope("acme")), stint.UserEvent("refused")))
	})
	run, err := task.Enqueue(t.Context(), 1)
	if err = cmp.Or(err, stinttest.Drain(t.Context(), c)); err != nil {
		t.Fatal(err)
	}
	info, err := run.Info(t.Context())
	want := []stint.AwaitedEvent{{Key: "approved", Scope: "acme", Field: "id", Value: json.RawMessage(`"ord-7"`)}, {Key: "refused"}}
	if err != nil || !reflect.DeepEqual(info.Awaits, want) {
		t.Fatalf("it waits for %+v, %v", info.Awaits, err)
	}
	path := "/runs/" + run.ID()
	w, _ := asked(t, open, "/api"+path, "Accept", "application/json")
	if told := `"awaits":[{"key":"approved","scope":"acme","field":"id","value":"ord-7"},{"key":"refused"}]`; !strings.Contains(w.Body.String(), told) {
		t.Errorf("the API does not say what it waits for: %s", w.Body)
	}
	form := func(h http.Handler) string {
		w, _ := asked(t, h, path, "Accept", "text/html")
		_, text, _ := strings.Cut(w.Body.String(), "<summary>Publish event")
		return text
	}
	for _, part := range []string{`action="/api/events"`, `value="approved"`, `value="acme"`, `&#34;id&#34;: &#34;ord-7&#34;`, `value="refused"`} {
		if !strings.Contains(form(open), part) {
			t.Errorf("the form has no %s:\n%.2000s", part, form(open))
		}
	}
	if text := form(ui.Handler(c, ui.WithLocalAccess(), ui.WithReadOnly())); text != "" {
		t.Error("a page that is read-only has the form")
	}
	secret := ui.Handler(c, ui.WithAuthorize(func(_ *http.Request, a ui.Action) error {
		if a.Name == "events.publish" {
			return errors.New("not you")
		}
		return nil
	}), ui.WithRedact(func(ui.Payload) json.RawMessage { return nil }))
	if text := form(secret); text == "" || strings.Contains(text, "acme") || strings.Contains(text, "ord-7") {
		t.Errorf("a redacted page has the form\n%.2000s", text)
	}
	post := func(h http.Handler) int {
		body := url.Values{"key": {"approved"}, "scope": {"acme"}, "payload": {`{"id": "ord-7"}`}, "next": {path}}
		r := httptest.NewRequest("POST", "/api/events", strings.NewReader(body.Encode()))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Accept", "text/html")
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w.Code
	}
	if code := post(secret); code != http.StatusForbidden {
		t.Errorf("who may not publish gets %d", code)
	}
	if code := post(open); code != http.StatusSeeOther {
		t.Errorf("who may publish gets %d", code)
	}
	if err := stinttest.Drain(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if info, err = run.Info(t.Context()); err != nil || info.State != stint.StateSucceeded || info.Awaits != nil {
		t.Errorf("%+v, %v", info, err)
	}
}

// Attempts stand side by side, with what each did anew and what it had from the journal. A run is compared with the
// last of its task that succeeded: what differs in its input, how long it and its calls took.
func TestAttemptsAndComparison(t *testing.T) {
	c, h := opened(t)
	type order struct {
		ID      int64
		Gateway string
		Fails   bool
	}
	task := stint.NewTask(c, "order", func(ctx context.Context, o order) (string, error) {
		if _, err := stint.Step(ctx, "reserve", func(context.Context) (int, error) { return 1, nil }); err != nil {
			return "", err
		}
		return stint.Step(ctx, "charge", func(context.Context) (string, error) {
			if o.Fails {
				return "", errors.New("connection refused")
			}
			return "receipt", nil
		}, stint.WithRetries(0))
	}, stint.WithRetries(1), stint.WithRetryBackoff(1, time.Millisecond))
	working(t, c)
	alone, err := task.Enqueue(t.Context(), order{ID: 9007199254740993, Gateway: "pay-a"})
	if err == nil {
		_, err = alone.Wait(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	if text := mainOf(t, h, "/runs/"+alone.ID()+"?tab=compare"); !strings.Contains(text, "No other run of this task has succeeded.") {
		t.Errorf("the only run is compared: %s", text)
	}
	failed, err := task.Enqueue(t.Context(), order{ID: 9007199254740993, Gateway: "10.0.0.7", Fails: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := failed.Wait(t.Context()); err == nil {
		t.Fatal("the run succeeded")
	}
	text := mainOf(t, h, "/runs/"+failed.ID()+"?tab=attempts")
	for _, want := range []string{"Attempt 1 Attempt 2 Ended as failed failed Error connection refused connection refused", "from the journal", "step charge"} {
		if !strings.Contains(text, want) {
			t.Errorf("the attempts do not show %q: %s", want, text)
		}
	}
	text = mainOf(t, h, "/runs/"+failed.ID()+"?tab=compare")
	for _, want := range []string{
		"State failed succeeded", "Error connection refused –", "Attempts 2 1",
		`Input This run The run that succeeded Fails true false Gateway &#34;10.0.0.7&#34; &#34;pay-a&#34; Durable calls`,
		"2 step charge", ": connection refused",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the comparison does not show %q: %s", want, text)
		}
	}
	if strings.Contains(text, "9007199254740993") {
		t.Errorf("the comparison shows a field that does not differ: %s", text)
	}
}
