package sqlite

import (
	"database/sql"
	"errors"

	"github.com/stint-dev/stint/store"
)

// storeGraph stores a graph, unless it is stored, and returns its number.
func (ws *workflows) storeGraph(g *store.Graph) (id int64, err error) {
	hash := g.Hash()
	if id, ok := ws.graphs.ID(hash); ok {
		return id, nil
	}
	err = ws.one("SELECT id FROM stint_graphs WHERE hash = ?", []any{hash[:]}, &id)
	if errors.Is(err, sql.ErrNoRows) {
		err = ws.one("INSERT INTO stint_graphs (hash, shape) VALUES (?, ?) RETURNING id", []any{hash[:], string(g.Text())}, &id)
	}
	if err == nil {
		ws.graphs.Put(id, g)
	}
	return id, err
}
