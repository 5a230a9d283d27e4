package storetest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/stint-dev/stint/store"
)

// Read implements store.Lists.
func (m *Model) Read(_ context.Context, query store.Query) (err error) {
	switch q := query.(type) {
	case *store.WorkerList:
		q.Workers, err = m.listLiving()
	case *store.DefinitionList:
		q.Definitions, q.More, err = m.listDefinitions(q)
	case *store.CronList:
		q.Crons, q.More, err = m.listCrons(q.After, q.Limit)
	case *store.EventList:
		q.Events, q.Next, err = m.listEvents(q.Filter, q.Before, q.Limit)
	case *store.FilterList:
		q.Filters, q.More, err = m.listFilters(q.Task, q.After, q.Limit)
	case *store.QueueList:
		q.Queues, err = m.listQueues(q.Name)
	case *store.LimitList:
		q.Limits, err = m.listLimits(q.Rates)
	case *store.SettingList:
		q.Settings, q.More, err = m.listSettings(q.Prefix, q.After, q.Limit)
	case *store.ErrorGroupList:
		q.Groups, q.More, err = m.listErrorGroups(q.ErrorQuery, q.Limit)
	case *store.LogList:
		q.Lines, q.Next, err = m.listLogLines(q.Filter, q.After, q.Limit)
	case *store.LogCountList:
		q.Counts, err = m.listLogCounts(q.Filter, q.Span, q.Limit)
	case *store.CounterList:
		err = errors.ErrUnsupported // what stores count is no part of what the model proves
	case *store.StateCount:
		q.Runs, err = m.countStates()
	case *store.Names:
		*q, err = m.names()
	default:
		err = fmt.Errorf("query %T", q)
	}
	return err
}

// Change implements store.Changes.
func (m *Model) Change(_ context.Context, now time.Time, change store.Change) error {
	switch c := change.(type) {
	case *store.RunChange:
		return m.changeRun(now, c)
	case *store.CronChange:
		return m.changeCron(now, c)
	case *store.FilterChange:
		return m.changeFilter(c)
	case *store.PauseChange:
		return m.pause(c)
	case *store.RateChange:
		return m.setRate(now, c)
	case *store.SettingChange:
		return m.changeSetting(c)
	case *store.ErrorMark:
		return m.markErrors(c)
	}
	return fmt.Errorf("change %T", change)
}
