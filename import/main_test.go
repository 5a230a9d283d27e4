package imports_test

import (
	"context"
	"encoding/json"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stint-dev/stint"
	imports "github.com/stint-dev/stint/import"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// An email is the payload of most jobs.
type email struct {
	To string `json:"to"`
}

func (email) Kind() string { return "email" }

// mapped has the kinds of the tests.
var mapped = &imports.Mapping{
	Kinds:  map[string]imports.Target{"email": {Task: "send-mail"}, "raw": {Task: "take-bytes", Bytes: true}, "cleanup": {Skip: true}},
	Queues: map[string]string{"slow": "patient"},
}

// A stage is a stint database with the tasks that the jobs become.
type stage struct {
	*stint.Client
	mails chan string
	bytes chan []byte
}

func newStage(t *testing.T) *stage {
	t.Helper()
	c, err := stint.Open(filepath.Join(t.TempDir(), "app.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	s := &stage{c, make(chan string, 100), make(chan []byte, 100)}
	stint.NewTask(c, "send-mail", func(_ context.Context, m email) (int, error) { s.mails <- m.To; return 0, nil })
	stint.NewTask(c, "take-bytes", func(_ context.Context, b []byte) (int, error) { s.bytes <- b; return 0, nil })
	return s
}

// imported imports, and fails the test if that enqueues another number.
func (s *stage) imported(t *testing.T, from imports.Source, o imports.Options, enqueued, existing int) {
	t.Helper()
	got, err := imports.Import(t.Context(), from, mapped, o, s.Client)
	if err != nil || got != (imports.Report{Enqueued: enqueued, Existing: existing}) {
		t.Errorf("import: %+v, %v; want %d new and %d existing", got, err, enqueued, existing)
	}
}

// byRecipient returns the runs of send-mail by whom the mail goes to.
func (s *stage) byRecipient(t *testing.T) map[string]stint.RunInfo {
	t.Helper()
	page, err := s.ListRuns(t.Context(), stint.RunFilter{Tasks: []string{"send-mail"}, Limit: 100})
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]stint.RunInfo{}
	for _, r := range page.Runs {
		var m email
		if err := json.Unmarshal(r.Input, &m); err != nil || all[m.To].ID != "" {
			t.Errorf("run %s has input %s (%v), or comes twice", r.ID, r.Input, err)
		}
		all[m.To] = r
	}
	return all
}

// works works until all wanted mails were sent.
func (s *stage) works(t *testing.T, want ...string) {
	t.Helper()
	w, err := s.NewWorker()
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	var got []string
	for range want {
		select {
		case to := <-s.mails:
			got = append(got, to)
		case <-time.After(2 * time.Minute):
			t.Fatalf("sent %q, want %q", got, want)
		}
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("sent %q, want %q", got, want)
	}
}

// refuses checks that a mapping without a kind is refused, and names it.
func refuses(t *testing.T, s *stage, from imports.Source, kind string) {
	t.Helper()
	m := &imports.Mapping{Kinds: map[string]imports.Target{}}
	for k, target := range mapped.Kinds {
		if k != kind {
			m.Kinds[k] = target
		}
	}
	_, err := imports.Import(t.Context(), from, m, imports.Options{Running: true}, s.Client)
	if err == nil || !strings.Contains(err.Error(), `of kind "`+kind+`"`) || !strings.Contains(err.Error(), "not mapped") {
		t.Errorf("import without a mapping of %s: %v", kind, err)
	}
	if page, err := s.ListRuns(t.Context(), stint.RunFilter{}); err != nil || len(page.Runs) > 0 {
		t.Errorf("after the refusal there are runs: %v, %v", page, err)
	}
}

// opened returns a source, which is closed after the test.
func opened(t *testing.T, s imports.Source, err error) imports.Source {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

var errNoMail = errors.New("the mail server is away")
