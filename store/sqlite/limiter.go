package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/limits"
)

// A limiter is a row of stint_limiters. Package limits decides what becomes of it.
type limiter struct {
	limits.Limiter
	dirty    bool     // it is to be stored
	settings settings // as stored
	lane     int64    // of the runs that wait for it; 0: not known; see AdmitFirst
}

// settings are the parts of a limiter that rarely change.
type settings struct {
	max       int64
	strategy  store.Strategy
	perSecond float64
	wakeAt    int64
	explicit  bool
	paused    bool
	setBy     int64
}

func (lim *limiter) currentSettings() settings {
	return settings{lim.Max, lim.Strategy, lim.Bucket.PerSecond, lim.WakeAt, lim.Explicit, lim.Paused, lim.SetBy}
}

type limiterName struct {
	rate      bool
	name, key string
}

// limiters holds the limiters as the database and the transaction have them. It is emptied when
// a transaction fails, or another process commits.
type limiters struct {
	*unit
	passive
	checked    bool // recounted since the file was opened
	deferred   bool // new runs come to their limiters in the writer's next transaction
	made       bool // the trigger exists: runs have limits, or had
	known      bool // made is right
	unadmitted bool // there may be runs that have not come to their limiters
	byName     map[limiterName]*limiter
	byID       map[int64]*limiter
	dirty      []*limiter
	lane       int64                    // of the last run that AdmitFirst admitted
	limits     map[string][]store.Limit // by their stored text
}

func newLimiters(u *unit) *limiters {
	return &limiters{unit: u, byName: map[limiterName]*limiter{}, byID: map[int64]*limiter{}, limits: map[string][]store.Limit{}}
}

const maxLimiters = 50_000 // in memory

func (lm *limiters) forget() {
	old := *lm
	*lm = *newLimiters(old.unit)
	lm.checked, lm.deferred = old.checked, old.deferred
}

func (lm *limiters) rolledBack() { lm.forget() }
func (lm *limiters) outdated()   { lm.forget() }

// LimitsTrigger is the statement that creates the trigger of a file whose runs have limits, or had. It is run with
// the first limits, so that a program without limits pays nothing.
const LimitsTrigger = `
CREATE TRIGGER IF NOT EXISTS stint_runs_transition AFTER UPDATE OF state ON stint_runs WHEN old.limits IS NOT NULL
BEGIN INSERT INTO stint_transitions (run, state, limiter, flags, lease)
  VALUES (old.id, old.state, old.limiter, old.flags, old.lease) ON CONFLICT DO NOTHING; END`

// usesLimits reports whether any run has limits, or had. Limiters do not tell: there are none while
// no run with limits is due.
func (lm *limiters) usesLimits() (bool, error) {
	if lm.known {
		return lm.made || lm.unadmitted, nil
	}
	var came bool
	err := lm.one(usesLimitsSQL, nil, &lm.made, &came)
	lm.unadmitted, lm.known = lm.unadmitted || came, err == nil
	return lm.made || lm.unadmitted, err
}

const usesLimitsSQL = `
SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'trigger' AND name = 'stint_runs_transition'),
  EXISTS (SELECT 1 FROM stint_runs WHERE ` + stateQueued + ` AND limiter <= 0)`

// storedLimits returns limits as a row stores them. It creates the trigger before any row has some.
func (lm *limiters) storedLimits(ls []store.Limit) (any, error) {
	if len(ls) == 0 {
		return nil, nil
	}
	stored := string(store.EncodeLimits(ls))
	if _, err := lm.usesLimits(); lm.made || err != nil {
		return stored, err
	}
	lm.made = true
	return stored, lm.exec(LimitsTrigger)
}

const limiterColumns = "id, rate, name, key, max, strategy, active, admitted, waiting, per_second, tokens, at, coalesce(wake_at, 0), " +
	"explicit, paused, set_by"

func (lm *limiters) readLimiter(where string, args ...any) (*limiter, error) {
	lim := &limiter{}
	var at int64
	err := lm.one("SELECT "+limiterColumns+" FROM stint_limiters WHERE "+where, args,
		&lim.ID, &lim.Rate, &lim.Name, &lim.Key, &lim.Max, &lim.Strategy, &lim.Active, &lim.Admitted, &lim.Waiting, &lim.Bucket.PerSecond,
		&lim.Bucket.Tokens, &at, &lim.WakeAt, &lim.Explicit, &lim.Paused, &lim.SetBy)
	if err != nil {
		return nil, err
	}
	lim.Bucket.At, lim.Bucket.Burst = time.UnixMicro(at), int(lim.Max)
	if lim.WakeAt == 0 {
		lim.WakeAt = never
	}
	lim.settings = lim.currentSettings()
	lm.put(lim)
	return lim, nil
}

func (lm *limiters) put(lim *limiter) {
	lm.byName[limiterName{lim.Rate, lim.Name, lim.Key}] = lim
	if lim.ID != 0 {
		lm.byID[lim.ID] = lim
	}
}

func (lm *limiters) limiterByID(id int64) (*limiter, error) {
	if lim := lm.byID[id]; lim != nil {
		return lim, nil
	}
	return lm.readLimiter("id = ?", id)
}

// limiterOf returns the limiter of a limit. It creates one with the limit's settings if there is none.
func (lm *limiters) limiterOf(l *store.Limit) (*limiter, error) {
	n := limiterName{l.Rate(), l.Name, l.Key}
	lim, err := lm.limiterNamed(n)
	if errors.Is(err, sql.ErrNoRows) {
		lim, err = lm.newLimiter(l)
	}
	return lim, err
}

