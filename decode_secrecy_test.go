package stint_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/webhook"
)

const canary = "S3CR3T"

// A dated is JSON whose decoder quotes what it cannot read.
type dated struct {
	Items []struct {
		At time.Time `json:"at"`
	} `json:"items"`
}

// undated is no dated.
var undated = json.RawMessage(`{"items": [{}, {"at": "` + canary + `"}]}`)

// A talker quotes what it is asked to encode.
type talker struct{ text string }

func (q talker) MarshalJSON() ([]byte, error) { return nil, fmt.Errorf("cannot encode %s", q.text) }

// quotes is a codec that quotes what it cannot read.
type quotes struct{}

func (quotes) Marshal(v any) ([]byte, error) { return json.Marshal(v) }

func (quotes) Unmarshal(b []byte, v any) error {
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("codec: %s: %w", b, err)
	}
	return nil
}

// The library's own errors say what type was at which field, and not what was there, wherever
// a payload is read; errors.As finds what the decoder said.
func TestErrorsQuoteNoPayload(t *testing.T) {
	store.RegisterFilters(func(string) (store.Predicate, []string, error) {
		return func(*store.NewEvent, []byte) bool { return true }, nil, nil
	})
	defer store.RegisterFilters(nil)
	for name, opts := range map[string][]stint.ClientOption{"JSON": nil, "codec": {stint.WithCodec(quotes{})}} {
		t.Run(name, func(t *testing.T) {
			var logs syncBuffer
			opts = append(opts, stint.WithLogger(slog.New(slog.NewTextHandler(&logs, &slog.HandlerOptions{Level: slog.LevelDebug}))))
			c, err := openAt(t, filepath.Join(t.TempDir(), "secret.db"), opts...)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			var found []string // errors of the library's, and what it shows of them
			note := func(where string, text string) {
				t.Helper()
				if text == "" || strings.Contains(text, canary) {
					t.Errorf("%s: %q", where, text)
				}
				found = append(found, text)
			}
			noteErr := func(where string, err error) {
				t.Helper()
				var p *time.ParseError
				if note(where, fmt.Sprint(err)); !errors.As(err, &p) {
					t.Errorf("%s: %v is no *time.ParseError any more", where, err)
				}
			}
			read := stint.NewTask(c, "read", func(_ context.Context, in dated) (dated, error) { return in, nil },
				stint.WithEvents("read"), stint.WithOnFailure(func(context.Context, dated, *stint.TaskError) error { return nil }))
			echo := stint.NewTask(c, "echo", func(_ context.Context, in json.RawMessage) (json.RawMessage, error) { return in, nil })
			payload := stint.NewTask(c, "payload", func(ctx context.Context, _ json.RawMessage) (string, error) {
				var d dated
				err := stint.FilterPayload(ctx, &d)
				noteErr("FilterPayload", err)
				return "", nil
			}, stint.WithEvents("filtered"))
			waits := stint.NewTask(c, "waits", func(ctx context.Context, _ int) (dated, error) { return stint.WaitForEvent[dated](ctx, "wanted") })
			talks := stint.NewTask(c, "talks", func(context.Context, int) (any, error) { return talker{canary}, nil })
			flow := stint.NewWorkflow[json.RawMessage](c, "flow")
			stint.AddTask(flow, "part", func(_ context.Context, in json.RawMessage) (json.RawMessage, error) { return in, nil })
			working(t, c)

			_, err = c.EnqueueJSON(t.Context(), read.Name(), undated)
			noteErr("EnqueueJSON", err)
			_, err = echo.Enqueue(t.Context(), json.RawMessage(canary))
			note("Enqueue of what is no JSON", fmt.Sprint(err))
			run := enqueue(t, echo, undated)
			if _, err := run.Wait(t.Context()); err != nil {
				t.Fatal(err)
			}
			_, err = stint.RunByID[dated](c, run.ID()).Wait(t.Context())
			noteErr("Wait", err)
			flowing := enqueue(t, flow, undated)
			_, err = stint.RunByID[map[string]dated](c, flowing.ID()).Wait(t.Context())
			noteErr("Wait for a workflow", err)
			_, err = talks.Run(t.Context(), 1)
			note("an output that cannot be encoded", fmt.Sprint(err))
			_, err = c.Publish(t.Context(), "e", talker{canary})
			note("a payload that cannot be encoded", fmt.Sprint(err))

			if _, err := c.Publish(t.Context(), "read", undated); err != nil {
				t.Fatal(err)
			}
			page := listRuns(t, c, stint.RunFilter{Tasks: []string{"read"}})
			_, err = stint.RunByID[dated](c, page.Runs[0].ID).Wait(t.Context())
			note("a triggered run", fmt.Sprint(err))

			waiting := enqueue(t, waits, 1)
			infoWhen(t, c, waiting.ID(), stint.StateWaiting)
			if _, err := c.Publish(t.Context(), "wanted", undated); err != nil {
				t.Fatal(err)
			}
			info := infoWhen(t, c, waiting.ID(), stint.StateBlocked)
			note("an event that a run waits for", info.Error)
			note("what blocks the run", info.Blocked)

			if _, err := c.CreateFilter(t.Context(), stint.TriggerFilter{Task: payload.Name(), Scope: "s", Expression: "true", Payload: undated}); err != nil {
				t.Fatal(err)
			}
			if _, err := c.Publish(t.Context(), "filtered", 1, stint.WithScope("s")); err != nil {
				t.Fatal(err)
			}
			page = listRuns(t, c, stint.RunFilter{Tasks: []string{"payload"}})
			if _, err := stint.RunByID[string](c, page.Runs[0].ID).Wait(t.Context()); err != nil {
				t.Fatal(err)
			}

			journal := must[[]byte](t)(c.ExportJournal(t.Context(), waiting.ID()))
			err = stint.ReplayJournal(t.Context(), journal, func(ctx context.Context, _ int) (dated, error) {
				return stint.WaitForEvent[dated](ctx, "wanted")
			}, opts...)
			note("a replay", fmt.Sprint(err))
			err = stint.ReplayJournal(t.Context(), []byte(`{"task": {"`+canary+`": 1}}`), func(context.Context, int) (int, error) { return 0, nil })
			note("what is no journal", fmt.Sprint(err))

			hook := c.WebhookHandler("hook", webhook.BasicAuth("u", "p"), "")
			for _, body := range []string{"a=%" + canary, canary} {
				r := httptest.NewRequest("POST", "/", strings.NewReader(body))
				r.SetBasicAuth("u", "p")
				r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
				w := httptest.NewRecorder()
				hook.ServeHTTP(w, r)
				if w.Code == 200 {
					continue // a form may be any text
				}
				note("a webhook", w.Body.String()+c.ListWebhooks()[0].Refusal)
			}
			if text := logs.String(); !strings.Contains(text, "read") || strings.Contains(text, canary) {
				t.Errorf("logged:\n%s", text)
			}
			all := strings.Join(found, "\n")
			for _, want := range []string{"type time.Time", "is not a", "talker"} {
				if !strings.Contains(all, want) {
					t.Errorf("no error says %q:\n%s", want, all)
				}
			}
			if n := strings.Count(all, "type time.Time at items[1].at: has a text that is no time"); name == "JSON" && n < 7 {
				t.Errorf("%d errors say where it was:\n%s", n, all)
			}
		})
	}
}

// infoWhen is what is known of a run once it is in a state.
func infoWhen(t *testing.T, c *stint.Client, id string, state stint.State) *stint.RunInfo {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	for n := uint64(0); ; {
		var err error
		if n, err = c.Changed(ctx, n); err != nil {
			t.Fatal(err)
		}
		if info := must[*stint.RunInfo](t)(c.GetRun(ctx, id)); info.State == state {
			return info
		}
	}
}
