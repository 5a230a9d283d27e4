package sqlite

import (
	"database/sql"
	"errors"
	"fmt"
	"sync"

	"github.com/stint-dev/stint/store"
)

// A graphCache holds stored graphs, which never change. It is dropped when a transaction is rolled
// back, which may have stored one.
type graphCache struct {
	mu     sync.Mutex
	byID   map[int64]*store.Graph
	byHash map[[32]byte]int64
}

func (c *graphCache) get(id int64) *store.Graph {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.byID[id]
}

func (c *graphCache) id(hash [32]byte) (int64, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	id, ok := c.byHash[hash]
	return id, ok
}

func (c *graphCache) put(id int64, g *store.Graph) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.byID == nil {
		c.byID, c.byHash = map[int64]*store.Graph{}, map[[32]byte]int64{}
	}
	c.byID[id], c.byHash[g.Hash()] = g, id
}

func (c *graphCache) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.byID, c.byHash = nil, nil
}

// graph returns a stored graph.
func (c *graphCache) graph(q querier, id int64) (*store.Graph, error) {
	if g := c.get(id); g != nil {
		return g, nil
	}
	var text []byte
	if err := q.one("SELECT shape FROM stint_graphs WHERE id = ?", []any{id}, &text); err != nil {
		return nil, fmt.Errorf("graph %d: %w", id, err)
	}
	g, err := store.ParseGraph(text)
	if err == nil {
		c.put(id, g)
	}
	return g, err
}

// storeGraph stores a graph, unless it is stored, and returns its number.
func (ws *workflows) storeGraph(g *store.Graph) (id int64, err error) {
	hash := g.Hash()
	if id, ok := ws.graphs.id(hash); ok {
		return id, nil
	}
	err = ws.one("SELECT id FROM stint_graphs WHERE hash = ?", []any{hash[:]}, &id)
	if errors.Is(err, sql.ErrNoRows) {
		err = ws.one("INSERT INTO stint_graphs (hash, shape) VALUES (?, ?) RETURNING id", []any{hash[:], string(g.Text())}, &id)
	}
	if err == nil {
		ws.graphs.put(id, g)
	}
	return id, err
}
