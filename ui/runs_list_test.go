package ui_test

import (
	"encoding/json"
	"fmt"
	"html"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/ui"
)

// listed returns a shop with n runs of a task that nobody executes.
func listed(t *testing.T, n int) *shop {
	t.Helper()
	s := newEmptyShop(t)
	inputs := make([]int, n)
	for i := range inputs {
		inputs[i] = i
	}
	if _, err := stint.NewTask[int, int](s.c, "work", nil).EnqueueMany(t.Context(), inputs); err != nil {
		t.Fatal(err)
	}
	return s
}

// get returns a page, or an answer of the API.
func (s *shop) get(path string) string {
	s.t.Helper()
	status, text := s.ask("GET", path, "", "Accept", "text/html")
	if status != http.StatusOK {
		s.t.Fatalf("%s: %d, %.300s", path, status, text)
	}
	return text
}

// A list says how many runs match: at once if it shows them all, else after a count, which a link leads to.
func TestCountOfList(t *testing.T) {
	s := listed(t, 50)
	if text := s.get("/runs"); !strings.Contains(text, `<p id="count">50 runs</p>`) {
		t.Errorf("no count of a whole list: %s", around(text, "count"))
	}
	if _, err := s.c.EnqueueJSON(t.Context(), "other", []byte("1")); err != nil {
		t.Fatal(err)
	}
	if text := s.get("/runs"); !strings.Contains(text, "/count?") || strings.Contains(text, "50 runs") {
		t.Errorf("no link to a count: %s", around(text, "count"))
	}
	for query, want := range map[string]int{"": 51, "task=work": 50, "task=other": 1, "state=failed": 0, "state=queued&since=1h": 51} {
		if _, text := s.ask("GET", "/api/runs.count?"+query, ""); text != fmt.Sprintf("{\"runs\":%d}\n", want) {
			t.Errorf("%q: %s, want %d", query, text, want)
		}
		if text := s.get("/count?" + query); !strings.Contains(text, fmt.Sprintf("<b>%d</b> match: ", want)) {
			t.Errorf("%q: the page does not say %d: %s", query, want, around(text, "match"))
		}
	}
	for _, query := range []string{"state=no", "cursor=x", "cols=x"} {
		if status, text := s.ask("GET", "/api/runs.count?"+query, ""); status == http.StatusOK {
			t.Errorf("%q: %s", query, text)
		}
	}
}

// rowsOf returns the IDs of the runs that a list shows, in its order.
func rowsOf(text string) (ids []string) {
	for _, m := range regexp.MustCompile(`<tr [^>]*data-beside="([^"]+)"`).FindAllStringSubmatch(text, -1) {
		ids = append(ids, m[1])
	}
	return ids
}

