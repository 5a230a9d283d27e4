// Package alert tells people when runs fail: at the first failure, then in digests while it
// goes on, and once more when it is over.
//
//	alerts, err := alert.New(client, alert.Config{
//		Rules: []alert.Rule{{Name: "payments fail", Task: "charge", Count: 3, Window: 10 * time.Minute}},
//		Sinks: []alert.Sink{alert.Slack("ops", os.Getenv("SLACK_WEBHOOK"))},
//	})
//	go alerts.Run(ctx)
//
// What is to be sent is a run of the library's own, in a queue of its own, so it is tried
// again over restarts, and a slow sink holds up nothing else.
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
	"unicode"
	"unicode/utf8"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/internal/guard"
	"github.com/stint-dev/stint/internal/text"
)

// A Rule says when something is wrong: so many runs came to a state in a window of time.
type Rule struct {
	Name string // not empty; its own
	Task string // whose runs; "": all but the deliveries of alerts
	// State is that which counts: StateFailed, the default, StateCanceled, or StateSkipped.
	State stint.State
	Count int64 // at least so many [1]
	// Rate, if more than 0, must be reached too: the part, 0 to 1, of the runs that ended.
	Rate   float64
	Window time.Duration // in whole minutes, the current one included [5 minutes]
	Sinks  []string      // names of those that are told; nil: all
}

// Config is what New makes alerts of.
type Config struct {
	Rules  []Rule
	Sinks  []Sink
	Digest time.Duration // between messages while a rule holds [1 hour]
	Link   string        // where the web page is, for links: https://app.example.org/stint
	// Redact returns what notices show as the error of a run; nil shows it as it is. It is
	// called before a notice is stored. It may be called from several goroutines. If it
	// panics, notices say so in the error's place.
	Redact func(Failure) string
}

// Kinds of notices.
const (
	Firing    = "firing"    // the rule has begun to hold
	Digest    = "digest"    // it holds still
	Recovered = "recovered" // it has not held for a window
	Test      = "test"
)

// A Notice is what sinks are given.
type Notice struct {
	Rule   string    `json:"rule"`
	Kind   string    `json:"kind"`
	At     time.Time `json:"at"`
	Since  time.Time `json:"since"`  // when the rule began to hold
	Task   string    `json:"task"`   // "": all
	State  string    `json:"state"`  // that was counted
	Count  int64     `json:"count"`  // in the window
	Ended  int64     `json:"ended"`  // of so many
	Window string    `json:"window"` // as time.Duration writes it
	Newest []Failure `json:"newest,omitempty"`
	Link   string    `json:"link,omitempty"`
}

// A Failure is one of the runs that a notice is about.
type Failure struct {
	Run   string    `json:"run"`
	Task  string    `json:"task"`
	Error string    `json:"error"`
	At    time.Time `json:"at"`
	Link  string    `json:"link,omitempty"`
}

// Subject returns the notice in a line.
func (n *Notice) Subject() string { return n.subject(oneLine) }

// subject renders the names of the app's with show.
func (n *Notice) subject(show func(string) string) string {
	what := show(n.Task)
	if what == "" {
		what = "all tasks"
	}
	switch n.Kind {
	case Recovered:
		return fmt.Sprintf("[recovered] %s: %s", show(n.Rule), what)
	case Test:
		return fmt.Sprintf("[test] %s", show(n.Rule))
	}
	return fmt.Sprintf("[%s] %s: %d of %d runs of %s %s in %s", n.Kind, show(n.Rule), n.Count, n.Ended, what, n.State, n.Window)
}

// Text returns the notice in a few lines.
func (n *Notice) Text() string { return n.text(oneLine, oneLine) }

// text renders the names of the app's with name, and the errors of its runs with failure.
// Both are given one line.
func (n *Notice) text(name, failure func(string) string) string {
	var b strings.Builder
	b.WriteString(n.subject(func(s string) string { return name(oneLine(s)) }) + "\n")
	if !n.Since.IsZero() {
		fmt.Fprintf(&b, "since %s\n", n.Since.UTC().Format(time.RFC1123))
	}
	for _, f := range n.Newest {
		fmt.Fprintf(&b, "- %s %s: %s %s\n", name(oneLine(f.Task)), f.Run, failure(oneLine(f.Error)), f.Link)
	}
	if n.Link != "" {
		b.WriteString(n.Link + "\n")
	}
	return b.String()
}