const forgetMembersSQL = "DELETE FROM stint_members WHERE limiter = ?"

func (lm *limiters) limiterNamed(n limiterName) (*limiter, error) {
	if lim := lm.byName[n]; lim != nil {
		return lim, nil
	}
	return lm.readLimiter("rate = ? AND name = ? AND key = ?", n.rate, n.name, n.key)
}

func (lm *limiters) newLimiter(l *store.Limit) (*limiter, error) {
	x, err := limits.NewLimiter(l, millis(lm.now))
	if err != nil {
		return nil, err
	}
	lim := &limiter{Limiter: x}
	err = lm.one(`INSERT INTO stint_limiters (rate, name, key, max, strategy, active, admitted, waiting, per_second, tokens, at)
		VALUES (?, ?, ?, ?, ?, 0, 0, 0, ?, ?, ?) RETURNING id`,
		[]any{lim.Rate, lim.Name, lim.Key, lim.Max, int64(lim.Strategy), lim.Bucket.PerSecond, lim.Bucket.Tokens,
			lim.Bucket.At.UnixMicro()}, &lim.ID)
	if err != nil {
		return nil, err
	}
	lm.put(lim)
	lm.touch(lim) // unless something needs it, it is deleted with the transaction
	return lim, nil
}

// touch marks a limiter to be stored at the end of the transaction.
func (lm *limiters) touch(lim *limiter) {
	if !lim.dirty {
		lim.dirty = true
		lm.dirty = append(lm.dirty, lim)
	}
}

// What most changes of a limiter store: its counts, with the newest enqueue that came with settings; of a rate, what each start
// changes. One statement for each row is cheaper than one for many, which keeps tables of the values and of the rows.
const (
	countsSQL = "UPDATE stint_limiters SET active = ?2, admitted = ?3, waiting = ?4, set_by = ?5 WHERE id = ?1"
	levelSQL  = "UPDATE stint_limiters SET active = ?2, waiting = ?3, tokens = ?4, at = ?5 WHERE id = ?1"
)

func (lm *limiters) deleteLimiter(lim *limiter) error {
	delete(lm.byName, limiterName{lim.Rate, lim.Name, lim.Key})
	delete(lm.byID, lim.ID)
	return lm.exec("DELETE FROM stint_limiters WHERE id = ?", lim.ID)
}

// flush stores the limiters that changed, and deletes those that are not needed.
func (lm *limiters) flush() error {
	for _, lim := range lm.dirty {
		lim.dirty = false
		if !lim.Needed() {
			if err := lm.deleteLimiter(lim); err != nil {
				return err
			}
			if lim.Strategy == store.StrategyCancelInProgress {
				if err := lm.exec(forgetMembersSQL, lim.ID); err != nil {
					return err
				}
			}
			continue
		}
		was, now := lim.settings, lim.currentSettings()
		use := now.setBy != was.setBy
		was.setBy, lim.settings = now.setBy, now
		var err error
		switch {
		case was != now || use && lim.Rate:
			err = lm.storeLimiter(lim)
		case lim.Rate:
			err = lm.exec(levelSQL, lim.ID, lim.Active, lim.Waiting, lim.Bucket.Tokens, lim.Bucket.At.UnixMicro())
		default:
			err = lm.exec(countsSQL, lim.ID, lim.Active, lim.Admitted, lim.Waiting, lim.SetBy)
		}
		if err != nil {
			return err
		}
	}
	lm.dirty = lm.dirty[:0]
	if len(lm.byID) > maxLimiters {
		made, unadmitted := lm.made, lm.unadmitted
		lm.forget()
		lm.made, lm.known, lm.unadmitted = made, true, unadmitted
	}
	return nil
}

// storeLimiter stores a whole limiter.
func (lm *limiters) storeLimiter(lim *limiter) error {
	var wake any
	if lim.WakeAt != never {
		wake = lim.WakeAt
	}
	return lm.exec(`UPDATE stint_limiters SET max = ?2, strategy = ?3, active = ?4, admitted = ?5, waiting = ?6, per_second = ?7,
		tokens = ?8, at = ?9, wake_at = ?10, explicit = ?11, paused = ?12, set_by = ?13
		WHERE id = ?1`, lim.ID, lim.Max, int64(lim.Strategy), lim.Active, lim.Admitted, lim.Waiting, lim.Bucket.PerSecond,
		lim.Bucket.Tokens, lim.Bucket.At.UnixMicro(), wake, lim.Explicit, lim.Paused, lim.SetBy)
}

// expireRates deletes the rate limits that came with runs and have not been used for limits.RateIdle. Their
// buckets are full, so the next use finds one as it was.
func (s *Store) expireRates(ctx context.Context) error {
	for after, more := int64(0), true; more; {
		err := s.do(ctx, func(u *unit) error {
			now := millis(u.now)
			ids, err := column[int64](u, "SELECT id FROM stint_limiters WHERE id > ? AND +rate = 1 AND explicit = 0 AND paused = 0 "+
				"AND active = 0 AND waiting = 0 AND at < ? ORDER BY id LIMIT ?",
				after, now.Add(-limits.RateIdle).UnixMicro(), perBulk)
			if more = err == nil && len(ids) > 0; !more {
				return err
			}
			after = ids[len(ids)-1]
			for _, id := range ids {
				lim, err := u.limiters.limiterByID(id)
				if err != nil {
					return err
				}
				if lim.dirty || !lim.Idle(now) {
					continue
				}
				if err := u.limiters.deleteLimiter(lim); err != nil {
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