// A list is sorted by a column among the newest runs that match, and says which those are.
func TestListIsSorted(t *testing.T) {
	s := newEmptyShop(t)
	var ids []string
	for _, p := range []int{5, -3, 9, 9, 0} {
		r, err := s.c.EnqueueJSON(t.Context(), "work", []byte("1"), stint.WithPriority(p), stint.WithMetadata(map[string]string{"tenant": "acme"}))
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, r.ID())
	}
	for query, want := range map[string][]int{"": {4, 3, 2, 1, 0}, "sort=priority": {1, 4, 0, 3, 2}, "sort=-priority": {3, 2, 0, 4, 1},
		"sort=none": {4, 3, 2, 1, 0}, "sort=created": {0, 1, 2, 3, 4}, "sort=-took": {4, 3, 2, 1, 0}} {
		text := s.get("/runs?cols=priority&" + query)
		var wanted []string
		for _, i := range want {
			wanted = append(wanted, ids[i])
		}
		if got := rowsOf(text); !slices.Equal(got, wanted) {
			t.Errorf("%q: %q, want %q", query, got, wanted)
		}
		if is := strings.Contains(text, "All 5 runs that match, by “Priority”."); is != strings.Contains(query, "priority") {
			t.Errorf("%q: it says how it is sorted: %v", query, is)
		}
	}
	if text := s.get("/runs?sort=-priority"); strings.Count(text, ">tenant=acme</bdi>") != len(ids) {
		t.Errorf("a sorted list lacks what runs have: %s", around(text, "<tbody>"))
	}
	var got []string
	for next := ""; next != "" || got == nil; { // a page at a time
		var page struct {
			Runs []struct{ ID string }
			Next string
		}
		if err := json.Unmarshal([]byte(s.get("/api/runs?oldest=true&limit=2&cursor="+next)), &page); err != nil {
			t.Fatal(err)
		}
		for _, r := range page.Runs {
			got = append(got, r.ID)
		}
		next = page.Next
	}
	if !slices.Equal(got, ids) {
		t.Errorf("the API, oldest first: %q, want %q", got, ids)
	}
	if _, err := stint.NewTask[int, int](s.c, "more", nil).EnqueueMany(t.Context(), make([]int, 1000)); err != nil {
		t.Fatal(err)
	}
	second := regexp.MustCompile(`<a[^>]*href="([^"]*)"[^>]*>Newer</a>`).FindStringSubmatch(s.get("/runs?sort=created"))
	if second == nil {
		t.Fatal("no second page of the oldest first")
	}
	if got, first := rowsOf(s.get(html.UnescapeString(second[1]))), rowsOf(s.get("/runs?sort=created")); len(got) != 50 || got[0] <= first[49] ||
		!slices.Equal(first[:5], ids) {
		t.Errorf("the oldest first: %q, then %q", first, got)
	}
	const want = "The newest 1,000 runs that match, by “Priority”: the first 200. To sort older ones too, narrow the time or the query."
	if text := s.get("/runs?sort=-priority"); !strings.Contains(text, want) || len(rowsOf(text)) != 200 {
		t.Errorf("%d rows: %s", len(rowsOf(text)), around(text, "sorted"))
	}
}

// The columns that a viewer chose are in the URL, and kept for later, also for the live page; others have their own.
func TestColumns(t *testing.T) {
	s := newEmptyShop(t)
	if _, err := s.c.EnqueueJSON(t.Context(), "work", []byte("1"), stint.WithMetadata(map[string]string{"tenant": "acme"})); err != nil {
		t.Fatal(err)
	}
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	choose := func(query string) (location string, cookie *http.Cookie) {
		r, err := client.Get(s.url + "/runs?" + query)
		if err != nil {
			t.Fatal(err)
		}
		r.Body.Close()
		if r.StatusCode != http.StatusSeeOther || len(r.Cookies()) != 1 {
			t.Fatalf("%d, %v", r.StatusCode, r.Cookies())
		}
		return r.Header.Get("Location"), r.Cookies()[0]
	}
	to, cookie := choose("columns=chosen&cols=worker&cols=metadata.tenant&cols=no-such&state=queued")
	if want := "/runs?cols=worker&cols=metadata.tenant&cols=no-such&state=queued"; to != want {
		t.Errorf("the choice leads to %s, want %s", to, want)
	}
	heads := func(text string) string {
		text, _, _ = strings.Cut(text[strings.Index(text, "<thead>"):], "</thead>")
		return strings.Join(strings.Fields(markup.ReplaceAllString(text, " ")), " ")
	}
	const chosen = "State Task Worker tenant Created ↓"
	const standard = "State Task Error, wait or input Queue Metadata Attempt Took Created ↓"
	kept := cookie.Name + "=" + cookie.Value
	for _, tt := range []struct{ path, cookie, want string }{{to, "", chosen}, {"/runs", "", standard}, {"/runs", kept, chosen},
		{"/runs?cols=id", kept, "State Task ID Created ↓"}, {"/runs", cookie.Name + "=%%", standard}} {
		if _, text := s.ask("GET", tt.path, "", "Accept", "text/html", "Cookie", tt.cookie); heads(text) != tt.want {
			t.Errorf("%s with %q: %q, want %q", tt.path, tt.cookie, heads(text), tt.want)
		}
	}
	if _, text := s.ask("GET", "/runs", "", "Accept", "text/html", "Cookie", kept); !strings.Contains(text, ">acme</bdi>") {
		t.Error("the column of a key of metadata does not show it")
	}
	if to, cookie = choose("columns=default&cols=worker"); to != "/runs" || cookie.MaxAge >= 0 {
		t.Errorf("the default: %s, %v", to, cookie)
	}
}

