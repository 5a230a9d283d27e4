// Package alert notifies people when runs fail: when a rule begins to fire, then in digests while
// it fires, and once more when it has recovered.
//
//	alerts, err := alert.New(client, alert.Config{
//		Rules: []alert.Rule{{Name: "payments fail", Task: "charge", Count: 3, Window: 10 * time.Minute}},
//		Sinks: []alert.Sink{alert.Slack("ops", os.Getenv("SLACK_WEBHOOK"))},
//	})
//	go alerts.Run(ctx)
//
// Each notice to a sink is a run in a queue of its own, so it is retried, also after a restart,
// and a slow sink delays nothing else.
package alert

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/internal/guard"
	"github.com/stint-dev/stint/internal/pause"
)

// A Rule fires when at least Count runs ended in a state within a window of time.
type Rule struct {
	Name string // unique, at most 200 bytes
	Task string // the task whose runs count; "": all tasks but the deliveries of alerts
	// State is the state that counts: StateFailed (the default), StateCanceled or StateSkipped.
	State stint.State
	Count int64 // runs in State within Window; default 1
	// Rate is the least share, 0 to 1, of State among the runs that ended within Window. Both Count
	// and Rate must be reached. The default is 0: any share.
	Rate   float64
	Window time.Duration // whole minutes, the current one included; 1 minute to 1 day; default 5 minutes
	Sinks  []string      // names of the sinks that are notified; nil: all
}

// Config configures New.
type Config struct {
	Rules  []Rule
	Sinks  []Sink
	Digest time.Duration // time between notices while a rule fires; default 1 hour
	Link   string        // URL of the web page, for links in notices: https://app.example.org/stint
	// Redact returns the text to show as the error of a run; nil shows the error as it is. It is
	// called before a notice is stored, possibly from several goroutines. If it panics, notices
	// say so in place of the error.
	Redact func(Failure) string
}

// Alerts evaluates rules and sends notices. New makes one.
type Alerts struct {
	c       *stint.Client
	cfg     Config
	deliver *stint.Task[delivery, string]
	sinks   map[string]Sink
}

type delivery struct {
	Sink   string `json:"sink"`
	Notice Notice `json:"notice"`
}

// A delivery of a notice to a sink is a run of the task named Task, in the queue named Queue.
const (
	Task  = "stint-alert"
	Queue = "stint-alerts"
)

const (
	minInterval   = time.Second      // between two evaluations, at least
	maxInterval   = 10 * time.Second // and at most
	defaultWindow = 5 * time.Minute
	maxNewest     = 5
	maxRetries    = 12
	maxBackoff    = 30 * time.Minute // between tries
	sendTimeout   = 30 * time.Second
	maxPerSink    = 2 // deliveries at a time
)

// New returns alerts on a client and defines their task. It may be called once for a client. The
// error says which rule, sink or setting is invalid.
func New(c *stint.Client, cfg Config) (*Alerts, error) {
	a := &Alerts{c: c, cfg: cfg, sinks: map[string]Sink{}}
	if a.cfg.Digest == 0 {
		a.cfg.Digest = time.Hour
	}
	if a.cfg.Digest < 0 {
		return nil, fmt.Errorf("alert: digest %v: want 0, for an hour, or more", a.cfg.Digest)
	}
	for _, s := range cfg.Sinks {
		if a.sinks[s.Name] != (Sink{}) || s.Name == "" || s.send == nil {
			return nil, fmt.Errorf("alert: sink %q: want a name of its own, and one of this package's sinks", s.Name)
		}
		if err := checkName(s.Name); err != nil {
			return nil, fmt.Errorf("alert: sink %q: %w", s.Name, err)
		}
		a.sinks[s.Name] = s
	}
	a.cfg.Rules = slices.Clone(cfg.Rules)
	names := map[string]bool{}
	for i := range a.cfg.Rules {
		r := &a.cfg.Rules[i]
		if err := r.setDefaults(a.sinks); err != nil {
			return nil, err
		}
		if names[r.Name] {
			return nil, fmt.Errorf("alert: two rules %q", r.Name)
		}
		names[r.Name] = true
	}
	a.deliver = stint.NewTask(c, Task, a.send, stint.WithQueue(Queue),
		stint.WithRetries(maxRetries), stint.WithRetryBackoff(2, maxBackoff), stint.WithTimeout(sendTimeout),
		stint.WithConcurrency(stint.Concurrency[delivery]{Key: func(d delivery) string { return d.Sink }, Max: maxPerSink}))
	return a, nil
}

