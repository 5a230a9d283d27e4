package sqlite

import (
	"context"
	"slices"
	"strings"

	"github.com/stint-dev/stint/store"
)

const taskNamesSQL = `
SELECT task FROM stint_lanes WHERE staged IS NULL
UNION SELECT task FROM stint_crons UNION SELECT task FROM stint_triggers UNION SELECT task FROM stint_filters
UNION SELECT j.value FROM stint_workers w, json_each(CASE WHEN json_valid(w.tasks) THEN w.tasks END) j WHERE j.type = 'text'`

const queueNamesSQL = `
SELECT name FROM stint_queues
UNION SELECT j.value FROM stint_workers w, json_each(CASE WHEN json_valid(w.queues) THEN w.queues END) j WHERE j.type = 'text'`

// Names implements store.Stats. Tasks of workflows share a lane, whose name ends with a
// colon; their own names are in the graphs.
func (s *Store) Names(ctx context.Context) (*store.Names, error) {
	var n store.Names
	err := s.view(ctx, func(q querier) (err error) {
		if n.Queues, err = column[string](q, queueNamesSQL); err != nil {
			return err
		}
		if n.Tasks, err = column[string](q, taskNamesSQL); err != nil {
			return err
		}
		n.Tasks = slices.DeleteFunc(n.Tasks, func(t string) bool { return strings.HasSuffix(t, ":") })
		graphs, err := column[int64](q, "SELECT id FROM stint_graphs ORDER BY id")
		if err != nil {
			return err
		}
		for _, id := range graphs {
			g, err := s.graphs.graph(q, id)
			if err != nil {
				return err
			}
			for place := range g.Success() + 1 {
				n.Tasks = append(n.Tasks, g.TaskName(place))
			}
		}
		return nil
	})
	slices.Sort(n.Tasks)
	slices.Sort(n.Queues)
	n.Tasks, n.Queues = slices.Compact(n.Tasks), slices.Compact(n.Queues)
	return &n, err
}
