package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/stint-dev/stint/store"
)

// A run with limits passes a gate for each before it is ready; until it has passed all
// of them at once it is queued, but waits at one, out of the sight of claims. What a
// run holds follows from its state: it has passed when it is ready, holds its share of
// a concurrency limit until it has left the states queued, running and waiting, and
// takes a rate's units when it starts. So one place, reconcile, compares the state that
// a run had with the one it has, whatever changed it.
type gate struct {
	id       int64
	rate     bool
	name     string
	key      string
	strategy store.Strategy
	max      int64 // of a rate: the bucket's Burst says it
	active   int64
	heads    int64 // of concurrency: runs that are ready, or wait at a later gate
	parked   int64
	bucket   store.Bucket
	wakeAt   int64 // never: not by time
	fixed    bool
	paused   bool
	dirty    bool
	figures  figures // as they are stored
	setBy    int64   // the enqueue that set max, strategy and the rate: its key
	open     bool    // it may let runs pass that wait
	lowered  bool    // more may have passed than it allows by now
	lane     int64   // where a run waits at it; 0: not known. See passAlone
}

// Figures are what of a gate changes seldom.
type figures struct {
	max       int64
	strategy  store.Strategy
	perSecond float64
	wakeAt    int64
	fixed     bool
	paused    bool
	setBy     int64
}

func (g *gate) figuresNow() figures {
	return figures{g.max, g.strategy, g.bucket.PerSecond, g.wakeAt, g.fixed, g.paused, g.setBy}
}

type gateName struct {
	rate      bool
	name, key string
}

// A gateCache holds gates as they are in the database, and as the transaction changes
// them. It is forgotten when a transaction fails, or another process commits.
type gateCache struct {
	made      bool // the trigger is there: runs ask for gates, or did once
	known     bool // that made is right
	newcomers bool // there may be runs that were not led to their gates
	byName    map[gateName]*gate
	byID      map[int64]*gate
	dirty     []*gate
	lane      int64                    // that the last run was in which passed alone
	limits    map[string][]store.Limit // by their text
}

func newGateCache() *gateCache {
	return &gateCache{byName: map[gateName]*gate{}, byID: map[int64]*gate{}, limits: map[string][]store.Limit{}}
}

const maxGates = 50_000 // kept in memory

func (c *gateCache) forget() {
	*c = *newGateCache()
}

// makeTriggerSQL is run with the first limits, so that who uses none pays nothing.
const makeTriggerSQL = `
CREATE TRIGGER IF NOT EXISTS stint_runs_moved AFTER UPDATE OF state ON stint_runs WHEN old.limits IS NOT NULL
BEGIN INSERT OR IGNORE INTO stint_moves (run, state, gate, flags, lease) VALUES (old.id, old.state, old.gate, old.flags, old.lease); END`

// gated reports whether any run has limits, or had. Gates say less: there are none while
// all runs that will ask for them are not due yet.
func (t *txn) gated() (bool, error) {
	c := t.gates
	if c.known {
		return c.made || c.newcomers, nil
	}
	var came bool
	err := t.one(gatedSQL, nil, &c.made, &came)
	c.newcomers, c.known = c.newcomers || came, err == nil
	return c.made || c.newcomers, err
}

const gatedSQL = `
SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'trigger' AND name = 'stint_runs_moved'),
  EXISTS (SELECT 1 FROM stint_runs WHERE state = 3 AND gate <= 0)`

// storedLimits is how a row keeps limits. The trigger is there before any row has some.
func (t *txn) storedLimits(ls []store.Limit) (any, error) {
	if len(ls) == 0 {
		return nil, nil
	}
	limits := text(store.EncodeLimits(ls))
	if _, err := t.gated(); t.gates.made || err != nil {
		return limits, err
	}
	t.gates.made = true
	return limits, t.exec(makeTriggerSQL)
}

const gateColumns = "id, rate, name, key, max, strategy, active, heads, parked, per_second, tokens, at, coalesce(wake_at, 0), fixed, paused, set_by"

