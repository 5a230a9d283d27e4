package store

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/robfig/cron/v3"
)

// A Template is the run that a cron or a trigger enqueues each time.
type Template struct {
	// Run is the run to enqueue. It has no RunAt, and no Input if the template is a trigger's.
	Run NewRun
	// Via, if not empty, is a task of the engine. If a trigger starts the run and NewEvent.Runs does not have its limits and
	// its key, a run of Via is enqueued in its place, with the same input. That one enqueues the run.
	Via string
	// Exprs compute the limits and the key, if the run is one of a definition with that Version. nil: it is not.
	Exprs   *Exprs `json:",omitempty"`
	Version string `json:",omitempty"`
}

// A CatchUp says which missed ticks of a cron start a run. The numbers are stored.
type CatchUp uint8

// The policies for missed ticks.
const (
	CatchUpGrace  CatchUp = iota // the newest missed tick, if it is at most CatchUpGraceTime old
	CatchUpNone                  // none
	CatchUpLatest                // the newest missed tick, however old it is
	CatchUpAll                   // each missed tick
)

const (
	// CatchUpGraceTime is the age up to which CatchUpGrace starts a run for a missed tick.
	CatchUpGraceTime = time.Minute
	// OnTime is how late a tick may be without counting as missed.
	OnTime = time.Second
)

// A Cron enqueues a run of its template at each tick of its spec.
type Cron struct {
	Name     string // unique in the database
	Spec     string
	CatchUp  CatchUp
	Template Template
	Declared bool // it is defined in code: Declare removes it if it is not any more

	// Set by the store.
	Paused  bool
	Next    time.Time // zero: it is paused
	Last    time.Time // the last tick that started a run; zero: none yet
	LastRun ID
	Error   string // why the last tick started no run
}

// Size returns the bytes of payloads and texts that count for MaxPageBytes.
func (c *Cron) Size() int {
	return len(c.Name) + len(c.Spec) + len(c.Error) + len(c.Template.Run.Input)
}

// An EventFilter selects the events that match all its fields. A zero field matches every event.
type EventFilter struct {
	IDs      []ID
	Keys     []string
	Metadata map[string]string // each key has this value
	Since    time.Time         // published at or after
	Until    time.Time         // published before
}

// An EventInfo is an event, and the runs that it concerned.
type EventInfo struct {
	NewEvent
	ID      ID
	At      time.Time
	Started []ID // runs that it started, up to MaxEventRuns
	Woke    []ID // runs that waited for it, up to MaxEventRuns
}

// MaxEventRuns is the highest number of runs in each list of an EventInfo.
const MaxEventRuns = 1000

var (
	// ErrTaken reports that something else has the name.
	ErrTaken = errors.New("the name is taken")
	// ErrStarted reports that the run is not scheduled any more.
	ErrStarted = errors.New("the run is not scheduled any more")
)

var (
	cronParser = cron.NewParser(cron.SecondOptional | cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow | cron.Descriptor)
	schedules  sync.Map // spec → cron.Schedule; bounded by the crons of the program
)

// ParseCron checks a spec: five fields, six with seconds, or a descriptor such as "@daily" or
// "@every 90s", after an optional CRON_TZ=zone. The default is the process's local time. A spec
// that never ticks, such as 30 February, is an error.
func ParseCron(spec string) (err error) {
	s, err := schedule(spec)
	if every, ok := strings.CutPrefix(spec, "@every "); ok && err == nil {
		if d, _ := time.ParseDuration(every); d%time.Second != 0 {
			err = fmt.Errorf("every %v: want whole seconds", d)
		}
	}
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
		if strings.Contains(err.Error(), "above maximum (6)") { // of the fields, only the day of the week has that
			err = fmt.Errorf("%w: a day of the week is 0 (Sunday) to 6, or SUN to SAT", err)
		}
		return nil, err
	}
	if fields, ok := s.(*cron.SpecSchedule); ok {
		s = &calendar{SpecSchedule: *fields, fixed: isFixed(spec)}
	}
	schedules.Store(spec, s)
	return s, nil
}

// NextTick returns the first tick of a spec after a time, or the zero time if there is none. It
// skips local times that do not exist. If a local time occurs twice, a spec that names its hour
// and minute ticks at the first.
func NextTick(spec string, after time.Time) (time.Time, error) {
	s, err := schedule(spec)
	if err != nil {
		return time.Time{}, fmt.Errorf("cron spec %q: %w", spec, err)
	}
	return s.Next(after.In(time.Local)), nil
}

// Due returns the ticks from next on that start a run now, and the tick after them. With
// CatchUpAll they are the first most of them.
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

// lastTick returns the newest tick not after now, of those from next on. It searches back from
// now in growing steps, so that a long absence does not cost a step a tick.
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
