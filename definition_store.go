package stint

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/stint-dev/stint/internal/check"
	"github.com/stint-dev/stint/store"
)

// definitions are those of the database that the client has used.
type definitions struct {
	mu     sync.Mutex
	known  map[versionOf]*taskDef
	newest map[string]*taskDef // by name, as far as the client knows
}

// A versionOf is a version of a definition.
type versionOf struct{ name, version string }

// maxKnownDefinitions bounds what is kept of older versions.
const maxKnownDefinitions = 1000

// put adds a definition; newest says that it is the newest of its name.
func (ds *definitions) put(def *taskDef, newest bool) {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	if ds.known == nil || len(ds.known) > maxKnownDefinitions {
		ds.known = map[versionOf]*taskDef{}
	}
	ds.known[versionOf{def.name, def.version}] = def
	if newest {
		ds.newest[def.name] = def
	}
}

func (ds *definitions) drop(name string) {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	delete(ds.newest, name)
}

// last returns the newest definition of a name that the client has met, or nil.
func (ds *definitions) last(name string) *taskDef {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	return ds.newest[name]
}

// isWorkflow reports whether the name is known to be a workflow's.
func (ds *definitions) isWorkflow(name string) bool {
	d := ds.last(name)
	return d != nil && d.workflow != nil
}

func (ds *definitions) at(v versionOf) *taskDef {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	return ds.known[v]
}

// defFrom returns a task or workflow as its definition says, or an error that names a field.
func (c *Client) defFrom(d *Definition) (*taskDef, error) {
	if err := check.Name("name", d.Name); err != nil {
		return nil, err
	}
	if strings.Contains(d.Name, ":") {
		return nil, errors.New("name: no colon: it stands between a workflow's and its task's")
	}
	if len(d.InputSchema) > 0 && !json.Valid(d.InputSchema) {
		return nil, errors.New("input_schema: it is not JSON")
	}
	if d.OnFailure != nil && len(d.Tasks) == 0 {
		return nil, errors.New("on_failure: it is of a workflow, which has tasks")
	}
	build := func() (*taskDef, error) { return c.dataTask(d.Name, d.options()) }
	if len(d.Tasks) > 0 {
		build = func() (*taskDef, error) { return c.workflowFrom(d) }
	}
	def, err := build()
	if err != nil {
		return nil, err
	}
	def.setExprs()
	return def, nil
}

// dataTask returns a task without a function.
func (c *Client) dataTask(name string, opts []TaskOption) (*taskDef, error) {
	if err := check.Name("name", name); err != nil {
		return nil, err
	}
	def, err := newTaskDef[json.RawMessage, json.RawMessage](c, name, nil, opts)
	if err != nil {
		return nil, err
	}
	number := 0
	for i := range def.cfg.limitExprs {
		l := &def.cfg.limitExprs[i].Limit
		if l.Rate() {
			continue
		}
		if number++; l.Name == "" {
			if l.Name = name; number > 1 {
				l.Name = fmt.Sprintf("%s/%d", name, number)
			}
		}
	}
	return def, nil
}

// setExprs gathers the expressions of a definition's runs, and has them computed when one is made.
func (d *taskDef) setExprs() {
	x := &store.Exprs{Key: d.cfg.keyExpr, KeyTTL: d.cfg.keyTTL, Limits: d.cfg.limitExprs}
	if w := d.workflow; w != nil {
		x.Tasks = map[int][]store.LimitExpr{}
		w.each(func(place int, def *taskDef) error {
			own := def.cfg.limitExprs
			if len(own) > 0 {
				x.Tasks[place] = own
			}
			// The workflow's run itself is not executed: its tasks find out what cannot be computed of it.
			def.exprs = &store.Exprs{Limits: own}
			if def.node != nil {
				def.exprs = &store.Exprs{Key: x.Key, Limits: slices.Concat(x.Limits, own)}
			}
			return nil
		})
	}
	if x.Key != "" || len(x.Limits) > 0 || len(x.Tasks) > 0 {
		d.exprs = x
	}
	d.prepare = func(_ []byte, r *store.NewRun) error {
		if d.exprs == nil {
			return nil
		}
		key, limits := d.exprs.Apply(r)
		if errors.Is(limits, store.ErrNoFilters) {
			return limits
		}
		return key // limits that cannot be computed fail the run when it starts
	}
}

// fromStored returns a stored definition, and what it defines. What can be read of one that was changed
// by other means is returned with the error.
func (c *Client) fromStored(s *store.Definition) (d *Definition, def *taskDef, err error) {
	d = &Definition{}
	if err := json.Unmarshal(s.Body, d); err != nil {
		return nil, nil, fmt.Errorf("definition of %q, version %s, was changed in the database: %w", s.Task, s.Version, err)
	}
	_, version, err := d.encode()
	if err == nil && (version != s.Version || d.Name != s.Task) {
		err = errors.New("it is not what the version says")
	}
	if err != nil {
		return d, nil, fmt.Errorf("definition of %q, version %s, was changed in the database: %w: define it again", s.Task, s.Version, err)
	}
	if def = c.definitions.at(versionOf{d.Name, version}); def != nil {
		return d, def, nil
	}
	if def, err = c.defFrom(d); err != nil {
		return d, nil, fmt.Errorf("definition of %q, version %s: %w", s.Task, s.Version, err)
	}
	def.version = version
	return d, def, nil
}

// definition returns the newest definition of a name, or nil if it has none.
func (c *Client) definition(ctx context.Context, name string) (*taskDef, error) {
	stored, _, err := c.store.Definitions(ctx, store.DefinitionQuery{Task: name})
	if err != nil || len(stored) == 0 {
		return nil, err
	}
	if def := c.definitions.at(versionOf{name, stored[0].Version}); def != nil {
		c.definitions.put(def, true)
		return def, nil
	}
	_, def, err := c.fromStored(&stored[0])
	if err != nil {
		c.logger().Error("stint: a definition cannot be used", "task", name, "err", err)
		return nil, err
	}
	c.definitions.put(def, true)
	return def, nil
}

// definitionOf returns a version of the definition of a run's task, or the newest one if that version is not kept any
// more, or nil if there is none.
func (c *Client) definitionOf(ctx context.Context, task, version string) (*taskDef, error) {
	name, _, _ := strings.Cut(task, ":")
	v := versionOf{name, version}
	def := c.definitions.at(v)
	if def != nil {
		return def, nil
	}
	stored, _, err := c.store.Definitions(ctx, store.DefinitionQuery{Task: name, Version: version})
	if err != nil {
		return nil, err
	}
	if len(stored) == 0 {
		return c.definition(ctx, name)
	}
	if _, def, err = c.fromStored(&stored[0]); err != nil {
		return nil, err
	}
	c.definitions.put(def, false)
	return def, nil
}

// claimName makes a name one of Define, unless code defines it on this client.
func (c *Client) claimName(name string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.tasks[name] != nil {
		return errors.New("name: code of this client defines it, with NewTask or NewWorkflow")
	}
	c.defined[name] = true
	return nil
}

// restartClaims makes workers look for runs of what was defined just now.
func (c *Client) restartClaims() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for w := range c.workers {
		w.restartClaim()
	}
}
