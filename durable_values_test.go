package stint_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stint-dev/stint"
)

// A bundle does not survive its encoding as it is.
type bundle struct {
	Name  string
	Extra any
	when  time.Time
	Point *int
}

// A grade encodes itself, as its first letter.
type grade string

func (g grade) MarshalJSON() ([]byte, error) { return json.Marshal(string(g[:1])) }

// describe shows a value with its types.
func describe(v any) string {
	if p, ok := v.(bundle); ok {
		return fmt.Sprintf("%q %T %v %v", p.Name, p.Extra, p.when.IsZero(), p.Point == nil || *p.Point > 0)
	}
	return fmt.Sprintf("%T %v", v, v)
}

// valued returns a value by each way by which a handler gets one.
func valued[T any](v T) map[string]func(context.Context, *stint.Task[int, T]) (T, error) {
	body := func(context.Context) (T, error) { return v, nil }
	return map[string]func(context.Context, *stint.Task[int, T]) (T, error){
		"step": func(ctx context.Context, _ *stint.Task[int, T]) (T, error) { return stint.Step(ctx, "s", body) },
		"step at most once": func(ctx context.Context, _ *stint.Task[int, T]) (T, error) {
			return stint.Step(ctx, "s", body, stint.WithAtMostOnce(), stint.WithTimeout(time.Minute))
		},
		"branch": func(ctx context.Context, _ *stint.Task[int, T]) (T, error) { return stint.Go(ctx, "b", body).Wait(ctx) },
		"step in a branch": func(ctx context.Context, _ *stint.Task[int, T]) (T, error) {
			return stint.Go(ctx, "b", func(ctx context.Context) (T, error) { return stint.Step(ctx, "s", body) }).Wait(ctx)
		},
		"all": func(ctx context.Context, _ *stint.Task[int, T]) (v T, err error) {
			all, err := stint.All(ctx, stint.Go(ctx, "b", body))
			if err == nil {
				v = all[0]
			}
			return v, err
		},
		"any": func(ctx context.Context, _ *stint.Task[int, T]) (T, error) {
			_, v, err := stint.Any(ctx, stint.Go(ctx, "b", body))
			return v, err
		},
		"child": func(ctx context.Context, child *stint.Task[int, T]) (T, error) { return child.Run(ctx, 0) },
		"child, waited for": func(ctx context.Context, child *stint.Task[int, T]) (v T, err error) {
			runs, err := child.EnqueueMany(ctx, []int{1})
			if err != nil {
				return v, err
			}
			return runs[0].Wait(ctx)
		},
	}
}

func checkValue[T any](t *testing.T, c *stint.Client, name string, v T, want string) {
	child := stint.NewTask(c, "child of "+name, func(context.Context, int) (T, error) { return v, nil })
	for way, get := range valued(v) {
		var mu sync.Mutex
		var seen []string
		task := stint.NewTask(c, name+" by "+way, func(ctx context.Context, _ int) (string, error) {
			got, err := get(ctx, child)
			if err != nil {
				return "", err
			}
			mu.Lock()
			seen = append(seen, describe(got))
			mu.Unlock()
			return describe(got), stint.Sleep(ctx, time.Minute)
		})
		stop := working(t, c)
		if got, err := task.Run(t.Context(), 0); err != nil || got != want {
			t.Errorf("%s by %s: %q, %v, want %q", name, way, got, err, want)
		}
		for _, s := range seen {
			if s != want {
				t.Errorf("%s by %s: one pass saw %q, want %q", name, way, s, want)
			}
		}
		if len(seen) < 2 {
			t.Errorf("%s by %s: seen %d times", name, way, len(seen))
		}
		stop()
	}
}

// A handler sees from the first on what a later pass decodes, by whatever way it gets it.
func TestValuesAreDecodedFromTheFirst(t *testing.T) {
	durably(t, func(t *testing.T, c *stint.Client) {
		n := 3
		checkValue(t, c, "any", any(int64(7)), "float64 7")
		checkValue(t, c, "a map of any", map[string]any{"n": 1}, "map[string]interface {} map[n:1]")
		checkValue(t, c, "a struct", bundle{"a", 7, time.Now(), &n}, `"a" float64 true true`)
		checkValue(t, c, "a type that encodes itself", []grade{"best"}, "[]stint_test.grade [b]")
		checkValue(t, c, "text that is not UTF-8", "a\xffb", "string a\ufffdb")
		checkValue(t, c, "a time", time.Date(2026, 1, 2, 3, 4, 5, 6, time.FixedZone("here", 3600)).UTC(), "time.Time 2026-01-02 02:04:05.000000006 +0000 UTC")
		checkValue(t, c, "control, an int", 7, "int 7") // as before
		checkValue(t, c, "control, a string", "x", "string x")
		checkValue(t, c, "control, a float", 0.1, "float64 0.1")
		checkValue(t, c, "nothing", struct{}{}, "struct {} {}")
	})
}

// Code that branches on the type of what a step returned goes on after a wait.
func TestBranchingOnATypeDoesNotDiverge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := openedAt(t, ":memory:", stint.WithMaxResident(0))
		task := stint.NewTask(c, "t", func(ctx context.Context, _ int) (string, error) {
			v, err := stint.Step(ctx, "s", func(context.Context) (any, error) { return int64(7), nil })
			if err != nil {
				return "", err
			}
			name := "other"
			if _, ok := v.(int64); ok {
				name = "whole"
			}
			if _, err := stint.Step(ctx, name, func(context.Context) (int, error) { return 1, nil }); err != nil {
				return "", err
			}
			return name, stint.Sleep(ctx, time.Hour)
		})
		working(t, c)
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Hour)
		defer cancel()
		if got, err := task.Run(ctx, 0); err != nil || got != "other" {
			t.Errorf("Run = %q, %v", got, err)
		}
	})
}

// So does StepTx, which needs a file.
func TestStepTxValueIsDecoded(t *testing.T) {
	c := opened(t)
	task := stint.NewTask(c, "t", func(ctx context.Context, _ int) (string, error) {
		v, err := stint.StepTx(ctx, "s", func(context.Context, *sql.Tx) (any, error) { return int64(7), nil })
		return describe(v), err
	})
	working(t, c)
	if got, err := task.Run(t.Context(), 0); err != nil || got != "float64 7" {
		t.Errorf("Run = %q, %v", got, err)
	}
}

// shifted is a codec by which no type survives as it is.
type shifted struct{}

func (shifted) Marshal(v any) ([]byte, error) {
	if n, ok := v.(int); ok {
		v = n + 1
	}
	return json.Marshal(v)
}
func (shifted) Unmarshal(b []byte, v any) error { return json.Unmarshal(b, v) }

// With a codec of the app's even a number is decoded.
func TestValuesOfACodecAreDecoded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := openedAt(t, ":memory:", stint.WithCodec(shifted{}))
		var seen []int
		task := stint.NewTask(c, "t", func(ctx context.Context, _ string) (string, error) {
			n, err := stint.Step(ctx, "s", func(context.Context) (int, error) { return 1, nil })
			if err != nil {
				return "", err
			}
			seen = append(seen, n)
			return "", stint.Sleep(ctx, time.Hour)
		})
		working(t, c)
		runTask(t, task, "")
		if fmt.Sprint(seen) != "[2 2]" {
			t.Errorf("the passes saw %v", seen)
		}
	})
}
