package stint

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"strings"
	"time"

	"github.com/stint-dev/stint/internal/clock"
	"github.com/stint-dev/stint/store"
)

// runConfig is what the options of a run, over those of its task, come to.
type runConfig struct {
	priority    int
	prioritySet bool
	queue       string
	runAt       time.Time
	delay       time.Duration
	key         string
	debounce    time.Duration
	keyTTL      time.Duration
	metadata    map[string]string
	detached    bool
	parent      store.ID
	tx          store.Tx
}

// WithPriority moves a run ahead of due runs of lower priority in its queue. p is from
// -128 to 127; the default is PriorityDefault, 2. A run's effective priority rises by
// one for each minute it waits (WithPriorityAgeing).
func WithPriority(p int) Option {
	return runOption(func(c *runConfig) error {
		if p < -128 || p > 127 {
			return fmt.Errorf("stint: WithPriority(%d): want -128 to 127", p)
		}
		c.priority, c.prioritySet = p, true
		return nil
	})
}

// WithQueue puts runs into the queue of that name, which is made by its first use.
// The default is DefaultQueue.
func WithQueue(name string) Option {
	return runOption(func(c *runConfig) error {
		c.queue = name
		if err := checkName("queue name", name); err != nil {
			return errorf("stint: WithQueue: %w", err)
		}
		return nil
	})
}

// WithMetadata attaches keys and values to a run, which filters find and children
// inherit. It adds to the task's own. Keys and values are UTF-8, a
// key has at most 255 bytes, and all keys and values have at most 64 KiB together; others are
// an error.
func WithMetadata(m map[string]string) MetadataOption { return metadataOption(m) }

// A MetadataOption is an option of tasks, workflows, runs and events.
type MetadataOption interface {
	Option
	EventOption
}

type metadataOption map[string]string

func (o metadataOption) merge(into *map[string]string) error {
	if err := checkMetadata(o); err != nil {
		return errorf("stint: WithMetadata: %w", err)
	}
	merged := make(map[string]string, len(*into)+len(o))
	maps.Copy(merged, *into)
	maps.Copy(merged, o)
	*into = merged
	// The payload of the filter by which an event started the parent is bounded by itself.
	return checkSize("stint: WithMetadata: metadata", metadataSize(merged)-len(merged[store.MetaPayload])+len(o[store.MetaPayload]), maxMetadata)
}

func (o metadataOption) applyRun(c *runConfig) error           { return o.merge(&c.metadata) }
func (o metadataOption) applyTask(c *taskConfig) error         { return o.merge(&c.run.metadata) }
func (o metadataOption) applyWorkflow(c *workflowConfig) error { return o.merge(&c.task.run.metadata) }
func (o metadataOption) applyStep(*stepConfig) error           { return runOption(nil).applyStep(nil) }
func (o metadataOption) applyEvent(c *eventConfig) error       { return o.merge(&c.metadata) }

// WithRunAt sets when a run starts: at t, or at once if that has passed. A t outside of the
// years 1 to 9999 is an error of the enqueue.
func WithRunAt(t time.Time) RunOption {
	return runOnly(func(c *runConfig) error {
		c.runAt, c.delay = t, 0
		return wantTime("WithRunAt", t)
	})
}

// WithDelay has a run start after d.
func WithDelay(d time.Duration) RunOption {
	return runOnly(func(c *runConfig) error {
		if d < 0 {
			return fmt.Errorf("stint: WithDelay(%v): want 0 or more", d)
		}
		c.runAt, c.delay = time.Time{}, d
		return nil
	})
}

// WithIdempotencyKey makes a second enqueue of the task with the same key, within ttl
// of the first, return a handle to the first run, with Existing true and no error.
// With UntilDone as ttl the key is free again when that run has ended.
//
// The key holds for ttl whatever becomes of its run: a replay does not prolong it, and
// when the run is deleted, by its retention or by DeleteRuns, the handle is one to a run
// that is gone: Info and Wait are ErrNotFound.
func WithIdempotencyKey(key string, ttl time.Duration) RunOption {
	return runOnly(func(c *runConfig) error {
		c.key, c.keyTTL, c.debounce = idempotencyKey(key), ttl, 0
		if err := checkName("key", key); err != nil {
			return errorf("stint: WithIdempotencyKey: %w", err)
		}
		return checkTTL("WithIdempotencyKey", ttl)
	})
}

