package stint_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stint-dev/stint"
)

// How code of the app's misbehaves.
var misdeeds = map[string]func(){
	"panics":                           misbehavesByPanic,
	"dereferences":                     misbehavesByNil,
	"Goexit":                           misbehavesByGoexit,
	"panics with an error that panics": func() { misbehavesWith(evilError{misbehavesByPanic}) },
}

// inItself is a value of which package fmt finds no end.
func inItself() any {
	m := map[string]any{}
	m["m"] = []any{m}
	return m
}

func misbehavesByPanic()   { panic("oh") }
func misbehavesByNil()     { var p *int; *p++ }
func misbehavesByGoexit()  { runtime.Goexit() }
func misbehavesWith(v any) { panic(v) }

// An evilError is an error whose text is what f does.
type evilError struct{ f func() }

func (e evilError) Error() string { e.f(); return "evil" }

// An apiError is dereferenced by its own Error.
type apiError struct{ Code int }

func (e *apiError) Error() string { return fmt.Sprint("misbehaves ", e.Code) }

type isError struct{ f func() }

func (isError) Error() string   { return "is" }
func (e isError) Is(error) bool { e.f(); return false }

type asError struct{ f func() }

func (asError) Error() string { return "as" }
func (e asError) As(any) bool { e.f(); return false }

type unwrapError struct{ f func() }

func (unwrapError) Error() string   { return "unwrap" }
func (e unwrapError) Unwrap() error { e.f(); return nil }

// An endlessError wraps itself, in a line or as a tree.
type endlessError struct{}

func (endlessError) Error() string   { return "misbehaves without end" }
func (e endlessError) Unwrap() error { return e }

type endlessTree struct{}

func (endlessTree) Error() string     { return "misbehaves without end" }
func (e endlessTree) Unwrap() []error { return []error{e, e} }

// evilErrors are errors that cannot be asked for what they are.
func evilErrors() map[string]error {
	var none *apiError
	all := map[string]error{"nil": none, "nil, wrapped": stint.NonRetryable(none), "Unwrap without end": endlessError{}, "a tree without end": endlessTree{}}
	for name, f := range misdeeds {
		all["Error "+name] = evilError{f}
		all["Is "+name] = isError{f}
		all["As "+name] = asError{f}
		all["Unwrap "+name] = fmt.Errorf("wrapped: %w", unwrapError{f})
	}
	return all
}

// panicked fails the test unless err is a PanicError with the stack of what misbehaved.
func panicked(t *testing.T, err error) {
	t.Helper()
	var p *stint.PanicError
	if !errors.As(err, &p) {
		t.Errorf("got %v, want a PanicError", err)
	} else if stack := string(p.Stack); !strings.Contains(stack, "misbehaves") && !strings.Contains(stack, "(*apiError).Error") && !strings.Contains(err.Error(), "without end") {
		t.Errorf("%v: its stack is not that of the panic:\n%s", err, p.Stack)
	}
}

// An evilJSON is encoded by what its function does. What it is decoded from says what it
// does then.
type evilJSON struct{ encode func() }

func (e evilJSON) MarshalJSON() ([]byte, error) {
	if e.encode != nil {
		e.encode()
	}
	return []byte(`""`), nil
}

func (e *evilJSON) UnmarshalJSON(b []byte) error {
	var what string
	if err := json.Unmarshal(b, &what); err != nil {
		return err
	}
	if what != "" {
		misdeeds[what]()
	}
	return nil
}