// maxName bounds the name of a rule or a sink, in bytes.
const maxName = 200

func checkName(name string) error {
	if len(name) > maxName || !utf8.ValidString(name) {
		return fmt.Errorf("want a name of at most %d bytes of UTF-8", maxName)
	}
	return nil
}

func (r *Rule) setDefaults(sinks map[string]Sink) error {
	if r.State == 0 {
		r.State = stint.StateFailed
	}
	r.Count = max(r.Count, 1)
	if r.Window == 0 {
		r.Window = defaultWindow
	}
	switch {
	case r.Name == "":
		return errors.New("alert: a rule has no name")
	case r.State != stint.StateFailed && r.State != stint.StateCanceled && r.State != stint.StateSkipped:
		return fmt.Errorf("alert: rule %q: state %v: want one in which runs end", r.Name, r.State)
	case !(r.Rate >= 0 && r.Rate <= 1): // also NaN
		return fmt.Errorf("alert: rule %q: rate %v: want 0 to 1", r.Name, r.Rate)
	case r.Window < time.Minute || r.Window > 24*time.Hour:
		return fmt.Errorf("alert: rule %q: window %v: want a minute to a day", r.Name, r.Window)
	}
	if err := checkName(r.Name); err != nil {
		return fmt.Errorf("alert: rule %q: %w", r.Name, err)
	}
	for _, s := range r.Sinks {
		if sinks[s] == (Sink{}) {
			return fmt.Errorf("alert: rule %q: there is no sink %q", r.Name, s)
		}
	}
	return nil
}

// A RuleStatus is a rule and its state.
type RuleStatus struct {
	Rule
	Kind  string    // of the last notice; "": none was sent
	Since time.Time // when the rule last began to fire
	Sent  time.Time // when the last notice was enqueued
}

// Firing reports whether the rule's condition is met at present.
func (s *RuleStatus) Firing() bool { return s.Kind == Firing || s.Kind == Digest }

// Holds reports what Firing does.
//
// Deprecated: use Firing.
func (s *RuleStatus) Holds() bool { return s.Firing() }

// Deprecated: use RuleStatus.
type Standing = RuleStatus

// Statuses returns the state of each rule, in the order of Config.Rules.
func (a *Alerts) Statuses(ctx context.Context) (all []RuleStatus, err error) {
	for i := range a.cfg.Rules {
		s, err := a.ruleState(ctx, &a.cfg.Rules[i])
		if err != nil {
			return nil, err
		}
		all = append(all, RuleStatus{a.cfg.Rules[i], s.Kind, s.Since, s.Sent})
	}
	return all, nil
}

// Standings returns what Statuses does.
//
// Deprecated: use Statuses.
func (a *Alerts) Standings(ctx context.Context) ([]Standing, error) { return a.Statuses(ctx) }

// Sinks returns the sinks of the Config.
func (a *Alerts) Sinks() []Sink { return a.cfg.Sinks }

// Run evaluates the rules and delivers notices until ctx ends. Several processes may run it on one
// database: each notice is sent once.
func (a *Alerts) Run(ctx context.Context) error {
	w, err := a.c.NewWorker(stint.WithQueues(Queue), stint.WithSlots(maxPerSink*max(len(a.sinks), 1)), stint.WithDrainTimeout(time.Second))
	if err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	err = a.evaluateLoop(ctx)
	return errors.Join(err, <-done)
}

