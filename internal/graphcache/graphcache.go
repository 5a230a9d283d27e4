// Package graphcache holds the graphs that a store has stored.
package graphcache

import (
	"sync"

	"github.com/stint-dev/stint/store"
)

// A Cache holds stored graphs, which never change, by ID and by hash. The zero value is empty. It
// implements reading.Graphs.
type Cache struct {
	mu     sync.Mutex
	byID   map[int64]*store.Graph
	byHash map[[32]byte]int64
}

// Get returns the graph with that ID, or nil if it is not held.
func (c *Cache) Get(id int64) *store.Graph {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.byID[id]
}

// ID returns the ID of the graph with that hash, and whether it is held.
func (c *Cache) ID(hash [32]byte) (id int64, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	id, ok = c.byHash[hash]
	return id, ok
}

// Put adds a graph.
func (c *Cache) Put(id int64, g *store.Graph) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.byID == nil {
		c.byID, c.byHash = map[int64]*store.Graph{}, map[[32]byte]int64{}
	}
	c.byID[id], c.byHash[g.Hash()] = g, id
}

// Forget empties the cache.
func (c *Cache) Forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.byID, c.byHash = nil, nil
}
