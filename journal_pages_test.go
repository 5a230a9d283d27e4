package stint_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/stinttest"
)

// journalPages reads a run's journal by pages of limit entries.
func journalPages(t *testing.T, c *stint.Client, id string, limit int) (all []stint.JournalEntry, pages int) {
	t.Helper()
	for cursor := ""; pages == 0 || cursor != ""; pages++ {
		page := must[*stint.JournalPage](t)(c.JournalPage(t.Context(), id, stint.JournalFilter{Limit: limit, Cursor: cursor}))
		all, cursor = append(all, page.Entries...), page.Next
	}
	return all, pages
}

// Pages put together are the journal, whatever the limit: scopes of branches, compensations and
// versions too, and without what the engine notes for itself.
func TestJournalPages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := stinttest.New(t)
		child := stint.NewTask(c, "child", func(_ context.Context, n int) (int, error) {
			if n == 1 {
				return 0, errors.New("no")
			}
			return n, nil
		}, stint.WithRetries(0))
		step := func(ctx context.Context, name string) {
			must[int](t)(stint.Step(ctx, name, func(context.Context) (int, error) { return len(name), nil }))
		}
		task := stint.NewTask(c, "task", func(ctx context.Context, _ int) (int, error) {
			for i := range 12 {
				step(ctx, fmt.Sprint("<step>", i))
			}
			var all []*stint.Future[int]
			for i := range 3 {
				all = append(all, stint.Go(ctx, "branch", func(ctx context.Context) (int, error) {
					step(ctx, "inner")
					_, err := stint.Go(ctx, "within", func(ctx context.Context) (int, error) { step(ctx, "inmost"); return 0, nil }).Wait(ctx)
					return i, err
				}))
			}
			must[[]int](t)(stint.All(ctx, all...))
			stint.Version(ctx, "a/b 1")
			if _, err := child.Run(ctx, 1); err == nil {
				t.Error("the child did not fail")
			}
			return child.Run(ctx, 2)
		})
		run := enqueue(t, task, 0)
		if err := stinttest.Drain(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		whole := must[[]stint.JournalEntry](t)(c.Journal(t.Context(), run.ID()))
		if len(whole) < 12+3*4+1+2 {
			t.Fatalf("the journal has %d entries", len(whole))
		}
		for _, limit := range []int{0, 1, 2, 7, len(whole), 1000} {
			all, pages := journalPages(t, c, run.ID(), limit)
			if d := cmp.Diff(whole, all); d != "" {
				t.Errorf("limit %d (-whole +pages):\n%s", limit, d)
			}
			if want := (len(whole) + max(limit, 1) - 1) / max(limit, 1); limit > 0 && pages != want {
				t.Errorf("limit %d: %d pages, want %d", limit, pages, want)
			}
		}
		for i, e := range whole { // an address is a cursor
			page := must[*stint.JournalPage](t)(c.JournalPage(t.Context(), run.ID(), stint.JournalFilter{Limit: 1000, Cursor: e.Address}))
			if d := cmp.Diff(append([]stint.JournalEntry{}, whole[i+1:]...), page.Entries); d != "" || page.Next != "" {
				t.Errorf("behind %s: next %q (-want +got):\n%s", e.Address, page.Next, d)
			}
		}
		isWritten(t, c, run.ID())
	})
}

// isWritten checks that WriteJournal writes ExportJournal's bytes, which are as JSON is indented.
func isWritten(t *testing.T, c *stint.Client, id string) {
	t.Helper()
	whole := must[[]byte](t)(c.ExportJournal(t.Context(), id))
	var b, indented bytes.Buffer
	if err := c.WriteJournal(t.Context(), id, &b); err != nil || b.String() != string(whole) {
		t.Errorf("written, %v:\n%s\nexported:\n%s", err, &b, whole)
	}
	if err := json.Indent(&indented, whole, "", "  "); err != nil || indented.String() != string(whole) {
		t.Errorf("%v: not as it is indented:\n%s", err, whole)
	}
}

// What is written in parts is one document: of a run without entries, one with children, and a
// task of a workflow.
func TestWriteJournal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := stinttest.New(t)
		flow := stint.NewWorkflow[int](c, "flow")
		a := stint.AddTask(flow, "a <&>", func(_ context.Context, n int) (string, error) { return "<a>", nil })
		b := stint.AddTask(flow, "b", func(ctx context.Context, _ int) (string, error) { return a.Output(ctx) }, stint.WithParents(a))
		parent := stint.NewTask(c, "parent", func(ctx context.Context, _ int) (string, error) {
			if _, err := flow.Run(ctx, 1); err != nil {
				return "", err
			}
			return "", stint.Sleep(ctx, time.Hour)
		})
		run := enqueue(t, parent, 0)
		if err := stinttest.Drain(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		_ = b
		all := listRuns(t, c, stint.RunFilter{})
		if len(all.Runs) != 4 {
			t.Fatalf("%d runs", len(all.Runs))
		}
		for _, r := range all.Runs {
			isWritten(t, c, r.ID)
		}
		doc := string(must[[]byte](t)(c.ExportJournal(t.Context(), run.ID())))
		if !strings.Contains(doc, `"entries": [`) || !strings.Contains(doc, `"runs": {`) || strings.Contains(doc, `"tasks": {`) {
			t.Errorf("exported:\n%s", doc)
		}
		if err := c.WriteJournal(t.Context(), run.ID(), broken{}); !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("to a writer that fails: %v", err)
		}
	})
}

