package stint_test

import (
	"testing"

	"github.com/stint-dev/stint"
)

// A count is exact, at once and in parts, and one that has begun counts no run that is enqueued since.
func TestCountMatching(t *testing.T) {
	c := opened(t)
	inputs := make([]int, 25)
	for _, task := range []string{"a", "b"} {
		enqueueMany(t, stint.NewTask[int, int](c, task, nil), inputs)
	}
	for _, tt := range []struct {
		f    stint.RunFilter
		want int
	}{{stint.RunFilter{}, 50}, {stint.RunFilter{Tasks: []string{"a"}}, 25}, {stint.RunFilter{Tasks: []string{}}, 0},
		{stint.RunFilter{States: []stint.State{stint.StateFailed}}, 0}, {stint.RunFilter{States: []stint.State{stint.StateQueued}}, 50}} {
		for _, scan := range []int{0, 7} {
			tt.f.Scan, tt.f.Cursor = scan, ""
			sum := 0
			for more := true; more; more = tt.f.Cursor != "" {
				n := must[*stint.RunCount](t)(c.CountMatching(t.Context(), tt.f))
				sum, tt.f.Cursor = sum+n.Runs, n.Next
			}
			if sum != tt.want {
				t.Errorf("%+v: counted %d, want %d", tt.f, sum, tt.want)
			}
		}
	}
	f := stint.RunFilter{Scan: 7}
	sum := 0
	for more := true; more; more = f.Cursor != "" {
		n := must[*stint.RunCount](t)(c.CountMatching(t.Context(), f))
		sum, f.Cursor = sum+n.Runs, n.Next
		enqueueJSON(t, c, "b", []byte("1"))
	}
	if sum != 50 {
		t.Errorf("counted %d while others were enqueued, want 50", sum)
	}
	if _, err := c.CountMatching(t.Context(), stint.RunFilter{Cursor: "x"}); err == nil {
		t.Error("a cursor that is none: no error")
	}
}
