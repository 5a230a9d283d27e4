package ui_test

import (
	"encoding/json"
	"net/url"
	"strings"
	"testing"

	"github.com/stint-dev/stint"
)

// Numbers in a request keep their digits: in inputs, payloads, metadata and filters.
func TestExactNumbers(t *testing.T) {
	s := newShop(t)
	body := `{"force":true,"input":9007199254740993,"metadata":{"order":12345678,"id":9007199254740993,"share":1.50,"vip":true,"text":"1e3"}}`
	code, text := s.ask("POST", "/api/tasks/nobody/runs", body, "Content-Type", asJSON)
	var started struct{ Run string }
	if err := json.Unmarshal([]byte(text), &started); code != 200 || err != nil {
		t.Fatalf("%d %s", code, text)
	}
	info, err := s.c.GetRun(t.Context(), started.Run)
	if err != nil {
		t.Fatal(err)
	}
	for k, want := range map[string]string{"order": "12345678", "id": "9007199254740993", "share": "1.50", "vip": "true", "text": "1e3"} {
		if info.Metadata[k] != want {
			t.Errorf("metadata %s is %q, want %q", k, info.Metadata[k], want)
		}
		if _, text := s.ask("GET", "/api/runs?metadata="+url.QueryEscape(k+"="+want), ""); !strings.Contains(text, started.Run) {
			t.Errorf("not found by %s=%s: %s", k, want, text)
		}
	}
	if string(info.Input) != "9007199254740993" {
		t.Errorf("the input is %s", info.Input)
	}
	if _, text = s.ask("GET", "/api/runs/"+started.Run, ""); !strings.Contains(text, `"input":9007199254740993,`) {
		t.Errorf("the API shows %s", text)
	}
	for filter, want := range map[string]string{
		`{"metadata":{"id":9007199254740992}}`: `"changed":0`,
		`{"metadata":{"order":[12345678]}}`:    "want a text",
		`{"metadata":{"order":null}}`:          "want a text",
		`{"metadata":{"order":12345678}}`:      `"changed":1`,
	} {
		if _, text := s.ask("POST", "/api/runs.cancel", filter, "Content-Type", asJSON); !strings.Contains(text, want) {
			t.Errorf("cancel %s: %s", filter, text)
		}
	}
	s.ask("POST", "/api/events", `{"key":"e","payload":{"id":9007199254740993},"metadata":{"order":12345678}}`, "Content-Type", asJSON)
	page, err := s.c.ListEvents(t.Context(), stint.EventFilter{Key: "e"})
	if err != nil || len(page.Events) != 1 || string(page.Events[0].Payload) != `{"id":9007199254740993}` || page.Events[0].Metadata["order"] != "12345678" {
		t.Errorf("events: %+v, %v", page, err)
	}
}

// The API and the page find errors, metadata and logs by the texts that a person sees, whatever
// characters they have.
func TestSearch(t *testing.T) {
	s := newShop(t)
	for _, pair := range [][2]string{{"k", " x "}, {"a=b", "c=d"}, {"{", "<\"&\n"}, {`{"a":"b"}`, "="}} {
		body, err := json.Marshal(map[string]any{"input": 1, "force": true, "metadata": map[string]string{pair[0]: pair[1]}})
		if err != nil {
			t.Fatal(err)
		}
		var started struct{ Run string }
		if code, text := s.ask("POST", "/api/tasks/nobody/runs", string(body), "Content-Type", asJSON); code != 200 || json.Unmarshal([]byte(text), &started) != nil {
			t.Fatalf("%q: %d %s", pair, code, text)
		}
		info, err := s.c.GetRun(t.Context(), started.Run)
		if err != nil || len(info.Metadata) != 1 || info.Metadata[pair[0]] != pair[1] {
			t.Errorf("%q: %q, %v", pair, info.Metadata, err)
		}
		by, _ := json.Marshal(map[string]string{pair[0]: pair[1]})
		if _, text := s.ask("GET", "/api/runs?metadata="+url.QueryEscape(string(by)), ""); strings.Count(text, `"id"`) != 1 || !strings.Contains(text, started.Run) {
			t.Errorf("by %s: %s", by, text)
		}
	}
	for by, found := range map[string]bool{"less than": true, "LESS": true, "message": false, "kind": false, "%": false} {
		for _, path := range []string{"/api/runs?error=", "/runs?error="} {
			if _, text := s.ask("GET", path+url.QueryEscape(by), "", "Accept", "text/html"); strings.Contains(text, s.ids[1]) != found {
				t.Errorf("GET %s%s: found %v", path, by, !found)
			}
		}
	}
}