func (a *Alerts) evaluateLoop(ctx context.Context) error {
	for mark := uint64(0); ctx.Err() == nil; {
		for i := range a.cfg.Rules {
			if err := a.evaluate(ctx, &a.cfg.Rules[i]); err != nil && ctx.Err() == nil {
				if errors.Is(err, stint.ErrClosed) {
					return nil
				}
				return err
			}
		}
		if !pause.For(ctx, minInterval) {
			break
		}
		soon, cancel := context.WithTimeout(ctx, maxInterval)
		n, err := a.c.Changed(soon, mark)
		cancel()
		if err == nil {
			mark = n
		} else if errors.Is(err, stint.ErrClosed) {
			return nil
		}
	}
	return nil
}

// maxEvents bounds the events with a rule's key that are read: the newest, and older ones if that
// cannot be decoded.
const maxEvents = 10

// A ruleState is the state of a rule. It is the payload of the newest event with the rule's key.
type ruleState struct {
	Kind    string    `json:"kind"`    // "": it never fired
	Episode int       `json:"episode"` // how often the rule began to fire
	Since   time.Time `json:"since"`
	Sent    time.Time `json:"sent"`
}

func (s *ruleState) firing() bool { return s.Kind == Firing || s.Kind == Digest }

// EventKey returns the key of the events that record each change of a rule's state.
func EventKey(rule string) string { return "stint:alert:" + rule }

// Key returns what EventKey does.
//
// Deprecated: use EventKey.
func Key(rule string) string { return EventKey(rule) }

func (a *Alerts) ruleState(ctx context.Context, r *Rule) (s ruleState, err error) {
	page, err := a.c.ListEvents(ctx, stint.EventFilter{Key: EventKey(r.Name), Limit: maxEvents})
	if err != nil {
		return s, err
	}
	for _, e := range page.Events {
		var s ruleState
		if json.Unmarshal(e.Payload, &s) == nil && s.Episode > 0 {
			return s, nil
		}
	}
	return ruleState{}, nil
}

// evaluate evaluates a rule, and notifies its sinks if its state has changed or a digest is due.
func (a *Alerts) evaluate(ctx context.Context, r *Rule) error {
	now := time.Now()
	count, ended, err := a.countWindow(ctx, r, now)
	if err != nil {
		return err
	}
	s, err := a.ruleState(ctx, r)
	if err != nil {
		return err
	}
	met := count >= r.Count && float64(count) >= r.Rate*float64(ended)
	switch {
	case met && !s.firing():
		s = ruleState{Kind: Firing, Episode: s.Episode + 1, Since: now}
	case met && now.Sub(s.Sent) >= a.cfg.Digest:
		s.Kind = Digest
	case !met && s.firing():
		s.Kind = Recovered
	default:
		return nil
	}
	s.Sent = now
	return a.notify(ctx, r, s, count, ended)
}

// countWindow returns the runs in a rule's state, and all that ended, within its window.
func (a *Alerts) countWindow(ctx context.Context, r *Rule, now time.Time) (count, ended int64, err error) {
	all, err := a.c.Stats(ctx, stint.StatsFilter{Since: now.Add(time.Minute - r.Window), PerTask: true})
	if err != nil {
		return 0, 0, err
	}
	for i := range all {
		s := &all[i]
		if r.Task != "" && s.Task != r.Task || r.Task == "" && s.Task == Task {
			continue
		}
		n := map[stint.State]int64{stint.StateFailed: s.Failed, stint.StateCanceled: s.Canceled, stint.StateSkipped: s.Skipped}[r.State]
		count, ended = count+n, ended+s.Ended()
	}
	return count, ended, nil
}