// maxLine is how many bytes of a text of the app's a line shows.
const maxLine = 400

// oneLine returns the first line of s, cut, with a space for each control character: a bare
// CR ends a line in some mail programs, and ESC writes to terminals.
func oneLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) {
			return ' '
		}
		return r
	}, text.Cut(strings.TrimRight(line, "\r"), maxLine))
}

// Alerts watches for what its rules say.
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

// Task is the name of the task whose runs are deliveries, and Queue is their queue.
const (
	Task  = "stint-alert"
	Queue = "stint-alerts"
)

const (
	everyLook   = time.Second      // at most so often
	leastLook   = 10 * time.Second // and at least
	defaultSpan = 5 * time.Minute
	newest      = 5
	retries     = 12
	longest     = 30 * time.Minute // between tries
	sendTimeout = 30 * time.Second
	perSink     = 2 // at a time
)

// New makes alerts on a client, and defines their task. At most one is made of a client.
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
		if err := r.complete(a.sinks); err != nil {
			return nil, err
		}
		if names[r.Name] {
			return nil, fmt.Errorf("alert: two rules %q", r.Name)
		}
		names[r.Name] = true
	}
	a.deliver = stint.NewTask(c, Task, a.send, stint.WithQueue(Queue), stint.WithRetries(retries), stint.WithRetryBackoff(2, longest), stint.WithTimeout(sendTimeout),
		stint.WithConcurrency(stint.Concurrency[delivery]{Key: func(d delivery) string { return d.Sink }, Max: perSink}))
	return a, nil
}

// maxName is how many bytes a rule's or a sink's name has at most.
const maxName = 200

func checkName(name string) error {
	if len(name) > maxName || !utf8.ValidString(name) {
		return fmt.Errorf("want a name of at most %d bytes of UTF-8", maxName)
	}
	return nil
}

