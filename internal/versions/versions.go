// Package versions holds versions of what has a name.
package versions

import "sync"

// A Cache holds the versions that a process has met, and the newest one of each name as far as the process knows. What a
// version is does not change. The zero value is empty.
type Cache[T any] struct {
	mu     sync.Mutex
	known  map[key]T
	newest map[string]T
}

type key struct{ name, version string }

// maxKnown bounds how many versions are kept beside the newest ones.
const maxKnown = 1000

// Put adds a version.
func (c *Cache[T]) Put(name, version string, v T) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.put(name, version, v)
}

func (c *Cache[T]) put(name, version string, v T) {
	if c.known == nil || len(c.known) >= maxKnown {
		c.known = map[key]T{}
	}
	c.known[key{name, version}] = v
}

// PutNewest adds a version that is the newest of its name.
func (c *Cache[T]) PutNewest(name, version string, v T) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.put(name, version, v)
	if c.newest == nil {
		c.newest = map[string]T{}
	}
	c.newest[name] = v
}

// At returns a version, or the zero value if it is not held.
func (c *Cache[T]) At(name, version string) T {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.known[key{name, version}]
}

// Newest returns the newest version of a name, or the zero value if none is held.
func (c *Cache[T]) Newest(name string) T {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.newest[name]
}

// Drop says that a name has no newest version any more. At still returns the versions.
func (c *Cache[T]) Drop(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.newest, name)
}
