package stint_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stint-dev/stint"
)

// A declined is an error type of an app's: a pointer.
type declined struct {
	Code int
	Why  string
}

func (d *declined) Error() string { return fmt.Sprintf("declined %d: %s", d.Code, d.Why) }

// A throttled is one that is a value, and wraps.
type throttled struct {
	Wait time.Duration
	err  error
}

func (l throttled) Error() string { return "limited: " + l.err.Error() }
func (l throttled) Unwrap() error { return l.err }

// An opaque is one that does not survive: its JSON cannot be read again.
type opaque struct{ Err error }

func (o *opaque) Error() string { return "opaque" }
func (o *opaque) Unwrap() error { return o.Err }

func init() {
	stint.RegisterError[*declined]("declined")
	stint.RegisterError[throttled]("throttled")
	stint.RegisterError[*opaque]("opaque")
}

// storedErrors are errors, and what errors.Is and errors.As must say of each after it
// was stored.
var storedErrors = []struct {
	name string
	err  func() error
	is   []error
	as   func(error) bool
}{
	{"text alone", func() error { return errors.New("plain") }, nil, nil},
	{"maybe ran", func() error { return stint.ErrMaybeRan }, []error{stint.ErrMaybeRan}, nil},
	{"timeout", func() error { return fmt.Errorf("slow: %w", stint.ErrTimeout) }, []error{stint.ErrTimeout}, nil},
	{"skipped", func() error { return stint.ErrSkipped }, []error{stint.ErrSkipped}, nil},
	{"canceled", func() error { return stint.ErrCanceled }, []error{stint.ErrCanceled}, nil},
	{"shutdown", func() error { return stint.ErrShutdown }, []error{stint.ErrShutdown}, nil},
	{"not found", func() error { return fmt.Errorf("get: %w", stint.ErrNotFound) }, []error{stint.ErrNotFound}, nil},
	{"deadline", func() error { return context.DeadlineExceeded }, []error{context.DeadlineExceeded}, nil},
	{"context canceled", func() error { return context.Canceled }, []error{context.Canceled}, nil},
	{"an error of the system", func() error { _, err := os.Open("/none/such"); return err }, []error{os.ErrNotExist}, nil},
	{"joined", func() error { return errors.Join(io.EOF, fmt.Errorf("and %w", stint.ErrTimeout)) }, []error{io.EOF, stint.ErrTimeout}, nil},
	{"final", func() error { return stint.NonRetryable(fmt.Errorf("no: %w", io.EOF)) }, []error{io.EOF}, nil},
	{"a registered pointer", func() error { return fmt.Errorf("charge: %w", &declined{7, "funds"}) }, nil, func(err error) bool {
		d, ok := errors.AsType[*declined](err)
		return ok && *d == declined{7, "funds"}
	}},
	{"a registered value that wraps", func() error { return throttled{time.Hour, stint.NonRetryable(io.EOF)} }, []error{io.EOF}, func(err error) bool {
		l, ok := errors.AsType[throttled](err)
		return ok && l.Wait == time.Hour
	}},
	{"one that cannot be read again", func() error { return &opaque{io.EOF} }, []error{io.EOF}, nil},
	{"a panic inside", func() error {
		return fmt.Errorf("outer: %w", &stint.PanicError{Value: &declined{1, "p"}, Stack: []byte("the stack")})
	}, nil, func(err error) bool {
		p, ok := errors.AsType[*stint.PanicError](err)
		d, inside := errors.AsType[*declined](err)
		return ok && string(p.Stack) == "the stack" && inside && d.Code == 1
	}},
	{"of another run", func() error {
		return fmt.Errorf("child: %w", &stint.TaskError{Task: "t", RunID: "r", Attempt: 3, Err: &declined{2, "x"}})
	}, nil, func(err error) bool {
		te, ok := errors.AsType[*stint.TaskError](err)
		for ok && te.Task != "t" { // that of the run itself
			te, ok = errors.AsType[*stint.TaskError](te.Err)
		}
		if !ok {
			return false
		}
		d, inside := errors.AsType[*declined](te)
		return te.RunID == "r" && te.Attempt == 3 && inside && d.Code == 2
	}},
	{"of a workflow", func() error {
		return &stint.WorkflowError{Workflow: "w", RunID: "r", Tasks: map[string]error{"a": &declined{3, "y"}, "b": io.EOF}}
	}, []error{io.EOF}, func(err error) bool {
		w, ok := errors.AsType[*stint.WorkflowError](err)
		return ok && w.Workflow == "w" && len(w.Tasks) == 2 && errors.Is(w.Tasks["b"], io.EOF) && w.Tasks["a"].Error() == "declined 3: y"
	}},
}