// Views of the list of runs are kept with their names, shown as links, and deleted, by those who may change something.
func TestSavedViews(t *testing.T) {
	s := newEmptyShop(t)
	save := func(name, query string) int {
		status, _ := s.ask("POST", "/api/views", url.Values{"name": {name}, "query": {query}}.Encode(),
			"Content-Type", "application/x-www-form-urlencoded")
		return status
	}
	for _, tt := range []struct {
		name, query string
		status      int
	}{{"failed <b>", "state=failed&cols=worker&sort=-took&cursor=x&run=y&other=z", 200}, {"a/b", "since=24h", 200}, {"", "state=failed", 400},
		{"bad", "state=no", 400}, {strings.Repeat("x", 61), "", 400}, {"long", "task=" + strings.Repeat("x", 5000), 400}, {"a/b", "since=48h", 200}} {
		if status := save(tt.name, tt.query); status != tt.status {
			t.Errorf("%q, %.30q: %d, want %d", tt.name, tt.query, status, tt.status)
		}
	}
	const want = `{"views":[{"name":"a/b","query":"since=48h"},{"name":"failed <b>","query":"cols=worker&sort=-took&state=failed"}]}`
	if _, text := s.ask("GET", "/api/views", ""); strings.TrimSpace(text) != want {
		t.Errorf("%s, want %s", text, want)
	}
	text := s.get("/runs?cols=worker&sort=-took&state=failed")
	if !strings.Contains(text, `<a aria-current="true" href="/runs?cols=worker&amp;sort=-took&amp;state=failed"><bdi>failed &lt;b&gt;</bdi></a>`) {
		t.Errorf("no link to the view: %s", around(text, "failed &lt;b"))
	}
	for path, status := range map[string]int{"/api/views/a%2Fb/delete": 200, "/api/views/none/delete": 404} {
		if got, text := s.ask("POST", path, ""); got != status {
			t.Errorf("%s: %d %s, want %d", path, got, text, status)
		}
	}
	if text := s.get("/runs"); strings.Contains(text, "<bdi>a/b</bdi>") {
		t.Error("a deleted view is shown")
	}
	server := httptest.NewServer(ui.Handler(s.c, ui.WithLocalAccess(), ui.WithReadOnly()))
	defer server.Close()
	s.url = server.URL
	if status := save("late", "state=failed"); status != http.StatusForbidden {
		t.Errorf("a page that is read-only saves a view: %d", status)
	}
	if text := s.get("/runs"); strings.Contains(text, "Save view") || !strings.Contains(text, "failed &lt;b&gt;") {
		t.Error("a page that is read-only shows the views, and no form")
	}
}

// A run is shown beside the list, with what can be done, and the list stays where it is.
func TestRunBesideList(t *testing.T) {
	s := newShop(t)
	text := s.get("/runs?state=failed&run=" + s.ids[1])
	_, aside, found := strings.Cut(text, "<aside")
	for _, want := range []string{"less than nothing", `href="/runs/` + s.ids[1] + `"`, "Replay", "-1", `value="/runs?run=` + s.ids[1]} {
		if !found || !strings.Contains(aside, want) {
			t.Errorf("no %q beside the list: %s", want, aside)
		}
	}
	if !strings.Contains(text, `href="?state=failed"`) || len(rowsOf(text)) != 1 {
		t.Error("no way to close it")
	}
	if text := s.get("/runs?run=01923b5c-7d3e-7000-8000-3f2a9c1b4d5e"); !strings.Contains(text, "not there any more") || len(rowsOf(text)) != 3 {
		t.Errorf("a deleted run: %s", around(text, "aside"))
	}
}
