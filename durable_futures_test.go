package stint_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/stint-dev/stint"
)

// A future of a branch that could not begin, none at all, and one that was begun elsewhere
// are errors that say so, in each pass: nothing panics, where a handler is not there to
// catch it either.
func TestFuturesThatAreNone(t *testing.T) {
	one := func(context.Context) (int, error) { return 1, nil }
	outside := stint.Go(t.Context(), "outside", one)
	waits := map[string]func(ctx context.Context, f *stint.Future[int]) error{
		"Wait": func(ctx context.Context, f *stint.Future[int]) error { return errOf(f.Wait(ctx)) },
		"All":  func(ctx context.Context, f *stint.Future[int]) error { return errOf(stint.All(ctx, f)) },
		"Any":  func(ctx context.Context, f *stint.Future[int]) error { _, _, err := stint.Any(ctx, f); return err },
		"Any beside another": func(ctx context.Context, f *stint.Future[int]) error {
			_, _, err := stint.Any(ctx, stint.Go(ctx, "good", one), f)
			return err
		},
	}
	for name, wait := range waits {
		durably(t, func(t *testing.T, c *stint.Client) {
			says := func(err error, is error, want string) error {
				if err == nil || errors.As(err, new(*stint.PanicError)) || is != nil && !errors.Is(err, is) || !strings.Contains(err.Error(), want) {
					return fmt.Errorf("%s: got %v, want %v, %q", name, err, is, want)
				}
				return nil
			}
			task := stint.NewTask(c, "task", func(ctx context.Context, _ int) (int, error) {
				errs := []error{
					says(wait(ctx, stint.Go(ctx, "", one)), nil, "empty"),
					says(wait(ctx, nil), nil, "nil"),
					says(wait(ctx, &stint.Future[int]{}), nil, "nil"),
					says(wait(context.Background(), stint.Go(ctx, "b", one)), stint.ErrDurable, ""),
				}
				if strings.HasPrefix(name, "Any") { // Wait has what it returned
					errs = append(errs, says(wait(ctx, outside), stint.ErrDurable, "outside"))
				}
				return 7, errors.Join(append(errs, wait(ctx, stint.Go(ctx, "a control", one)), stint.Sleep(ctx, 1))...)
			})
			working(t, c)
			if got, err := task.Run(t.Context(), 1); got != 7 || err != nil {
				t.Errorf("in a run: %d, %v", got, err)
			}
			for _, f := range []*stint.Future[int]{nil, {}} {
				if err := says(wait(t.Context(), f), nil, "nil"); err != nil {
					t.Errorf("outside: %v", err)
				}
			}
		})
	}
}
