package stint_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stint-dev/stint"
)

// wholeText fails the test if a text is longer than size, cut within a character, or cut
// without a mark.
func wholeText(t *testing.T, what, s string, size int) {
	t.Helper()
	if len(s) > size || len(s) < size/2 || !utf8.ValidString(s) || !strings.Contains(s, "[cut: ") {
		t.Errorf("%s has %d bytes, %q at its end: want at most %d, and a mark", what, len(s), s[max(0, len(s)-40):], size)
	}
}

// A largeError wraps many that are large too.
type largeError struct{ Text string }

func (e *largeError) Error() string { return e.Text }
func (e *largeError) Unwrap() []error {
	var all []error
	for range 40 {
		all = append(all, stint.NonRetryable(fmt.Errorf("%s", e.Text)), &stint.TaskError{Task: "t", Err: errors.New(e.Text[1:])})
	}
	return all
}

// Errors, stacks, logs and progress are kept up to a size, cut between characters, with a
// mark; in lists there is less of them. A text that is not large is whole.
func TestLargeTexts(t *testing.T) {
	large := strings.Repeat("é🙂", 1<<20)
	failing := map[string]func(ctx context.Context) error{
		"error":        func(context.Context) error { return errors.New(large) },
		"wrapped":      func(context.Context) error { return fmt.Errorf("in: %w", &largeError{large[:1<<20]}) },
		"panic":        func(context.Context) error { panic(large) },
		"panic, error": func(context.Context) error { panic(errors.New(large)) },
		"step": func(ctx context.Context) error {
			_, err := stint.Step(ctx, "s", func(context.Context) (int, error) { return 0, errors.New(large) }, stint.WithRetries(1))
			return err
		},
		"branch": func(ctx context.Context) error {
			_, err := stint.Go(ctx, "b", func(context.Context) (int, error) { return 0, errors.New(large) }).Wait(ctx)
			return err
		},
	}
	for name, f := range failing {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "large.db")
			c := openedAt(t, path)
			told := make(chan string, 1)
			task := stint.NewTask(c, "task", func(ctx context.Context, _ int) (int, error) { return 0, f(ctx) }, stint.WithRetryPolicy(func(int, error) time.Duration { return 0 }),
				stint.WithRetries(4), stint.WithOnFailure(func(_ context.Context, _ int, err *stint.TaskError) error { told <- err.Err.Error(); return nil }))
			flow := stint.NewWorkflow[int](c, "flow")
			stint.AddTask(flow, "node", func(ctx context.Context, _ int) (int, error) { return 0, f(ctx) })
			working(t, c)
			run := enqueue(t, task, 1)
			run.Wait(t.Context())
			info := infoOf(t, run)
			wholeText(t, "the error", info.Error, 16<<10)
			wholeText(t, "the error told", <-told, 16<<10+7)
			for _, e := range info.Timeline {
				if e.Error != "" {
					wholeText(t, "an attempt's error", e.Error, 1<<10)
				}
			}
			for _, r := range listRuns(t, c, stint.RunFilter{IDs: []string{run.ID()}}).Runs {
				wholeText(t, "the error in a list", r.Error, 1<<10)
			}
			for _, e := range must[[]stint.JournalEntry](t)(c.Journal(t.Context(), run.ID())) {
				if e.Error != "" {
					wholeText(t, "the error in the journal", e.Error, 16<<10)
				}
			}
			flowing := enqueue(t, flow, 1)
			flowing.Wait(t.Context())
			wholeText(t, "the error of a workflow's task", infoOf(t, flowing).Tasks[0].Error, 1<<10)
			if stat, err := os.Stat(path + "-wal"); serverURL == "" && (err != nil || stat.Size() > 8<<20) {
				t.Errorf("the log of the file has %d bytes after eight attempts (%v)", stat.Size(), err)
			}
		})
	}
}

