package store

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/robfig/cron/v3"
)

// A Template is a run that a cron or a trigger makes, again and again.
type Template struct {
	// Run has no RunAt; of a trigger, no Input.
	Run NewRun
	// Via, if not empty, is the task that is enqueued instead by who cannot tell the
	// limits and the key of a run with that input: it enqueues the run.
	Via string
}

// A CatchUp says what becomes of the ticks of a cron that were missed. The numbers are stored.
type CatchUp uint8

// The policies for missed ticks.
const (
	CatchUpGrace  CatchUp = iota // the newest, if it is younger than the grace
	CatchUpNone                  // none
	CatchUpLatest                // the newest, however old
	CatchUpAll                   // each
)

const (
	// CatchUpGraceTime is how old a missed tick may be with CatchUpGrace.
	CatchUpGraceTime = time.Minute
	// OnTime is how late a tick may be and is not counted as missed.
	OnTime = time.Second
)

// A Cron makes a run of its template at each tick of its spec.
type Cron struct {
	Name     string // of one in the whole database
	Spec     string
	CatchUp  CatchUp
	Template Template
	Declared bool // it stands in code: Declare removes it when that lacks it

	// Given by the store.
	Paused  bool
	Next    time.Time // zero: while it is paused
	Last    time.Time // the tick that last made a run; zero: none yet
	LastRun ID
	Error   string // why the last tick made no run
}

// Size returns how many bytes of payloads and texts the cron has, for MaxPageBytes.
func (c *Cron) Size() int {
	return len(c.Name) + len(c.Spec) + len(c.Error) + len(c.Template.Run.Input)
}

// A CronChange is what ChangeCron does.
type CronChange uint8

// The changes of a cron.
const (
	CronPause CronChange = iota + 1
	CronResume
	CronDelete
)

// Schedules makes runs by time and by event.
type Schedules interface {
	// Declare has the crons and triggers of the tasks be those declared, and no others,
	// save crons that SetCron made. What did not change goes on as it was.
	//
	// What a program has declared goes when a worker of the same Program registers that
	// does not define its task, and no living worker has that. Declared again it goes on as
	// it was, and what it missed is made up for: ticks as its CatchUp says, events of the
	// last CatchUpGraceTime.
	Declare(ctx context.Context, now time.Time, ds []Declaration) error
	// SetCron makes a cron, or replaces the one of that name and task. It is ErrTaken if
	// a declared cron that has not gone, or one of another task has the name. Its first tick is after now;
	// replaced with the same spec it goes on as it was.
	SetCron(ctx context.Context, now time.Time, c Cron) error
	// ChangeCron pauses, resumes or deletes a cron. Ticks while it is paused are not
	// made up for. It is ErrNotFound if there is none of the name, and ErrTaken for
	// deleting one that is declared and whose task a living worker has.
	ChangeCron(ctx context.Context, now time.Time, name string, change CronChange) error
	// TriggerCron makes a run of a cron now, besides its ticks.
	TriggerCron(ctx context.Context, now time.Time, name string) (ID, error)
	// Crons lists up to limit crons by name, after one, fewer where they would pass MaxPageBytes,
	// but one at least. more reports whether there are others.
	Crons(ctx context.Context, after string, limit int) (crons []Cron, more bool, err error)
	// SetFilter adds a filter, and returns its number.
	SetFilter(ctx context.Context, f TaskFilter) (int64, error)
	// DeleteFilter removes a filter, or is ErrNotFound.
	DeleteFilter(ctx context.Context, id int64) error
	// Filters lists up to limit filters of a task, or with "" of all tasks, oldest first, after
	// the one of that number, fewer where they would pass MaxPageBytes, but one at least. more
	// reports whether there are others.
	Filters(ctx context.Context, task string, after int64, limit int) (filters []TaskFilter, more bool, err error)
	// Events lists up to limit events with a key ("" any), newest first, from after
	// before (zero: the newest). next is where to go on, or zero if there is nothing more. A
	// page whose Size would pass MaxPageBytes ends earlier; it has one event at least.
	Events(ctx context.Context, key string, before ID, limit int) (events []EventInfo, next ID, err error)
	// Reschedule moves a run that has not started to another time. It is ErrNotFound if
	// there is none, and ErrStarted if it is not scheduled any more.
	Reschedule(ctx context.Context, now time.Time, id ID, at time.Time) error
}