func (t *txn) readGate(where string, args ...any) (*gate, error) {
	g := &gate{}
	var at int64
	err := t.one("SELECT "+gateColumns+" FROM stint_gates WHERE "+where, args,
		&g.id, &g.rate, &g.name, &g.key, &g.max, &g.strategy, &g.active, &g.heads, &g.parked, &g.bucket.PerSecond, &g.bucket.Tokens, &at, &g.wakeAt, &g.fixed, &g.paused, &g.setBy)
	if err != nil {
		return nil, err
	}
	g.bucket.At, g.bucket.Burst = time.UnixMicro(at), int(g.max)
	if g.wakeAt == 0 {
		g.wakeAt = never
	}
	g.figures = g.figuresNow()
	t.gates.put(g)
	return g, nil
}

func (c *gateCache) put(g *gate) {
	c.byName[gateName{g.rate, g.name, g.key}] = g
	if g.id != 0 {
		c.byID[g.id] = g
	}
}

func (t *txn) gateByID(id int64) (*gate, error) {
	if g := t.gates.byID[id]; g != nil {
		return g, nil
	}
	return t.readGate("id = ?", id)
}

// gateOf finds the gate of a limit, or makes it, with the limit's figures.
func (t *txn) gateOf(l *store.Limit) (*gate, error) {
	n := gateName{l.Rate(), l.Name, l.Key}
	g, err := t.gateNamed(n)
	if errors.Is(err, sql.ErrNoRows) {
		g, err = t.newGate(n, l)
	}
	return g, err
}

// useGate returns the gate of a limit that a run comes to, or wants to pass. The gate has the
// run's figures from then on, unless it has those of a later enqueue: a run that waited, or makes
// its next attempt, never brings old ones back. A gate that PauseLimit made has none until then.
// used is the key of the run's enqueue.
func (t *txn) useGate(l *store.Limit, used int64) (*gate, error) {
	g, err := t.gateOf(l)
	if used = max(used, l.Used); err != nil || used < g.setBy || g.fixed || g.rate && l.Burst == 0 {
		return g, err
	}
	if g.setBy != used {
		g.setBy = used
		t.touch(g)
	}
	switch {
	case g.rate && (g.bucket.PerSecond != l.PerSecond || g.bucket.Burst != l.Burst):
		g.setRate(millis(t.now), l.PerSecond, l.Burst)
		t.touch(g)
	case !g.rate && (g.max != int64(l.Max) || g.strategy != l.Strategy):
		if g.strategy == store.StrategyCancelInProgress && l.Strategy != g.strategy {
			err = t.exec(forgetMembersSQL, g.id)
		}
		g.max, g.strategy = int64(l.Max), l.Strategy
		g.open, g.lowered = true, true
		t.touch(g)
	}
	return g, err
}

const forgetMembersSQL = "DELETE FROM stint_members WHERE gate = ?"

func (t *txn) gateNamed(n gateName) (*gate, error) {
	if g := t.gates.byName[n]; g != nil {
		return g, nil
	}
	return t.readGate("rate = ? AND name = ? AND key = ?", n.rate, n.name, n.key)
}

// setRate changes the figures, and keeps the tokens that there are by now.
func (g *gate) setRate(now time.Time, perSecond float64, burst int) {
	g.bucket.Fill(now)
	g.bucket.PerSecond, g.bucket.Burst, g.max = perSecond, burst, int64(burst)
	g.bucket.Fill(now)
	g.open, g.lowered = true, true
}

func (t *txn) newGate(n gateName, l *store.Limit) (*gate, error) {
	if n.rate && l.Burst == 0 {
		return nil, fmt.Errorf("rate limit %q: %w: set it with SetRateLimit, or give its figures", l.Key, store.ErrNotFound)
	}
	g := &gate{rate: n.rate, name: n.name, key: n.key, strategy: l.Strategy, max: int64(l.Max), wakeAt: never}
	g.bucket.At = millis(t.now)
	if n.rate {
		g.max = int64(l.Burst)
		g.bucket.PerSecond, g.bucket.Burst, g.bucket.Tokens = l.PerSecond, l.Burst, float64(l.Burst)
	}
	err := t.one(`INSERT INTO stint_gates (rate, name, key, max, strategy, active, heads, parked, per_second, tokens, at)
		VALUES (?, ?, ?, ?, ?, 0, 0, 0, ?, ?, ?) RETURNING id`,
		[]any{g.rate, g.name, g.key, g.max, int64(g.strategy), g.bucket.PerSecond, g.bucket.Tokens, g.bucket.At.UnixMicro()}, &g.id)
	if err != nil {
		return nil, err
	}
	t.gates.put(g)
	t.touch(g) // it goes with the transaction, unless somebody needs it
	return g, nil
}