// failsBy are the ways by which an error comes to a handler.
var failsBy = map[string]func(ctx context.Context, child *stint.Task[int, int], i int) error{
	"step": func(ctx context.Context, _ *stint.Task[int, int], i int) error {
		_, err := stint.Step(ctx, "s", func(context.Context) (int, error) { return 0, storedErrors[i].err() })
		return err
	},
	"branch": func(ctx context.Context, _ *stint.Task[int, int], i int) error {
		_, err := stint.Go(ctx, "b", func(context.Context) (int, error) { return 0, storedErrors[i].err() }).Wait(ctx)
		return err
	},
	"any": func(ctx context.Context, _ *stint.Task[int, int], i int) error {
		_, _, err := stint.Any(ctx, stint.Go(ctx, "b", func(context.Context) (int, error) { return 0, storedErrors[i].err() }))
		return err
	},
	"child": func(ctx context.Context, child *stint.Task[int, int], i int) error {
		_, err := child.Run(ctx, i)
		return err
	},
	"step in a branch": func(ctx context.Context, _ *stint.Task[int, int], i int) error {
		_, err := stint.Go(ctx, "b", func(ctx context.Context) (int, error) {
			return stint.Step(ctx, "s", func(context.Context) (int, error) { return 0, storedErrors[i].err() })
		}).Wait(ctx)
		return err
	},
}

// Errors that a handler meets are the same when it runs again, and for whom they reach.
func TestTypedErrorsSurvive(t *testing.T) {
	durably(t, func(t *testing.T, c *stint.Client) {
		child := stint.NewTask(c, "child", func(_ context.Context, i int) (int, error) { return 0, storedErrors[i].err() })
		for way, fail := range failsBy {
			var seen, what atomic.Value // text of the first pass; what the pass found wrong
			what.Store("")
			task := stint.NewTask(c, "by "+way, func(ctx context.Context, i int) (int, error) {
				err := fail(ctx, child, i)
				what.Store(what.Load().(string) + wrong(err, i))
				if !seen.CompareAndSwap(nil, err.Error()) && seen.Load() != err.Error() {
					what.Store(fmt.Sprintf("%s; text %q, then %q", what.Load(), seen.Load(), err))
				}
				if serr := stint.Sleep(ctx, 10*time.Minute); serr != nil {
					return 0, serr
				}
				return 0, fmt.Errorf("after the wait: %w", err)
			})
			stop := working(t, c)
			for i, e := range storedErrors {
				seen, what = atomic.Value{}, atomic.Value{}
				what.Store("")
				run := enqueue(t, task, i)
				_, err := run.Wait(t.Context())
				_, later := stint.RunByID[int](c, run.ID()).Wait(t.Context()) // reads what was stored
				if w := what.Load().(string) + wrong(err, i) + wrong(later, i); w != "" {
					t.Errorf("%s by %s: %s", e.name, way, w)
				}
				if err.Error() != later.Error() {
					t.Errorf("%s by %s: one who waits got %q, another %q", e.name, way, err, later)
				}
			}
			stop()
		}
	})
}

// wrong says what errors.Is and errors.As do not find in err.
func wrong(err error, i int) (w string) {
	e := storedErrors[i]
	if !strings.Contains(err.Error(), e.err().Error()) {
		w = fmt.Sprintf("; text %q lacks %q", err, e.err())
	}
	for _, is := range e.is {
		if !errors.Is(err, is) {
			w += fmt.Sprintf("; is no %v", is)
		}
	}
	if e.as != nil && !e.as(err) {
		w += "; errors.As does not find it"
	}
	return w
}

