package storetest

import (
	"maps"
	"slices"
	"time"

	"github.com/stint-dev/stint/store"
)

// define makes a declaration's definition the newest of its task, and reports whether it was not.
func (m *Model) define(now time.Time, d *store.Declaration) bool {
	all := m.definitions[d.Task]
	newest := ""
	if len(all) > 0 {
		newest = all[len(all)-1].Version
	}
	if newest == d.Definition.Version {
		return false
	}
	m.filters = slices.DeleteFunc(m.filters, func(f store.TaskFilter) bool { return f.Task == d.Task && f.Declared })
	for _, f := range d.Filters {
		m.filter++
		f.ID, f.Task, f.Declared = m.filter, d.Task, true
		m.filters = append(m.filters, f)
	}
	if d.Definition.Version == "" {
		delete(m.definitions, d.Task)
		return true
	}
	all = slices.DeleteFunc(slices.Clone(all), func(old store.Definition) bool { return old.Version == d.Definition.Version })
	made := *d.Definition
	made.At = now.Truncate(time.Millisecond)
	all = append(all, made)
	m.definitions[d.Task] = all[max(0, len(all)-store.MaxVersions):]
	return true
}

func (m *Model) listDefinitions(q *store.DefinitionList) (all []store.Definition, more bool, err error) {
	if err := m.lock(); err != nil {
		return nil, false, err
	}
	defer m.unlock()
	if q.Task != "" {
		versions := m.definitions[q.Task]
		for i, d := range slices.Backward(versions) {
			if d.Version == q.Version || q.Version == "" && i == len(versions)-1 {
				return []store.Definition{d}, false, nil
			}
		}
		return nil, false, nil
	}
	for _, task := range slices.Sorted(maps.Keys(m.definitions)) {
		if versions := m.definitions[task]; task > q.After {
			all = append(all, versions[len(versions)-1])
		}
	}
	all, more = firstPage(all, q.Limit, (*store.Definition).Size)
	return all, more, nil
}