// broken is a writer that fails.
type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

// What cannot be a page is an error, which says what is wanted.
func TestJournalPageRefuses(t *testing.T) {
	c := opened(t)
	run := enqueueJSON(t, c, "task", json.RawMessage("1"))
	if page, err := c.JournalPage(t.Context(), run.ID(), stint.JournalFilter{}); err != nil || page.Entries == nil || len(page.Entries) > 0 || page.Next != "" {
		t.Errorf("of a run without a journal: %+v, %v", page, err)
	}
	for _, cursor := range []string{"x", "0", "-1", "+1", "01", "1/", "1/x", "/1", " 1", "1 ", "99999999999999999999", run.ID(), strings.Repeat("x", 1<<20)} {
		page, err := c.JournalPage(t.Context(), run.ID(), stint.JournalFilter{Cursor: cursor})
		if err == nil || page != nil || !strings.Contains(err.Error(), "cursor") || len(err.Error()) > 500 {
			t.Errorf("cursor %.40q: %v, %.600v", cursor, page, err)
		}
	}
	for _, limit := range []int{-1, 1001} {
		if page, err := c.JournalPage(t.Context(), run.ID(), stint.JournalFilter{Limit: limit}); err == nil || page != nil {
			t.Errorf("limit %d: %v, %v", limit, page, err)
		}
	}
	unknown := "01890a5d-ac96-774b-bcce-b302099a8057"
	if page, err := c.JournalPage(t.Context(), unknown, stint.JournalFilter{}); !errors.Is(err, stint.ErrNotFound) || page != nil {
		t.Errorf("of no run: %v, %v", page, err)
	}
	if all, err := c.Journal(t.Context(), unknown); !errors.Is(err, stint.ErrNotFound) || all != nil {
		t.Errorf("the journal of no run: %v, %v", all, err)
	}
	if err := c.WriteJournal(t.Context(), unknown, io.Discard); !errors.Is(err, stint.ErrNotFound) {
		t.Errorf("written of no run: %v", err)
	}
}

// Entries that a run adds while its pages are read are on those that are read later, and none is
// there twice.
func TestJournalGrowsBetweenPages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := stinttest.New(t)
		const rounds, steps = 5, 3
		task := stint.NewTask(c, "task", func(ctx context.Context, _ int) (int, error) {
			for i := range rounds {
				for j := range steps {
					if _, err := stint.Step(ctx, fmt.Sprintf("%d-%d", i, j), func(context.Context) (int, error) { return j, nil }); err != nil {
						return 0, err
					}
				}
				if err := stint.Sleep(ctx, time.Hour); err != nil {
					return 0, err
				}
			}
			return 0, nil
		})
		run := enqueue(t, task, 0)
		var names []string
		cursor := ""
		for range rounds {
			if err := stinttest.Drain(t.Context(), c); err != nil {
				t.Fatal(err)
			}
			isWritten(t, c, run.ID())
			for more := true; more; {
				page := must[*stint.JournalPage](t)(c.JournalPage(t.Context(), run.ID(), stint.JournalFilter{Limit: 2, Cursor: cursor}))
				for _, e := range page.Entries {
					names, cursor = append(names, e.Name), e.Address
				}
				more = page.Next != ""
			}
			time.Sleep(time.Hour)
		}
		var want []string
		for _, e := range must[[]stint.JournalEntry](t)(c.Journal(t.Context(), run.ID())) {
			want = append(want, e.Name)
		}
		if !slices.Equal(names, want) || len(names) != rounds*(steps+1) {
			t.Errorf("pages have\n%q\nthe journal\n%q", names, want)
		}
	})
}

// A heldWriter notes how much of the heap is held beyond what was while it is written to.
type heldWriter struct {
	before, most uint64
	written      int
	next         int
}

func (w *heldWriter) Write(p []byte) (int, error) {
	if w.written += len(p); w.written > w.next {
		w.next += 16 << 20
		w.most = max(w.most, held()-min(held(), w.before))
	}
	return len(p), nil
}