// badTasks define tasks that misbehave as f does, in each place that fails a run.
var badTasks = map[string]func(c *stint.Client, name string, f func() error){
	"handler": func(c *stint.Client, name string, f func() error) {
		stint.NewTask(c, name, func(context.Context, int) (int, error) { return 7, f() })
	},
	"retried": func(c *stint.Client, name string, f func() error) {
		stint.NewTask(c, name, func(context.Context, int) (int, error) { return 7, f() }, stint.WithRetries(2))
	},
	"late": func(c *stint.Client, name string, f func() error) {
		stint.NewTask(c, name, func(ctx context.Context, _ int) (int, error) { <-ctx.Done(); return 7, f() }, stint.WithTimeout(time.Millisecond))
	},
	"step": func(c *stint.Client, name string, f func() error) {
		stint.NewTask(c, name, func(ctx context.Context, _ int) (int, error) {
			return stint.Step(ctx, "s", func(context.Context) (int, error) { return 7, f() }, stint.WithRetries(1))
		})
	},
	"step in a transaction": func(c *stint.Client, name string, f func() error) {
		stint.NewTask(c, name, func(ctx context.Context, _ int) (int, error) {
			return stint.StepTx(ctx, "s", func(context.Context, *sql.Tx) (int, error) { return 7, f() })
		})
	},
	"branch": func(c *stint.Client, name string, f func() error) {
		stint.NewTask(c, name, func(ctx context.Context, _ int) (int, error) {
			return stint.Go(ctx, "b", func(context.Context) (int, error) { return 7, f() }).Wait(ctx)
		})
	},
	"first branch": func(c *stint.Client, name string, f func() error) {
		stint.NewTask(c, name, func(ctx context.Context, _ int) (int, error) {
			_, v, err := stint.Any(ctx, stint.Go(ctx, "b", func(context.Context) (int, error) { return 7, f() }))
			return v, err
		})
	},
	"step in a branch": func(c *stint.Client, name string, f func() error) {
		stint.NewTask(c, name, func(ctx context.Context, _ int) (int, error) {
			_, err := stint.All(ctx, stint.Go(ctx, "b", func(ctx context.Context) (int, error) {
				return stint.Step(ctx, "s", func(context.Context) (int, error) { return 7, f() })
			}))
			return 0, err
		})
	},
	"child": func(c *stint.Client, name string, f func() error) {
		child := stint.NewTask(c, "child of "+name, func(context.Context, int) (int, error) { return 7, f() })
		stint.NewTask(c, name, func(ctx context.Context, in int) (int, error) { return child.Run(ctx, in) })
	},
	"batch": func(c *stint.Client, name string, f func() error) {
		stint.NewBatchTask(c, name, func(context.Context, []int) ([]int, error) { return nil, f() }, stint.WithBatchInterval(time.Millisecond))
	},
	"workflow": func(c *stint.Client, name string, f func() error) {
		w := stint.NewWorkflow[int](c, name)
		stint.AddTask(w, "task", func(context.Context, int) (int, error) { return 7, f() })
	},
	"middleware": func(c *stint.Client, name string, f func() error) {
		middles.Store(name, f)
		stint.NewTask(c, name, func(context.Context, int) (int, error) { return 7, nil })
	},
}

// badFuncs are like badTasks, of functions that return no error.
var badFuncs = map[string]func(c *stint.Client, name string, f func()){
	"retry policy": func(c *stint.Client, name string, f func()) {
		stint.NewTask(c, name, func(context.Context, int) (int, error) { return 7, errors.New("no") }, stint.WithRetries(3),
			stint.WithRetryPolicy(func(int, error) time.Duration { f(); return 0 }))
	},
	"retry policy of a step": func(c *stint.Client, name string, f func()) {
		stint.NewTask(c, name, func(ctx context.Context, _ int) (int, error) {
			return stint.Step(ctx, "s", func(context.Context) (int, error) { return 7, errors.New("no") }, stint.WithRetries(3),
				stint.WithRetryPolicy(func(int, error) time.Duration { f(); return 0 }))
		})
	},
	"batch key": func(c *stint.Client, name string, f func()) {
		stint.NewBatchTask(c, name, func(context.Context, []int) ([]int, error) { return nil, nil }, stint.WithBatchKey(func(int) string { f(); return "" }))
	},
	"output": func(c *stint.Client, name string, f func()) {
		stint.NewTask(c, name, func(context.Context, int) (evilJSON, error) { return evilJSON{encode: f}, nil })
	},
	"result of a step": func(c *stint.Client, name string, f func()) {
		stint.NewTask(c, name, func(ctx context.Context, _ int) (int, error) {
			_, err := stint.Step(ctx, "s", func(context.Context) (evilJSON, error) { return evilJSON{encode: f}, nil })
			return 0, err
		})
	},
	"result of a branch": func(c *stint.Client, name string, f func()) {
		stint.NewTask(c, name, func(ctx context.Context, _ int) (int, error) {
			_, err := stint.Go(ctx, "s", func(context.Context) (evilJSON, error) { return evilJSON{encode: f}, nil }).Wait(ctx)
			return 0, err
		})
	},
	"input of a child": func(c *stint.Client, name string, f func()) {
		child := stint.NewTask(c, "child of "+name, func(context.Context, evilJSON) (int, error) { return 7, nil })
		stint.NewTask(c, name, func(ctx context.Context, in int) (int, error) { return child.Run(ctx, evilJSON{encode: f}) })
	},
	"key of a child": func(c *stint.Client, name string, f func()) {
		child := stint.NewTask(c, "child of "+name, double, stint.WithIdempotency(func(int) string { f(); return "" }, time.Hour))
		stint.NewTask(c, name, func(ctx context.Context, in int) (int, error) { return child.Run(ctx, in) })
	},
}

