// Package changing makes the changes of one thing that people and programs set. Which rule a change follows is decided
// here, for all stores.
package changing

import (
	"fmt"
	"time"

	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/cron"
	"github.com/stint-dev/stint/store/internal/lifecycle"
	"github.com/stint-dev/stint/store/internal/limits"
)

// Rows are what changes are made to. Its last methods carry out those that are a statement each.
type Rows interface {
	Runs() lifecycle.Rows
	Crons() cron.Rows
	Limits() limits.Named

	ChangeFilter(c *store.FilterChange) error
	PauseQueue(queue string, paused bool) error
	PauseWorker(name string, paused bool) error
	ChangeSetting(c *store.SettingChange) error
	MarkErrors(m *store.ErrorMark) error
}

// Make makes a change, and sets its answer.
func Make(rows Rows, now time.Time, c store.Change) error {
	switch c := c.(type) {
	case *store.RunChange:
		return lifecycle.ChangeRun(rows.Runs(), now.UnixMilli(), c)
	case *store.CronChange:
		return cron.Change(rows.Crons(), now, c)
	case *store.FilterChange:
		return rows.ChangeFilter(c)
	case *store.PauseChange:
		switch {
		case c.Queue != "":
			return rows.PauseQueue(c.Queue, c.Paused)
		case c.Worker != "":
			return rows.PauseWorker(c.Worker, c.Paused)
		}
		return limits.Pause(rows.Limits(), c.Limit, c.Paused)
	case *store.RateChange:
		return limits.SetRate(rows.Limits(), now, c)
	case *store.SettingChange:
		return rows.ChangeSetting(c)
	case *store.ErrorMark:
		return rows.MarkErrors(c)
	}
	return fmt.Errorf("%T is no change that this store knows", c)
}
