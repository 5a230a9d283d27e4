package sqlite

import (
	"database/sql"
	"errors"
	"sync"

	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/reading"
)

// A graphCache holds stored graphs, which never change. It is dropped when a transaction is rolled
// back, which may have stored one.
type graphCache struct {
	mu     sync.Mutex
	byID   map[int64]*store.Graph
	byHash map[[32]byte]int64
}

// Get implements reading.Graphs.
func (c *graphCache) Get(id int64) *store.Graph {
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

// Put implements reading.Graphs.
func (c *graphCache) Put(id int64, g *store.Graph) {
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
func (c *graphCache) graph(q querier, id int64) (*store.Graph, error) { return reading.Graph(q, c, id) }

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
		ws.graphs.Put(id, g)
	}
	return id, err
}

// nodeOf returns the node of a run to insert, if it is a workflow's; else 0. It stores the graph.
func (ws *workflows) nodeOf(r *store.NewRun) (int64, error) {
	if r.Graph == nil {
		return 0, nil
	}
	id, err := ws.storeGraph(r.Graph)
	return id<<nodeBits | int64(r.Graph.End()), err
}