func (r *Rule) complete(sinks map[string]Sink) error {
	if r.State == 0 {
		r.State = stint.StateFailed
	}
	r.Count = max(r.Count, 1)
	if r.Window == 0 {
		r.Window = defaultSpan
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
	Sent  time.Time // when the last notice was made
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
		s, err := a.status(ctx, &a.cfg.Rules[i])
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

// Sinks lists the names and kinds of the sinks.
func (a *Alerts) Sinks() []Sink { return a.cfg.Sinks }

// Run watches, and delivers, until ctx ends. Several processes may: each notice is sent once.
func (a *Alerts) Run(ctx context.Context) error {
	w, err := a.c.NewWorker(stint.WithQueues(Queue), stint.WithSlots(perSink*max(len(a.sinks), 1)), stint.WithDrainTimeout(time.Second))
	if err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	err = a.watch(ctx)
	return errors.Join(err, <-done)
}

func (a *Alerts) watch(ctx context.Context) error {
	for mark := uint64(0); ctx.Err() == nil; {
		for i := range a.cfg.Rules {
			if err := a.look(ctx, &a.cfg.Rules[i]); err != nil && ctx.Err() == nil {
				if errors.Is(err, stint.ErrClosed) {
					return nil
				}
				return err
			}
		}
		if !pause(ctx, everyLook) {
			break
		}
		soon, cancel := context.WithTimeout(ctx, leastLook)
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

// manyEvents is how many events with a rule's key are looked at: the newest, and older ones if
// that is not of this package or was damaged.
const manyEvents = 10

// A status is how a rule stands, as the last event with its key says.
type status struct {
	Kind    string    `json:"kind"` // "": it never held
	Episode int       `json:"episode"`
	Since   time.Time `json:"since"`
	Sent    time.Time `json:"sent"`
}

func (s *status) holds() bool { return s.Kind == Firing || s.Kind == Digest }

// EventKey returns the key of the events that record each change of a rule's state.
func EventKey(rule string) string { return "stint:alert:" + rule }

// Key returns what EventKey does.
//
// Deprecated: use EventKey.
func Key(rule string) string { return EventKey(rule) }

func (a *Alerts) status(ctx context.Context, r *Rule) (s status, err error) {
	page, err := a.c.ListEvents(ctx, stint.EventFilter{Key: EventKey(r.Name), Limit: manyEvents})
	if err != nil {
		return s, err
	}
	for _, e := range page.Events {
		var s status
		if json.Unmarshal(e.Payload, &s) == nil && s.Episode > 0 {
			return s, nil
		}
	}
	return status{}, nil
}

// look compares what happened with a rule, and says what has changed.
func (a *Alerts) look(ctx context.Context, r *Rule) error {
	now := time.Now()
	count, ended, err := a.count(ctx, r, now)
	if err != nil {
		return err
	}
	s, err := a.status(ctx, r)
	if err != nil {
		return err
	}
	holds := count >= r.Count && float64(count) >= r.Rate*float64(ended)
	switch {
	case holds && !s.holds():
		s = status{Kind: Firing, Episode: s.Episode + 1, Since: now}
	case holds && now.Sub(s.Sent) >= a.cfg.Digest:
		s.Kind = Digest
	case !holds && s.holds():
		s.Kind = Recovered
	default:
		return nil
	}
	s.Sent = now
	return a.tell(ctx, r, s, count, ended)
}

// count adds up a rule's window.
func (a *Alerts) count(ctx context.Context, r *Rule, now time.Time) (count, ended int64, err error) {
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

// tell enqueues the deliveries of a notice, then records the rule's new status. Both are
// known by the episode and what it came to, so that another process, or this one after a
// crash, does neither twice.
func (a *Alerts) tell(ctx context.Context, r *Rule, s status, count, ended int64) error {
	n := Notice{Rule: r.Name, Kind: s.Kind, At: s.Sent, Since: s.Since, Task: r.Task, State: r.State.String(), Count: count, Ended: ended, Window: r.Window.String()}
	if err := a.newest(ctx, r, &n); err != nil {
		return err
	}
	id := fmt.Sprintf("%d:%s:%d:%s", len(r.Name), r.Name, s.Episode, s.Kind) // no two rules give one
	if s.Kind == Digest {
		id += fmt.Sprint(":", s.Sent.Sub(s.Since)/a.cfg.Digest)
	}
	if err := a.enqueue(ctx, r, n, id); err != nil {
		return err
	}
	_, err := a.c.Publish(ctx, EventKey(r.Name), s, stint.WithDeliveryID("stint:alert:"+digest(id)))
	return err
}

// digest makes a key, which has a bound, of a text that has none.
func digest(id string) string {
	sum := sha256.Sum256([]byte(id))
	return hex.EncodeToString(sum[:])
}

func (a *Alerts) enqueue(ctx context.Context, r *Rule, n Notice, id string) error {
	for _, s := range a.cfg.Sinks {
		if r.Sinks != nil && !slices.Contains(r.Sinks, s.Name) {
			continue
		}
		if _, err := a.deliver.Enqueue(ctx, delivery{s.Name, n}, stint.WithIdempotencyKey(digest(fmt.Sprintf("%d:%s:%s", len(id), id, s.Name)), 30*24*time.Hour), stint.WithMetadata(map[string]string{"alert": r.Name, "kind": n.Kind})); err != nil {
			return err
		}
	}
	return nil
}

// newest adds the newest runs that a notice is about.
func (a *Alerts) newest(ctx context.Context, r *Rule, n *Notice) error {
	if a.cfg.Link != "" {
		n.Link = fmt.Sprintf("%s/runs?state=%s", strings.TrimSuffix(a.cfg.Link, "/"), r.State)
	}
	if n.Kind == Recovered {
		return nil
	}
	f := stint.RunFilter{States: []stint.State{r.State}, Limit: newest}
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

// redacted is what a notice shows as the error of a run.
func (a *Alerts) redacted(f Failure) (shown string) {
	if p := guard.Call(func() { shown = a.cfg.Redact(f) }); p != nil {
		return fmt.Sprintf("(hidden: the program's Redact panicked with a %T)", p.Value) // whose text may hold the error
	}
	return shown
}

// Test sends a notice of the kind Test to a sink, or to all if it is "". It returns when
// it is enqueued: its runs say what came of it.
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
	return d.Notice.Subject(), s.send.notice(ctx, &d.Notice)
}

func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