// touch has the gate stored at the end of the transaction.
func (t *txn) touch(g *gate) {
	if !g.dirty {
		g.dirty = true
		t.gates.dirty = append(t.gates.dirty, g)
	}
}

// countsSQL store the counts of so many gates at a time, setBySQL also who set their figures.
var (
	countsSQL = gatesSQL("id", "active", "heads", "parked")
	setBySQL  = gatesSQL("id", "active", "heads", "parked", "set_by")
)

func gatesSQL(columns ...string) (texts [len(bulkSizes)]string) {
	var set []string
	for _, c := range columns[1:] {
		set = append(set, c+" = v."+c)
	}
	row := "(?" + strings.Repeat(",?", len(columns)-1) + ")"
	for i, n := range bulkSizes {
		texts[i] = "WITH v (" + strings.Join(columns, ", ") + ") AS (VALUES " + row + strings.Repeat(","+row, n-1) + ") " +
			"UPDATE stint_gates SET " + strings.Join(set, ", ") + " FROM v WHERE stint_gates.id = v.id"
	}
	return texts
}

// closeGates is the end of a transaction at the gates.
func (t *txn) closeGates() error {
	if err := t.follow(); err != nil {
		return err
	}
	return t.flushGates()
}

// needed reports whether a gate must stay though nobody stands at it: those of rates
// have a level.
func (g *gate) needed() bool {
	return g.rate || g.paused || g.active > 0 || g.parked > 0 || g.heads > 0
}

// flushGates stores what changed. A gate that nobody needs goes.
func (t *txn) flushGates() error {
	c := t.gates
	var counts, setBy []any
	for _, g := range c.dirty {
		g.dirty = false
		if !g.needed() {
			delete(c.byName, gateName{g.rate, g.name, g.key})
			delete(c.byID, g.id)
			if err := t.exec("DELETE FROM stint_gates WHERE id = ?", g.id); err != nil {
				return err
			}
			if g.strategy == store.StrategyCancelInProgress {
				if err := t.exec(forgetMembersSQL, g.id); err != nil {
					return err
				}
			}
			continue
		}
		was, now := g.figures, g.figuresNow()
		use := now.setBy != was.setBy
		was.setBy, g.figures = now.setBy, now
		switch {
		case was != now || use && g.rate:
			if err := t.storeGate(g); err != nil {
				return err
			}
		case g.rate:
			if err := t.exec(levelSQL, g.id, g.active, g.parked, g.bucket.Tokens, g.bucket.At.UnixMicro()); err != nil {
				return err
			}
		case use:
			setBy = append(setBy, g.id, g.active, g.heads, g.parked, g.setBy)
		default:
			counts = append(counts, g.id, g.active, g.heads, g.parked)
		}
	}
	c.dirty = c.dirty[:0]
	if err := t.insertAll(&countsSQL, 4, counts); err != nil {
		return err
	}
	if err := t.insertAll(&setBySQL, 5, setBy); err != nil {
		return err
	}
	if len(c.byID) > maxGates {
		made, newcomers := c.made, c.newcomers
		c.forget()
		c.made, c.known, c.newcomers = made, true, newcomers
	}
	return nil
}

// levelSQL stores what changes of a rate at each start.
const levelSQL = "UPDATE stint_gates SET active = ?2, parked = ?3, tokens = ?4, at = ?5 WHERE id = ?1"

// storeGate stores all of a gate.
func (t *txn) storeGate(g *gate) error {
	var wake any
	if g.wakeAt != never {
		wake = g.wakeAt
	}
	return t.exec(`UPDATE stint_gates SET max = ?2, strategy = ?3, active = ?4, heads = ?5, parked = ?6, per_second = ?7, tokens = ?8, at = ?9, wake_at = ?10, fixed = ?11, paused = ?12, set_by = ?13
		WHERE id = ?1`, g.id, g.max, int64(g.strategy), g.active, g.heads, g.parked, g.bucket.PerSecond, g.bucket.Tokens, g.bucket.At.UnixMicro(), wake, g.fixed, g.paused, g.setBy)
}