// WithDebounce gathers enqueues of the task with the same key into one run, with the
// input of the last: it starts once none has come for wait, or at the latest max after
// the first. The enqueues after the first return a handle to that run, with Existing
// true. Once it has started, the next enqueue begins another.
func WithDebounce(key string, wait, max time.Duration) RunOption {
	return runOnly(func(c *runConfig) error {
		if err := checkName("key", key); err != nil {
			return errorf("stint: WithDebounce: %w", err)
		}
		if wait <= 0 || max < wait {
			return fmt.Errorf("stint: WithDebounce(%q, %v, %v): want a wait of more than 0, and a max of at least that", key, wait, max)
		}
		c.key, c.keyTTL, c.debounce = debouncePrefix+key, UntilDone, max
		c.runAt, c.delay = time.Time{}, wait
		return nil
	})
}

// A task's keys are stored in one name space, in which these keep those of WithDebounce apart
// from those of idempotency.
const (
	debouncePrefix    = "debounce:"
	idempotencyPrefix = "idempotency:"
)

// idempotencyKey returns a key of idempotency as it is stored: as it is, unless it begins as a
// key does that has a prefix.
func idempotencyKey(key string) string {
	if strings.HasPrefix(key, debouncePrefix) || strings.HasPrefix(key, idempotencyPrefix) {
		return idempotencyPrefix + key
	}
	return key
}

// WithIdempotency is WithIdempotencyKey for every run of a task, with a key made of
// its input. An empty key means none.
func WithIdempotency[In any](key func(In) string, ttl time.Duration) TaskOption {
	return taskOption(func(c *taskConfig) error {
		if key == nil {
			return errors.New("stint: WithIdempotency: nil key function")
		}
		if err := wantInput[In]("WithIdempotency", c); err != nil {
			return err
		}
		c.idempotency, c.keyTTL = func(in any) string { return key(inputAs[In](in)) }, ttl
		return checkTTL("WithIdempotency", ttl)
	})
}

func checkTTL(option string, ttl time.Duration) error {
	if ttl != UntilDone && ttl <= 0 {
		return fmt.Errorf("stint: %s: ttl %v: want more than 0, or UntilDone", option, ttl)
	}
	return nil
}

// wantInput reports an option that was made for another input type than the task's.
func wantInput[In any](option string, c *taskConfig) error {
	if in := reflect.TypeFor[In](); in != c.in {
		return fmt.Errorf("stint: %s is for tasks with input %v, this one has %v", option, in, c.in)
	}
	return nil
}

// Detached lets a child outlive its parent: it is not canceled with it.
func Detached() RunOption {
	return runOnly(func(c *runConfig) error { c.detached = true; return nil })
}

// runConfig is the task's run options with those of one call applied. Inside a handler of
// the same database the run is a child, with its parent's priority and metadata unless set.
func (d *taskDef) runConfig(ctx context.Context, c *Client, opts []RunOption) (*runConfig, error) {
	rc := d.cfg.run
	if e := c.localExecution(ctx); e != nil {
		rc.parent = e.run.ID
		if !rc.prioritySet {
			rc.priority = int(e.run.Priority)
		}
		if rc.metadata == nil {
			rc.metadata = decodeMetadata(e.run.Metadata)
		}
	}
	for _, o := range opts {
		if o == nil {
			continue
		}
		if err := o.applyRun(&rc); err != nil {
			return nil, errorf("stint: enqueue %q: %w", d.name, err)
		}
	}
	return &rc, nil
}

// newRun is a run with this configuration, but for its input.
func (rc *runConfig) newRun(d *taskDef, c *Client, now time.Time) store.NewRun {
	r := store.NewRun{
		Task: d.name, Queue: rc.queue, Priority: int8(rc.priority), AgeEvery: c.cfg.ageing,
		RunAt: rc.runAt, Key: rc.key, KeyTTL: rc.keyTTL, Debounce: rc.debounce, StartIn: d.cfg.scheduleTimeout, Parent: rc.parent, Detached: rc.detached,
	}
	if rc.delay > 0 {
		r.RunAt = clock.Add(now, rc.delay)
	}
	if d.workflow != nil { // the timeout is of the whole run
		r.StartIn = d.cfg.timeout
	}
	if len(rc.metadata) > 0 {
		r.Metadata, _ = json.Marshal(rc.metadata) // strings always encode
	}
	return r
}

func decodeMetadata(b []byte) map[string]string {
	if b == nil {
		return nil
	}
	var m map[string]string
	json.Unmarshal(b, &m) // what a person broke by hand counts as none
	return m
}