// What a mark asks for is done also if the handler waited, or began anew, between the
// step that gave it and its own return.
func TestMarksSurvive(t *testing.T) {
	durably(t, func(t *testing.T, c *stint.Client) {
		for _, tt := range []struct {
			name     string
			err      error
			attempts int
			lasts    time.Duration
		}{
			{"none", errors.New("no"), 4, 40 * time.Minute},
			{"final", stint.NonRetryable(errors.New("no")), 1, 10 * time.Minute},
			{"final, of a registered type", stint.NonRetryable(&declined{1, "x"}), 1, 10 * time.Minute},
			{"later", stint.RetryAfter(time.Hour, errors.New("no")), 4, 220 * time.Minute},
		} {
			for _, way := range []string{"step", "branch"} {
				task := stint.NewTask(c, tt.name+" "+way, func(ctx context.Context, _ int) (int, error) {
					fail := func(ctx context.Context) (int, error) {
						return stint.Step(ctx, "s", func(context.Context) (int, error) { return 0, tt.err })
					}
					var err error
					if way == "branch" {
						_, err = stint.Go(ctx, "b", fail).Wait(ctx)
					} else {
						_, err = fail(ctx)
					}
					if serr := stint.Sleep(ctx, 10*time.Minute); serr != nil {
						return 0, serr
					}
					return 0, fmt.Errorf("wrapped: %w", err)
				}, stint.WithRetries(3))
				stop := working(t, c)
				began := time.Now()
				run := enqueue(t, task, 0)
				run.Wait(t.Context())
				info := infoOf(t, run)
				if d := time.Since(began).Round(10 * time.Minute); info.Attempt != tt.attempts || d != tt.lasts {
					t.Errorf("%s in a %s: %d attempts in %v, want %d in %v", tt.name, way, info.Attempt, d, tt.attempts, tt.lasts)
				}
				stop()
			}
		}
	})
}

// A step that was cut off is ErrMaybeRan in each pass after.
func TestMaybeRanSurvives(t *testing.T) {
	durably(t, func(t *testing.T, c *stint.Client) {
		began := make(chan struct{})
		task := stint.NewTask(c, "once", func(ctx context.Context, _ int) (string, error) {
			_, err := stint.Step(ctx, "s", func(ctx context.Context) (int, error) {
				close(began)
				<-ctx.Done()
				return 0, ctx.Err()
			}, stint.WithAtMostOnce())
			if serr := stint.Sleep(ctx, 10*time.Minute); serr != nil {
				return "", serr
			}
			return fmt.Sprint(errors.Is(err, stint.ErrMaybeRan)), nil
		})
		run := enqueue(t, task, 0)
		stop := working(t, c, stint.WithDrainTimeout(0))
		<-began
		stop()
		working(t, c)
		if got := output(t, run); got != "true" {
			t.Errorf("errors.Is(err, ErrMaybeRan) after the wait: %s", got)
		}
	})
}

// The on-failure function, a client of another process, and one that opens the file
// later find the registered type.
func TestTypedErrorsReach(t *testing.T) {
	path := filepath.Join(t.TempDir(), "test.db")
	c, other := openedAt(t, path), openedAt(t, path)
	failed := make(chan error, 1)
	task := stint.NewTask(c, "t", func(context.Context, int) (int, error) {
		return 0, fmt.Errorf("charge: %w", &declined{7, "funds"})
	}, stint.WithOnFailure(func(_ context.Context, _ int, err *stint.TaskError) error { failed <- err; return nil }))
	working(t, c)
	run := enqueue(t, task, 0)
	_, elsewhere := stint.RunByID[int](other, run.ID()).Wait(t.Context())
	_, here := run.Wait(t.Context())
	for who, err := range map[string]error{"here": here, "elsewhere": elsewhere, "on failure": <-failed} {
		if d, ok := errors.AsType[*declined](err); !ok || d.Code != 7 || !strings.HasSuffix(err.Error(), "charge: declined 7: funds") {
			t.Errorf("%s: %v", who, err)
		}
	}
}

// An attempt that timed out is ErrTimeout for all who wait, though the handler returned
// its context's error.
func TestTimeoutIsOneWhereverItIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := openedAt(t, ":memory:")
		task := stint.NewTask(c, "slow", func(ctx context.Context, _ int) (int, error) { <-ctx.Done(); return 0, ctx.Err() }, stint.WithTimeout(time.Second))
		working(t, c)
		run := enqueue(t, task, 0)
		_, live := run.Wait(t.Context())
		_, later := run.Wait(t.Context())
		if !errors.Is(live, stint.ErrTimeout) || !errors.Is(later, stint.ErrTimeout) || live.Error() != later.Error() {
			t.Errorf("got %v, and later %v", live, later)
		}
	})
}

func TestRegisterErrorRefuses(t *testing.T) {
	refused := func(what string, f func()) {
		t.Helper()
		defer func() {
			if v := recover(); v == nil || !strings.Contains(fmt.Sprint(v), "stint: RegisterError") {
				t.Errorf("%s: %v", what, v)
			}
		}()
		f()
	}
	stint.RegisterError[*declined]("declined") // again
	refused("no name", func() { stint.RegisterError[*declined]("") })
	refused("an interface", func() { stint.RegisterError[error]("e") })
	refused("a name that is taken", func() { stint.RegisterError[*stint.TaskError]("declined") })
	refused("a second name", func() { stint.RegisterError[*declined]("refused") })
}