// notify enqueues the deliveries of a notice, then records the rule's new state. Both have an ID
// made of the rule, the episode and the kind, so another process, or this one after a crash,
// repeats neither.
func (a *Alerts) notify(ctx context.Context, r *Rule, s ruleState, count, ended int64) error {
	n := Notice{Rule: r.Name, Kind: s.Kind, At: s.Sent, Since: s.Since, Task: r.Task, State: r.State.String(),
		Count: count, Ended: ended, Window: r.Window.String()}
	if err := a.addNewest(ctx, r, &n); err != nil {
		return err
	}
	id := fmt.Sprintf("%d:%s:%d:%s", len(r.Name), r.Name, s.Episode, s.Kind) // unique: the length keeps names apart
	if s.Kind == Digest {
		id += fmt.Sprint(":", s.Sent.Sub(s.Since)/a.cfg.Digest)
	}
	if err := a.enqueue(ctx, r, n, id); err != nil {
		return err
	}
	_, err := a.c.Publish(ctx, EventKey(r.Name), s, stint.WithDeliveryID("stint:alert:"+hashKey(id)))
	return err
}

// hashKey returns a key of bounded length for an ID of any length.
func hashKey(id string) string {
	sum := sha256.Sum256([]byte(id))
	return hex.EncodeToString(sum[:])
}

func (a *Alerts) enqueue(ctx context.Context, r *Rule, n Notice, id string) error {
	for _, s := range a.cfg.Sinks {
		if r.Sinks != nil && !slices.Contains(r.Sinks, s.Name) {
			continue
		}
		key := hashKey(fmt.Sprintf("%d:%s:%s", len(id), id, s.Name))
		_, err := a.deliver.Enqueue(ctx, delivery{s.Name, n}, stint.WithIdempotencyKey(key, 30*24*time.Hour),
			stint.WithMetadata(map[string]string{"alert": r.Name, "kind": n.Kind}))
		if err != nil {
			return err
		}
	}
	return nil
}

// addNewest adds the newest runs in the rule's state to a notice.
func (a *Alerts) addNewest(ctx context.Context, r *Rule, n *Notice) error {
	if a.cfg.Link != "" {
		n.Link = fmt.Sprintf("%s/runs?state=%s", strings.TrimSuffix(a.cfg.Link, "/"), r.State)
	}
	if n.Kind == Recovered {
		return nil
	}
	f := stint.RunFilter{States: []stint.State{r.State}, Limit: maxNewest}
	if r.Task != "" {
		f.Tasks = []string{r.Task}
	}
	page, err := a.c.ListRuns(ctx, f)
	if err != nil {
		return err
	}
	for _, run := range page.Runs {
		if run.Task == Task {
			continue
		}
		failure := Failure{Run: run.ID, Task: run.Task, Error: run.Error, At: run.Finished}
		if a.cfg.Link != "" {
			failure.Link = strings.TrimSuffix(a.cfg.Link, "/") + "/runs/" + run.ID
		}
		if a.cfg.Redact != nil {
			failure.Error = a.redacted(failure)
		}
		n.Newest = append(n.Newest, failure)
	}
	return nil
}

// redacted returns what Redact makes of the error of a run.
func (a *Alerts) redacted(f Failure) (shown string) {
	if p := guard.Call(func() { shown = a.cfg.Redact(f) }); p != nil {
		return fmt.Sprintf("(hidden: the program's Redact panicked with a %T)", p.Value) // not its text, which may contain the error
	}
	return shown
}

// Test enqueues a notice of the kind Test to the sink of that name, or to all if it is "". It does
// not wait for the delivery, which is a run. The error is ErrNotFound if there is no such sink.
func (a *Alerts) Test(ctx context.Context, sink string) error {
	r := &Rule{Name: "a test", Sinks: nil}
	if sink != "" {
		if a.sinks[sink] == (Sink{}) {
			return fmt.Errorf("alert: %w: sink %q", stint.ErrNotFound, sink)
		}
		r.Sinks = []string{sink}
	}
	now := time.Now()
	return a.enqueue(ctx, r, Notice{Rule: r.Name, Kind: Test, At: now}, fmt.Sprint("test:", now.UnixNano()))
}

// send is the handler of deliveries.
func (a *Alerts) send(ctx context.Context, d delivery) (string, error) {
	s, ok := a.sinks[d.Sink]
	if !ok {
		return "", stint.NonRetryable(fmt.Errorf("alert: there is no sink %q any more", d.Sink))
	}
	return d.Notice.Subject(), s.send.send(ctx, &d.Notice)
}
