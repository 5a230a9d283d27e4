package reading

import (
	"fmt"
	"time"

	"github.com/stint-dev/stint/store"
)

// Read answers a query, as store.Lists says.
func (r *Reader) Read(q Querier, now time.Time, query store.Query) (err error) {
	switch x := query.(type) {
	case *store.WorkerList:
		x.Workers, err = workers(q)
	case *store.DefinitionList:
		x.Definitions, x.More, err = definitions(q, x)
	case *store.CronList:
		x.Crons, x.More, err = r.cronsAfter(q, x.After, x.Limit)
	case *store.EventList:
		x.Events, x.Next, err = r.events(q, &x.Filter, x.Before, x.Limit)
	case *store.FilterList:
		x.Filters, x.More, err = filters(q, x.Task, x.After, x.Limit)
	case *store.QueueList:
		x.Queues, err = r.queues(q, x.Name)
	case *store.LimitList:
		x.Limits, err = limits(q, now, x.Rates)
	case *store.SettingList:
		x.Settings, x.More, err = settings(q, x.Prefix, x.After, x.Limit)
	case *store.ErrorGroupList:
		x.Groups, x.More, err = r.errorGroups(q, &x.ErrorQuery, x.Limit, now)
	case *store.LogList:
		x.Lines, x.Next, err = r.logLines(q, x.Filter, x.After, x.Limit)
	case *store.LogCountList:
		x.Counts, err = r.logCounts(q, x.Filter, x.Span, x.Limit)
	case *store.CounterList:
		x.Counters, err = counters(q, x.Span, x.Since, x.Of)
	case *store.StateCount:
		x.Runs, err = stateCount(q)
	case *store.Names:
		*x, err = r.names(q)
	default:
		err = fmt.Errorf("%T is no query that this store knows", query)
	}
	return err
}