// SetRate implements store.Admin.
func (s *Store) SetRate(ctx context.Context, now time.Time, key string, perSecond float64, burst int) error {
	return s.do(ctx, func(t *txn) error {
		g, err := t.gateOf(&store.Limit{Key: key, Units: 1, PerSecond: perSecond, Burst: burst})
		if err != nil {
			return err
		}
		g.fixed = true
		g.setRate(now, perSecond, burst)
		t.touch(g)
		return nil
	})
}

// PauseLimit implements store.Admin.
func (s *Store) PauseLimit(ctx context.Context, _ time.Time, k store.LimitKey, paused bool) error {
	return s.do(ctx, func(t *txn) error {
		g, err := t.gateNamed(gateName{k.Rate(), k.Name, k.Key})
		if errors.Is(err, sql.ErrNoRows) {
			switch {
			case k.Rate():
				return fmt.Errorf("rate limit %q: %w", k.Key, store.ErrNotFound)
			case !paused:
				return nil
			}
			g, err = t.newGate(gateName{false, k.Name, k.Key}, &store.Limit{Name: k.Name, Key: k.Key, Strategy: store.StrategyQueue}) // who uses it first says more
		}
		if err != nil {
			return err
		}
		g.paused, g.open = paused, true
		t.touch(g)
		return nil
	})
}

// Limits implements store.Admin.
func (s *Store) Limits(ctx context.Context, rates bool) (all []store.LimitInfo, err error) {
	err = s.view(ctx, func(q querier) (err error) {
		all, err = gateInfos(q, "rate = ? ORDER BY rate, name, key LIMIT ?", rates, store.MaxLimits)
		return err
	})
	return all, err
}

// gateInfos reads gates as they stand now.
func gateInfos(q querier, where string, args ...any) ([]store.LimitInfo, error) {
	type row struct {
		store.LimitInfo
		rate     bool
		max      int
		at, wake int64
	}
	rows, err := rowsOf(q, func(r *row) []any {
		return []any{&r.rate, &r.Name, &r.Key, &r.max, &r.Strategy, &r.Active, &r.Waiting, &r.PerSecond, &r.Tokens, &r.at, &r.wake, &r.Paused}
	}, "SELECT rate, name, key, max, strategy, active, parked, per_second, tokens, at, coalesce(wake_at, 0), paused FROM stint_gates WHERE "+where, args...)
	infos := make([]store.LimitInfo, len(rows))
	for i, r := range rows {
		if infos[i] = r.LimitInfo; !r.rate {
			infos[i].Max = r.max
			continue
		}
		b := store.Bucket{PerSecond: r.PerSecond, Burst: r.max, Tokens: r.Tokens, At: time.UnixMicro(r.at)}
		b.Fill(time.Now())
		infos[i].Units, infos[i].Burst, infos[i].Tokens = 1, r.max, b.Tokens
		if r.wake > 0 {
			infos[i].ReadyAt = millis(r.wake)
		}
	}
	return infos, err
}

// rateIdle is how long a rate limit that nobody set by itself is kept unused.
const rateIdle = time.Hour

// expireRates removes the rate limits that came with runs and have not been used for
// long. Their buckets are full, so who uses one again finds it as it was.
func (s *Store) expireRates(ctx context.Context) error {
	for after, more := int64(0), true; more; {
		err := s.do(ctx, func(t *txn) error {
			now := millis(t.now)
			ids, err := column[int64](t, "SELECT id FROM stint_gates WHERE id > ? AND +rate = 1 AND fixed = 0 AND paused = 0 AND active = 0 AND parked = 0 AND at < ? ORDER BY id LIMIT ?",
				after, now.Add(-rateIdle).UnixMicro(), perBulk)
			if more = err == nil && len(ids) > 0; !more {
				return err
			}
			after = ids[len(ids)-1]
			for _, id := range ids {
				g, err := t.gateByID(id)
				if err != nil {
					return err
				}
				b := g.bucket
				b.Fill(now)
				if g.dirty || g.active > 0 || g.parked > 0 || now.Sub(g.bucket.At) < rateIdle || b.Tokens < float64(b.Burst) {
					continue
				}
				delete(t.gates.byName, gateName{g.rate, g.name, g.key})
				delete(t.gates.byID, id)
				if err := t.exec("DELETE FROM stint_gates WHERE id = ?", id); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}
