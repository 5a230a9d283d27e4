package stint_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/sqlite"
)

// A refusingStore refuses outcomes with the output "poison": the first times, or for ever if times is negative.
type refusingStore struct {
	store.Store
	times int
}

func (s *refusingStore) Finish(ctx context.Context, now time.Time, all []store.Outcome) ([]bool, error) {
	for _, o := range all {
		if string(o.Output) == `"poison"` && s.times != 0 {
			s.times--
			return nil, errors.New("a constraint of the database")
		}
	}
	return s.Store.Finish(ctx, now, all)
}

// An outcome that the store refuses is tried again, and delays no other. After five times the attempt fails, with the
// reason, if the store takes that.
func TestRefusedOutcome(t *testing.T) {
	for name, tt := range map[string]struct {
		times int
		fails bool
	}{"for a while": {4, false}, "always": {-1, true}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				file := must[*sqlite.Store](t)(sqlite.Open(":memory:", sqlite.Options{}))
				c := must[*stint.Client](t)(stint.New(&refusingStore{file, tt.times}, stint.WithLogger(slog.New(slog.DiscardHandler))))
				defer c.Close()
				task := stint.NewTask(c, "t", func(_ context.Context, s string) (string, error) { return s, nil })
				runs := enqueueMany(t, task, []string{"one", "poison", "two"})
				stop := working(t, c)
				defer stop()
				began := time.Now()
				for _, i := range []int{0, 2} {
					output(t, runs[i])
				}
				output(t, enqueue(t, task, "three"))
				if took := time.Since(began); took >= time.Second {
					t.Errorf("the others waited for it, for %v", took)
				}
				out, err := runs[1].Wait(t.Context())
				if tt.fails && (err == nil || !strings.Contains(err.Error(), "the outcome cannot be stored: a constraint of the database")) {
					t.Errorf("%q, %v; want an error that says why", out, err)
				} else if !tt.fails && (err != nil || out != "poison") {
					t.Errorf("%q, %v; want what the handler returned", out, err)
				}
			})
		})
	}
}
