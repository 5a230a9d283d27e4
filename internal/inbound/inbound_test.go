package inbound

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stint-dev/stint/store"
)

func hook() *Hook {
	return &Hook{
		Name: "shop", MaxBody: 100, Verify: func(*http.Request, []byte) (string, error) { return "d1", nil },
		Call: func(f func() error) (bool, error) { return false, f() },
	}
}

func post(body string, headers ...string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "/hook", strings.NewReader(body))
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	return r
}

const form = "application/x-www-form-urlencoded"

func TestPayload(t *testing.T) {
	for name, test := range map[string]struct {
		request *http.Request
		want    string
	}{
		"JSON":                   {post(`{"n":1}`), `{"n":1}`},
		"JSON that says form":    {post(`{"n":1}`, "Content-Type", form), `{"n":1}`},
		"a form":                 {post("b=x&a=1", "Content-Type", form), `{"a":"1","b":"x"}`},
		"a form with a document": {post("payload=%7B%7D", "Content-Type", form+"; charset=utf-8"), `{}`},
	} {
		q, refused := hook().Read(httptest.NewRecorder(), test.request)
		if refused != nil || q.Event == nil || string(q.Event.Payload) != test.want {
			t.Errorf("%s: got %+v, %+v, want %s", name, q, refused, test.want)
		}
	}
}

// An event has the name as its key, and is known by its name and delivery.
func TestEvent(t *testing.T) {
	h := hook()
	q, _ := h.Read(httptest.NewRecorder(), post("1"))
	if e := q.Event; e.Key != "shop" || string(e.Metadata) != `{"delivery":"d1","webhook":"shop"}` || !strings.HasPrefix(e.Delivery, "webhook:") {
		t.Errorf("got %+v", e)
	}
	h.Key = func(e *store.NewEvent, headers map[string]string) (string, error) { return headers["x-kind"], nil }
	if named, _ := h.Read(httptest.NewRecorder(), post("1", "X-Kind", "paid")); named.Event.Key != "paid" || named.Event.Delivery != q.Event.Delivery {
		t.Errorf("got %+v, want key paid and the same delivery", named.Event)
	}
	if none, refused := h.Read(httptest.NewRecorder(), post("1")); !none.Ignored || none.Event != nil || refused != nil {
		t.Errorf("without a key: got %+v, %+v", none, refused)
	}
	// "1:a" and "d", and "1" and "a:d", are two deliveries.
	h.Key, h.Name = nil, "sh"
	h.Verify = func(*http.Request, []byte) (string, error) { return "opd1", nil }
	if other, _ := h.Read(httptest.NewRecorder(), post("1")); other.Event.Delivery == q.Event.Delivery {
		t.Error("two names with two deliveries are taken for one")
	}
}

func TestRefusals(t *testing.T) {
	bad := hook()
	bad.Verify = func(*http.Request, []byte) (string, error) { return "", errors.New("forged") }
	panics := hook()
	panics.Call = func(func() error) (bool, error) { return true, errors.New("boom") }
	long := hook()
	long.Verify = func(*http.Request, []byte) (string, error) { return strings.Repeat("d", 256), nil }
	badKey := hook()
	badKey.Key = func(*store.NewEvent, map[string]string) (string, error) { return strings.Repeat("k", 256), nil }
	get := post("1")
	get.Method = http.MethodGet
	for name, test := range map[string]struct {
		hook    *Hook
		request *http.Request
		want    int
	}{
		"GET":                      {hook(), get, http.StatusMethodNotAllowed},
		"large headers":            {hook(), post("1", "X", strings.Repeat("x", 64<<10)), http.StatusRequestHeaderFieldsTooLarge},
		"a large body":             {hook(), post(strings.Repeat("1", 101)), http.StatusRequestEntityTooLarge},
		"forged":                   {bad, post("1"), http.StatusUnauthorized},
		"a panic":                  {panics, post("1"), http.StatusInternalServerError},
		"a long delivery ID":       {long, post("1"), http.StatusBadRequest},
		"a long key":               {badKey, post("1"), http.StatusBadRequest},
		"no JSON":                  {hook(), post("a=1"), http.StatusBadRequest},
		"a form that holds none":   {hook(), post("payload=x", "Content-Type", form), http.StatusBadRequest},
		"a form that is not a URL": {hook(), post("a=%zz", "Content-Type", form), http.StatusBadRequest},
	} {
		_, refused := test.hook.Read(httptest.NewRecorder(), test.request)
		if got := statusOf(refused); got != test.want {
			t.Errorf("%s: got status %d, want %d", name, got, test.want)
		}
	}
}

func statusOf(refused *Refusal) int {
	if refused == nil {
		return 0
	}
	return refused.Status
}

// Slack verifies an address by a request that it wants answered.
func TestSlackChallenge(t *testing.T) {
	const body = `{"type":"url_verification","challenge":"abc"}`
	q, _ := hook().Read(httptest.NewRecorder(), post(body, "X-Slack-Signature", "v0=1"))
	if q.Event != nil || q.Ignored || string(q.Answer) != `{"challenge":"abc"}` {
		t.Errorf("got %+v", q)
	}
	if q, _ := hook().Read(httptest.NewRecorder(), post(body)); q.Event == nil {
		t.Error("not of Slack: no event")
	}
}