// Lines are added to a run that has ended, as Logger would have stored them, and go with it.
func TestAddLogs(t *testing.T) {
	c := opened(t)
	task := stint.NewTask(c, "t", func(ctx context.Context, n int) (int, error) {
		stint.Logger(ctx).Info("own")
		return n, nil
	})
	working(t, c)
	run := enqueue(t, task, 1)
	output(t, run)
	at := time.UnixMilli(1_700_000_000_000)
	large := strings.Repeat("x", 100_000)
	err := c.AddLogs(t.Context(), run.ID(), stint.LogLine{Seq: 9, At: at, Level: slog.LevelWarn, Message: "late", Attrs: []byte(`{"a":1}`), Attempt: 1},
		stint.LogLine{Message: large, Attrs: []byte(`{"a":"` + large + `"}`), Attempt: 2}, stint.LogLine{Message: "bare", Attrs: []byte("null"), Attempt: 1})
	if err != nil {
		t.Fatal(err)
	}
	lines := must[[]stint.LogLine](t)(c.Logs(t.Context(), run.ID(), 0, 10))
	if len(lines) != 4 || lines[0].Message != "own" {
		t.Fatalf("lines: %+v", lines)
	}
	if l := lines[1]; l.Seq != 2 || !l.At.Equal(at) || l.Level != slog.LevelWarn || l.Message != "late" || string(l.Attrs) != `{"a":1}` || l.Attempt != 1 {
		t.Errorf("line: %+v", l)
	}
	if l := lines[2]; l.At.Before(at) || l.Attempt != 2 || len(l.Message) > 16<<10 || !strings.Contains(l.Message, "cut: 100000 bytes") ||
		!strings.Contains(string(l.Attrs), "cut: 100008 bytes") {
		t.Errorf("a large line: at %v, %d bytes, attributes of %d", l.At, len(l.Message), len(l.Attrs))
	}
	if l := lines[3]; l.Message != "bare" || l.Attrs != nil {
		t.Errorf("line without attributes: %+v", l)
	}
	if n := must[int](t)(c.DeleteRuns(t.Context(), stint.RunFilter{IDs: []string{run.ID()}})); n != 1 {
		t.Fatal(n)
	}
	if err := c.AddLogs(t.Context(), run.ID(), lines[1]); !errors.Is(err, stint.ErrNotFound) {
		t.Errorf("lines of a run that is gone: %v", err)
	}
}

// Lines, attributes and messages of progress are cut too; what is short stays.
func TestLargeLogs(t *testing.T) {
	large := strings.Repeat("é🙂", 1<<18)
	c := opened(t)
	task := stint.NewTask(c, "task", func(ctx context.Context, _ int) (int, error) {
		l := stint.Logger(ctx)
		l.Info(large)
		l.Info("attribute", "large", large)
		l.With("large", large).Info("with")
		l.Info("short", "of", 1)
		return 0, stint.ProgressMessage(ctx, large)
	})
	working(t, c)
	run := enqueue(t, task, 1)
	output(t, run)
	lines := must[[]stint.LogLine](t)(c.Logs(t.Context(), run.ID(), 0, 10))
	wholeText(t, "a line", lines[0].Message, 16<<10)
	for _, line := range lines[1:3] {
		if !strings.Contains(string(line.Attrs), "[cut: ") || len(line.Attrs) > 2<<10 {
			t.Errorf("attributes of %d bytes: %.100s", len(line.Attrs), line.Attrs)
		}
	}
	if lines[3].Message != "short" || string(lines[3].Attrs) != `{"of":1}` {
		t.Errorf("a short line: %+v", lines[3])
	}
	wholeText(t, "progress", infoOf(t, run).Progress.Message, 1<<10)
}

// The log says what went wrong, cut; WithoutErrorText keeps the app's texts out of it.
func TestErrorTextInTheLog(t *testing.T) {
	for _, without := range []bool{false, true} {
		var logs syncBuffer
		opts := []stint.ClientOption{stint.WithLogger(slog.New(slog.NewTextHandler(&logs, nil)))}
		if without {
			opts = append(opts, stint.WithoutErrorText())
		}
		c := opened(t, opts...)
		retried := stint.NewTask(c, "retried", func(context.Context, int) (int, error) { return 0, errors.New("no such card") }, stint.WithRetries(1))
		panics := stint.NewTask(c, "panics", func(context.Context, int) (int, error) { panic("out of range") })
		large := stint.NewTask(c, "large", func(context.Context, int) (int, error) { return 0, errors.New(strings.Repeat("x", 1<<20)) })
		working(t, c)
		for _, task := range []*stint.Task[int, int]{retried, panics, large} {
			if _, err := task.Run(t.Context(), 1); err == nil {
				t.Fatal("it succeeded")
			}
		}
		lines := strings.Split(strings.TrimSpace(logs.String()), "\n")
		if len(lines) != 4 {
			t.Fatalf("logged %q", lines)
		}
		want := []string{`err="no such card"`, `err="no such card"`, `err="panic: out of range"`, `[cut: 1048576 bytes]`}
		if without {
			want = []string{"err=error", "err=error", "err=panic", "err=error"}
		}
		for i, line := range lines {
			if !strings.Contains(line, want[i]) || len(line) > 2000 {
				t.Errorf("without %v, line %d is %.300q, want %s", without, i, line, want[i])
			}
		}
	}
}
