package lifecycle

import (
	"encoding/json"
	"time"

	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/count"
)

// A Finished tells a store what to announce, count and store of a run that its outcome has ended.
type Finished struct {
	Run     int64
	Ended   int64
	Result  *store.Result
	Counted bool           // for the Task of the outcome; else by the run's row
	Took    time.Duration  // from its last start; negative: it never started
	Failure *store.Failure // where it counts; nil: nowhere
	Tests   []byte         // the results of its tests, encoded; nil: there are none
}

func finished(key int64, o *store.Outcome, to store.State, now int64) (f Finished, err error) {
	f = Finished{Run: key, Ended: now, Result: &store.Result{State: to}, Counted: o.Task != "", Took: count.Took(o.Started, now)}
	switch to {
	case store.Succeeded:
		f.Result.Output = o.Output
		if len(o.Tests) > 0 {
			f.Tests, err = json.Marshal(o.Tests)
		}
	case store.Failed:
		f.Failure = o.Failure
	}
	return f, err
}