// An EventInfo is an event, and what it did.
type EventInfo struct {
	NewEvent
	ID      ID
	At      time.Time
	Started []ID // runs that it started, up to MaxEventRuns
	Woke    []ID // runs that waited for it, up to MaxEventRuns
}

// MaxEventRuns is how many runs that an event started or woke are listed.
const MaxEventRuns = 1000

var (
	// ErrTaken reports a name that something else has.
	ErrTaken = errors.New("the name is taken")
	// ErrStarted reports a run that is not scheduled any more.
	ErrStarted = errors.New("the run is not scheduled any more")
)

var (
	cronParser = cron.NewParser(cron.SecondOptional | cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow | cron.Descriptor)
	schedules  sync.Map // spec → cron.Schedule; bounded by the crons of the program
)

// ParseCron checks a spec: five fields, six with seconds, or a descriptor such as
// "@daily" or "@every 90s", after an optional CRON_TZ=zone. Without one, it is of the
// process's local time. One that never comes, as of 30 February, is an error.
func ParseCron(spec string) (err error) {
	s, err := schedule(spec)
	if err == nil && s.Next(time.Now()).IsZero() {
		err = errors.New("it never comes")
	}
	if err != nil {
		return fmt.Errorf("cron spec %q: %w", spec, err)
	}
	return nil
}

func schedule(spec string) (s cron.Schedule, err error) {
	if s, ok := schedules.Load(spec); ok {
		return s.(cron.Schedule), nil
	}
	defer func() { // the parser slices a zone without a field after it
		if v := recover(); v != nil {
			err = fmt.Errorf("%v", v)
		}
	}()
	if d, ok := strings.CutPrefix(spec, "@every "); ok {
		if every, err := time.ParseDuration(d); err == nil && every < time.Second {
			return nil, fmt.Errorf("every %v: want a second or more", every)
		}
	}
	if s, err = cronParser.Parse(spec); err != nil {
		return nil, err
	}
	if fields, ok := s.(*cron.SpecSchedule); ok {
		s = &calendar{SpecSchedule: *fields, fixed: isFixed(spec)}
	}
	schedules.Store(spec, s)
	return s, nil
}

// NextTick is the first tick of a spec after a time; the zero time: never. Times on the wall that
// do not exist are passed over; of one that comes twice, a spec that gives hour and minute has the first.
func NextTick(spec string, after time.Time) (time.Time, error) {
	s, err := schedule(spec)
	if err != nil {
		return time.Time{}, fmt.Errorf("cron spec %q: %w", spec, err)
	}
	return s.Next(after.In(time.Local)), nil
}

// Due says which ticks of a cron make a run at a time, of those from next on, and when
// it ticks next. Of CatchUpAll they are the first most of them.
func (c *Cron) Due(next, now time.Time, most int) (ticks []time.Time, then time.Time, err error) {
	if c.CatchUp == CatchUpAll {
		for then = next; !then.IsZero() && !then.After(now) && len(ticks) < most; {
			ticks = append(ticks, then)
			if then, err = NextTick(c.Spec, then); err != nil {
				return nil, then, err
			}
		}
		return ticks, then, nil
	}
	last, err := lastTick(c.Spec, next, now)
	if err != nil {
		return nil, then, err
	}
	late := now.Sub(last)
	if c.CatchUp == CatchUpLatest || late <= OnTime || c.CatchUp == CatchUpGrace && late <= CatchUpGraceTime {
		ticks = []time.Time{last}
	}
	then, err = NextTick(c.Spec, last)
	return ticks, then, err
}

// lastTick is the newest tick not after now, of those from next on. It looks back from
// now, further and further, so that a long absence is not walked through tick by tick.
func lastTick(spec string, next, now time.Time) (time.Time, error) {
	if strings.Contains(spec, "@every") { // counts from the tick before
		then, err := NextTick(spec, next)
		if every := then.Sub(next); err == nil && every > 0 {
			next = next.Add(now.Sub(next) / every * every)
		}
		return next, err
	}
	last := next
	for back := time.Minute; back > 0 && now.Add(-back).After(next); back *= 4 { // to 0 after a century
		t, err := NextTick(spec, now.Add(-back))
		if err != nil {
			return last, err
		}
		if !t.IsZero() && !t.After(now) {
			last = t
			break
		}
	}
	for {
		t, err := NextTick(spec, last)
		if err != nil || t.IsZero() || t.After(now) {
			return last, err
		}
		last = t
	}
}
