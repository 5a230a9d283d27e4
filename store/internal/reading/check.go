package reading

import "fmt"

// checks count rows that no sequence of commits and crashes can leave.
var checks = []struct{ what, from string }{
	{"keys of runs that are not there", "stint_keys k WHERE NOT gone AND NOT EXISTS (SELECT 1 FROM stint_runs r WHERE r.id = k.run)"},
	{"tasks of workflow runs that are not there", "stint_runs n WHERE n.node IS NOT NULL AND n.parent IS NOT NULL " +
		"AND n.flags & 1 = 0 AND NOT EXISTS (SELECT 1 FROM stint_runs r WHERE r.id = n.parent)"},
	{"running workflow runs of which no task is left", "stint_runs r WHERE r." + isRunning + " AND r.flags & 2 <> 0 " +
		"AND NOT EXISTS (SELECT 1 FROM stint_runs n WHERE n.parent = r.id AND n.node IS NOT NULL AND n." + notEnded + ")"},
	{"tasks of a workflow that are there twice", "(SELECT 1 FROM stint_runs WHERE node IS NOT NULL AND parent IS NOT NULL " +
		"GROUP BY parent, node HAVING count(*) > 1) x"},
	{"running runs of no worker", "stint_runs r WHERE r." + isRunning + " AND r.worker > 0 " +
		"AND NOT EXISTS (SELECT 1 FROM stint_workers w WHERE w.id = r.worker)"},
	{"crons that never tick and do not say why", "stint_crons WHERE next_at IS NULL AND NOT paused AND gone_at IS NULL " +
		"AND error IS NULL"},
	{"waits of runs that are not there", "stint_waits w WHERE NOT EXISTS (SELECT 1 FROM stint_runs r WHERE r.id = w.run)"},
	{"journal entries of runs that are not there", "stint_journal j WHERE NOT EXISTS (SELECT 1 FROM stint_runs r WHERE r.id = j.run)"},
}

// Check describes rows that refer to missing ones, or that no store has written. Its time is proportional to
// the database's size.
func Check(q Querier) (problems []string, err error) {
	for _, c := range checks {
		var n int
		if _, err := one(q, "SELECT count(*) FROM "+c.from, nil, &n); err != nil {
			return nil, err
		}
		if n > 0 {
			problems = append(problems, fmt.Sprintf("%d %s", n, c.what))
		}
	}
	return problems, nil
}