func held() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// longJournal is a run that waits, with n more entries of size bytes each than it made itself.
func longJournal(t *testing.T, n, size int) (*stint.Client, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "long.db")
	c := openedAt(t, path)
	task := stint.NewTask(c, "task", func(ctx context.Context, _ int) (int, error) {
		if _, err := stint.Step(ctx, "first", func(context.Context) (string, error) { return strings.Repeat("x", size), nil }); err != nil {
			return 0, err
		}
		return stint.WaitForEvent[int](ctx, "never")
	})
	run := enqueue(t, task, 0)
	if err := stinttest.Drain(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	_, err := appFile(t, path).ExecContext(t.Context(), `WITH RECURSIVE n (i) AS (VALUES (10) UNION ALL SELECT i + 1 FROM n WHERE i < ?)
		INSERT INTO stint_journal (run, scope, seq, kind, name, done, value, at) SELECT run, '', i, kind, name, done, value, at FROM n CROSS JOIN stint_journal WHERE seq = 1`, n+9)
	if err != nil {
		t.Fatal(err)
	}
	return c, run.ID()
}

// A journal of any length is exported, read in pages and looked into with little memory.
func TestLongJournal(t *testing.T) {
	const size, most = 4 << 10, 64 << 20
	n := 20_000
	if testing.Short() {
		n = 2_000
	}
	c, id := longJournal(t, n, size)
	w := &heldWriter{before: held()}

	if err := c.WriteJournal(t.Context(), id, w); err != nil || w.written < n*size || w.most > most {
		t.Errorf("%v: %d bytes were written, %d held", err, w.written, w.most)
	}
	before := held()
	entries, pages := 0, 0
	for cursor := ""; pages == 0 || cursor != ""; pages++ {
		page := must[*stint.JournalPage](t)(c.JournalPage(t.Context(), id, stint.JournalFilter{Limit: 1000, Cursor: cursor}))
		entries, cursor = entries+len(page.Entries), page.Next
		if pages%10 == 0 {
			if h := held(); h > before+most {
				t.Errorf("page %d: %d bytes are held", pages, h-before)
			}
		}
	}
	if entries != n+2 || pages != n/1000+1 {
		t.Errorf("%d entries in %d pages", entries, pages)
	}
	if info := getRun(t, c, id); !strings.Contains(info.Blocked, "never") {
		t.Errorf("the run is blocked by %q", info.Blocked)
	}
	if _, err := c.Fork(t.Context(), id, "no such step"); !errors.Is(err, stint.ErrNotFound) {
		t.Errorf("Fork: %v", err)
	}
}

// A journal that is too large to be returned as a whole is an error, which says what else there is.
func TestLargeJournal(t *testing.T) {
	if testing.Short() { // it writes 260 MiB
		t.Skip()
	}
	c, id := longJournal(t, 66, 4<<20-100)
	for what, f := range map[string]func() (any, error){
		"Journal":       func() (any, error) { return c.Journal(t.Context(), id) },
		"ExportJournal": func() (any, error) { return c.ExportJournal(t.Context(), id) },
	} {
		if _, err := f(); err == nil || !strings.Contains(err.Error(), "WriteJournal") || !strings.Contains(err.Error(), "256 MiB") {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// The number of entries that are returned as a whole has a bound, however small they are.
func TestManyEntries(t *testing.T) {
	if testing.Short() { // it writes 200,000 entries
		t.Skip()
	}
	c, id := longJournal(t, 100_000-2, 1)
	if all := must[[]stint.JournalEntry](t)(c.Journal(t.Context(), id)); len(all) != 100_000 {
		t.Errorf("%d entries", len(all))
	}
	c, id = longJournal(t, 100_000-1, 1)
	if _, err := c.Journal(t.Context(), id); err == nil || !strings.Contains(err.Error(), "JournalPage") {
		t.Errorf("%v", err)
	}
}

// onWrite calls a function with the first bytes that are written.
type onWrite struct{ do func() }

func (w *onWrite) Write(p []byte) (int, error) {
	if w.do != nil {
		w.do()
		w.do = nil
	}
	return len(p), nil
}

// A journal that is taken back while it is written is an error, and no mixture of two attempts.
func TestWriteJournalOfARestartedRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := stinttest.New(t)
		task := stint.NewTask(c, "task", func(ctx context.Context, n int) (int, error) {
			for i := range n {
				if _, err := stint.Step(ctx, fmt.Sprint("step ", i), func(context.Context) (string, error) { return strings.Repeat("x", 100), nil }); err != nil {
					return 0, err
				}
			}
			return 0, nil
		})
		run := enqueue(t, task, 2500)
		if err := stinttest.Drain(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		if err := c.WriteJournal(t.Context(), run.ID(), &onWrite{func() {}}); err != nil {
			t.Errorf("the control: %v", err)
		}
		err := c.WriteJournal(t.Context(), run.ID(), &onWrite{func() {
			if err := c.RestartFrom(t.Context(), run.ID(), "step 10"); err != nil {
				t.Error(err)
			}
		}})
		if err == nil || !strings.Contains(err.Error(), "another attempt") {
			t.Errorf("of a run that was restarted meanwhile: %v", err)
		}
		if err := stinttest.Drain(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		isWritten(t, c, run.ID())
	})
}
