package reading

import "github.com/stint-dev/stint/store"

type definitionRow struct {
	store.Definition
	at int64
}

func (r *definitionRow) fields() []any { return []any{&r.Task, &r.Version, &r.Body, &r.at} }

const definitionsSQL = "SELECT task, version, body, at FROM stint_definitions d WHERE "

// definitions reads a store.DefinitionList.
func definitions(q Querier, d *store.DefinitionList) (all []store.Definition, more bool, err error) {
	var rows []definitionRow
	switch {
	case d.Version != "":
		rows, err = All(q, (*definitionRow).fields, definitionsSQL+"task = ? AND version = ?", d.Task, d.Version)
	case d.Task != "":
		rows, err = All(q, (*definitionRow).fields, definitionsSQL+"task = ? ORDER BY number DESC LIMIT 1", d.Task)
	default:
		rows, more, err = page(q, d.Limit, (*definitionRow).fields, func(r *definitionRow) int { return r.Size() }, definitionsSQL+
			"task > ? AND number = (SELECT max(number) FROM stint_definitions n WHERE n.task = d.task) ORDER BY task LIMIT ?",
			d.After, d.Limit+1)
	}
	for _, r := range rows {
		r.At = millis(r.at)
		all = append(all, r.Definition)
	}
	return all, more, err
}