var middles sync.Map // functions that the middleware calls, by task

func misbehavingMiddleware(next stint.Handler) stint.Handler {
	return func(ctx context.Context, input []byte) ([]byte, error) {
		info, _ := stint.Info(ctx)
		if f, ok := middles.Load(info.Task); ok {
			return nil, f.(func() error)()
		}
		return next(ctx, input)
	}
}

// Whatever of the app's the engine calls on a goroutine of its own, its panic, its Goexit and
// an error of its that panics fail that run alone, with the stack of the panic.
func TestAppCodeFailsItsRunAlone(t *testing.T) {
	failAlone(t, opened(t, stint.WithMiddleware(misbehavingMiddleware)), func(place string) bool { return place != "late" })
	synctest.Test(t, func(t *testing.T) { // else a slow machine is late too
		failAlone(t, openedAt(t, ":memory:"), func(place string) bool { return place == "late" })
	})
}

func failAlone(t *testing.T, c *stint.Client, in func(place string) bool) {
	t.Helper()
	names := defineBadTasks(c, in)
	good := stint.NewTask(c, "good", double)
	working(t, c)
	var bad []*stint.Run[json.RawMessage]
	for _, name := range names {
		bad = append(bad, enqueueJSON(t, c, name, json.RawMessage("1")))
	}
	for i, name := range names {
		_, err := bad[i].Wait(t.Context())
		panicked(t, err)
		_, err = stint.RunByID[int](c, bad[i].ID()).Wait(t.Context()) // as another process sees it
		panicked(t, err)
		if info := infoOf(t, bad[i]); info.State != stint.StateFailed {
			t.Errorf("%s: %v: %s", name, info.State, info.Error)
		}
	}
	if got, err := good.Run(t.Context(), 2); got != 4 || err != nil {
		t.Errorf("another run: %v, %v", got, err)
	}
}

// defineBadTasks defines a task for each misdeed in each of those places, and returns their names.
func defineBadTasks(c *stint.Client, in func(place string) bool) (names []string) {
	for place, define := range badTasks {
		if !in(place) {
			continue
		}
		for what, deed := range misdeeds {
			names = append(names, place+" "+what)
			define(c, place+" "+what, func() error { deed(); return nil })
		}
		names = append(names, place+" panics with what is in itself")
		define(c, place+" panics with what is in itself", func() error { misbehavesWith(inItself()); return nil })
		for what, evil := range evilErrors() {
			names = append(names, place+" returns "+what)
			define(c, place+" returns "+what, func() error { return evil })
		}
	}
	for place, define := range badFuncs {
		if !in(place) {
			continue
		}
		for what, deed := range misdeeds {
			names = append(names, place+" "+what)
			define(c, place+" "+what, deed)
		}
	}
	return names
}
