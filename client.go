package stint

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/stint-dev/stint/internal/check"
	"github.com/stint-dev/stint/internal/clock"
	"github.com/stint-dev/stint/internal/live"
	"github.com/stint-dev/stint/internal/pause"
	"github.com/stint-dev/stint/internal/readonly"
	"github.com/stint-dev/stint/internal/telemetry"
	"github.com/stint-dev/stint/internal/versions"
	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/sqlite"
)

// A Client defines tasks, enqueues runs of them and makes workers that execute them, on one
// database. Its methods may be called concurrently.
type Client struct {
	cfg    clientConfig
	store  store.Store
	backup store.Backuper // nil: the store cannot
	clock  store.Clock    // nil: that of this process

	mu      sync.Mutex
	closed  bool
	closing chan struct{} // closed with closed
	tasks   map[string]*taskDef
	defined map[string]bool // names that Define has defined
	workers map[*Worker]struct{}

	declareMu    sync.Mutex
	undeclared   []*taskDef // whose crons and triggers are not stored yet
	triggerTasks []*taskDef // that events start

	definitions versions.Cache[*taskDef] // those of the database that the client has used
	live        live.Errors

	spans  telemetry.Spans
	meters *telemetry.Meters

	loops   sync.WaitGroup // recoverLoop and expireLoop
	running sync.WaitGroup // calls of Worker.Run
	ctx     context.Context
	cancel  context.CancelFunc

	webhooks webhooks

	endedBefore atomic.Bool // the workflow's run that was waited for last had ended before
}

type clientConfig struct {
	logger      *slog.Logger
	durability  Durability
	retention   time.Duration
	codec       Codec
	middleware  []func(Handler) Handler
	ageing      time.Duration
	maxPayload  int
	maxResident int
	noErrorText bool
	tracer      trace.Tracer // nil: none
	meter       metric.Meter // nil: none
	readOnly    bool
	set         map[string]bool // options that only Open accepts
}

// A Durability says which crashes an acknowledged change survives.
type Durability int

const (
	// DurabilityFull survives a power cut: each commit is synced to disk. It is the default.
	DurabilityFull Durability = iota
	// DurabilityNormal survives a crash of the process, but a power cut may lose the last
	// commits. It never damages the file.
	DurabilityNormal
)

// A Handler executes one attempt of a run: it gets the encoded input and returns the encoded
// output. Info(ctx) describes the run.
type Handler func(ctx context.Context, input []byte) (output []byte, err error)

const (
	// DefaultRetention is how long runs that succeeded or were canceled are kept.
	DefaultRetention = 30 * 24 * time.Hour
	// DefaultMaxPayload is the maximum size of an input or output in bytes.
	DefaultMaxPayload = 4 << 20
	// DefaultMaxResident is the maximum number of waiting runs in memory.
	DefaultMaxResident = 10_000

	failedFactor = 3 // failed runs are kept this many times as long
	ageingStep   = time.Minute
	expireEvery  = time.Hour   // the longest interval between deletions of expired runs
	expireSoon   = time.Minute // the time until the first
)

// WithLogger sets the logger for what the client cannot return, such as failed attempts,
// recovery after a crash, or a database that cannot be written. The default is slog.Default().
func WithLogger(l *slog.Logger) ClientOption {
	return clientOption(func(c *clientConfig) error {
		if l == nil {
			return errors.New("stint: WithLogger(nil): want a logger; slog.DiscardHandler makes a silent one")
		}
		c.logger = l
		return nil
	})
}

// WithDurability sets which crashes an acknowledged change survives. The default is
// DurabilityFull. It is an option of Open; a store given to New has its own setting.
func WithDurability(d Durability) ClientOption {
	return clientOption(func(c *clientConfig) error {
		if d != DurabilityFull && d != DurabilityNormal {
			return fmt.Errorf("stint: WithDurability(%d): want DurabilityFull or DurabilityNormal", d)
		}
		c.durability = d
		c.set["WithDurability"] = true
		return nil
	})
}

// WithRetention sets how long runs that succeeded or were canceled are kept after they end;
// failed runs are kept three times as long. The default is 30 days. A run that another one started is
// kept as long as that one. Expired runs are deleted at most a tenth of d, or an hour, late.
func WithRetention(d time.Duration) ClientOption {
	return clientOption(func(c *clientConfig) error {
		c.retention = d
		return wantPositive("WithRetention", d)
	})
}

// WithMiddleware wraps every handler of the client's workers. The first middleware given is
// the outermost. An empty output that a middleware returns is stored as null, which decodes to
// the zero value; an output that is not JSON or exceeds WithMaxPayload fails the run.
func WithMiddleware(m func(Handler) Handler) ClientOption {
	return clientOption(func(c *clientConfig) error {
		if m == nil {
			return errors.New("stint: WithMiddleware(nil): want a function")
		}
		c.middleware = append(c.middleware, m)
		return nil
	})
}

// WithPriorityAgeing sets how long a queued run waits until its effective priority rises by
// one, which keeps runs of low priority from starving. The default is a minute; 0 turns it
// off. It applies to runs that this client enqueues.
func WithPriorityAgeing(d time.Duration) ClientOption {
	return clientOption(func(c *clientConfig) error {
		if d < 0 || d > 0 && d < time.Millisecond {
			return fmt.Errorf("stint: WithPriorityAgeing(%v): want 0 or at least 1ms", d)
		}
		c.ageing = d
		return nil
	})
}

// WithMaxPayload sets the maximum size of an encoded input or output in bytes. The default is
// 4 MiB.
func WithMaxPayload(bytes int) ClientOption {
	return clientOption(func(c *clientConfig) error {
		if bytes < 1 {
			return fmt.Errorf("stint: WithMaxPayload(%d): want 1 or more", bytes)
		}
		c.maxPayload = bytes
		return nil
	})
}

// WithMaxResident sets how many runs may stay in memory while they wait in a durable call. A
// run that stays for a short wait need not run its handler again. The default is 10,000; with
// 0 none stays.
func WithMaxResident(n int) ClientOption {
	return clientOption(func(c *clientConfig) error {
		if n < 0 {
			return fmt.Errorf("stint: WithMaxResident(%d): want 0 or more", n)
		}
		c.maxResident = n
		return nil
	})
}

// WithReadOnly makes a client that only reads. It fires no crons or timers, recovers nothing,
// stores no definitions and leaves no files. NewWorker and every method that changes something
// return ErrReadOnly. The client sees commits of other processes, and Run.Wait, Backup and
// Check work.
//
// With Open, the file must exist and have the current schema; the user needs no permission to
// write the file or its directory. With New, open the store read-only as well
// (sqlite.Options.ReadOnly).
func WithReadOnly() ClientOption {
	return clientOption(func(c *clientConfig) error {
		c.readOnly = true
		return nil
	})
}

// Open opens the SQLite file at path. A missing file is created, readable by its owner only.
// The path ":memory:" makes a private database that is gone when the client is closed. Several
// clients, in one or many processes, may have the same file open.
//
// The error says what to do: the directory is missing, the file is not a database, was made by
// a newer version, or cannot be written.
func Open(path string, opts ...ClientOption) (*Client, error) {
	cfg, err := newClientConfig(opts)
	if err != nil {
		return nil, err
	}
	s, err := sqlite.Open(path, sqlite.Options{Normal: cfg.durability == DurabilityNormal, ReadOnly: cfg.readOnly})
	if err != nil {
		return nil, wrapStoreErr("open", err)
	}
	return newClient(s, cfg)
}

// New returns a client on any store. Closing the client closes the store.
func New(s store.Store, opts ...ClientOption) (*Client, error) {
	if s == nil {
		return nil, errors.New("stint: New: nil store: make one with store/sqlite, or use Open")
	}
	cfg, err := newClientConfig(opts)
	if err != nil {
		return nil, err
	}
	for name := range cfg.set {
		return nil, fmt.Errorf("stint: New: %s is for Open: set it where the store is opened", name)
	}
	return newClient(s, cfg)
}

func newClientConfig(opts []ClientOption) (clientConfig, error) {
	cfg := clientConfig{retention: DefaultRetention, codec: jsonCodec{}, ageing: ageingStep, maxPayload: DefaultMaxPayload,
		maxResident: DefaultMaxResident, set: map[string]bool{}}
	for _, o := range opts {
		if o == nil {
			continue
		}
		if err := o.applyClient(&cfg); err != nil {
			return cfg, err
		}
	}
	return cfg, nil
}

func newClient(s store.Store, cfg clientConfig) (*Client, error) {
	c := &Client{cfg: cfg, store: s, tasks: map[string]*taskDef{}, defined: map[string]bool{}, workers: map[*Worker]struct{}{},
		closing: make(chan struct{})}
	if err := guarded(c.startTelemetry); err != nil {
		return nil, errors.Join(wrapStoreErr("WithMeterProvider", err), s.Close())
	}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.backup, _ = s.(store.Backuper)
	if clock, ok := s.(store.Clock); ok {
		c.clock = clock
	}
	if cfg.readOnly {
		c.store = readonly.New(s)
		return c, nil
	}
	c.loops.Go(c.recoverLoop)
	c.loops.Go(c.expireLoop)
	return c, nil
}

// Close drains the client's workers, waits for them and closes the database. Calls that are in
// progress in other goroutines, such as Wait, return ErrClosed. A second Close does nothing.
func (c *Client) Close() error {
	c.mu.Lock()
	first := !c.closed
	if first {
		c.closed = true
		close(c.closing)
	}
	workers := slices.Collect(maps.Keys(c.workers))
	c.mu.Unlock()
	for _, w := range workers {
		w.stop()
	}
	c.running.Wait()
	c.cancel()
	c.loops.Wait()
	if !first {
		return nil
	}
	c.guardProvider(func() { c.meters.Close() }) // its error only repeats that
	if err := c.store.Close(); err != nil {
		return errorf("stint: close: %w", err)
	}
	return nil
}

// Healthy returns nil, or why the database cannot be written at present: the disk is full, the
// file is read-only, or it is no longer at its path (ErrFileGone, ErrReplaced). Meanwhile no
// change is acknowledged; the client resumes by itself when it can write again. After Close it
// returns ErrClosed.
func (c *Client) Healthy() error {
	c.mu.Lock()
	closed := c.closed
	c.mu.Unlock()
	if closed {
		return fmt.Errorf("%w: healthy", ErrClosed)
	}
	if err := c.store.Healthy(); err != nil {
		return wrapStoreErr("degraded", err)
	}
	return nil
}

// Closing returns a channel that is closed when Close is called. Something that the app builds on
// the client and that its handlers wait for, such as a server for workers elsewhere, must end
// then: Close waits for handlers as long as their worker's drain timeout allows.
func (c *Client) Closing() <-chan struct{} { return c.closing }

// recoverLoop queues the runs of dead processes again.
func (c *Client) recoverLoop() {
	for c.ctx.Err() == nil {
		r, err := c.store.Recover(c.ctx)
		if r.Requeued > 0 {
			c.logger().Warn("stint: a process died; its runs are queued again", "runs", r.Requeued)
		}
		for _, id := range r.Blocked {
			c.logger().Error("stint: run is quarantined: each time it was executing, the process died", "run", id, "deaths",
				store.MaxCrashes)
		}
		if err != nil && !errors.Is(err, store.ErrClosed) && c.ctx.Err() == nil {
			c.logger().Error("stint: looking for dead processes; will retry", "err", err, "in", retryStore)
			pause.For(c.ctx, retryStore)
		}
	}
}

// expireLoop deletes expired runs: first soon after the start, for short-lived programs, then
// each tenth of the retention.
func (c *Client) expireLoop() {
	every := min(expireEvery, max(c.cfg.retention/10, time.Second))
	for wait := min(every, expireSoon); pause.For(c.ctx, wait); wait = every {
		now := c.now()
		n, err := c.store.Expire(c.ctx, clock.Add(now, -c.cfg.retention), clock.Add(now, clock.Mul(c.cfg.retention, -failedFactor)))
		if err != nil && c.ctx.Err() == nil {
			c.logger().Error("stint: deleting runs past their retention; will retry", "err", err, "in", every)
		} else if n > 0 {
			c.logger().Debug("stint: deleted runs past their retention", "runs", n)
		}
	}
}

// now returns the time by the store's clock: each instant that the store is given, or that is
// compared with one from it, is this. What lasts a while is measured with time.Now.
func (c *Client) now() time.Time {
	if c.clock != nil {
		return c.clock.Now()
	}
	return time.Now()
}

// inStore returns an instant of this process by the store's clock.
func (c *Client) inStore(t time.Time) time.Time {
	if c.clock != nil {
		now := time.Now() // before the other: what happened does not come earlier for it
		return t.Add(c.clock.Now().Sub(now))
	}
	return t
}

// ReadOnly reports whether the client was made with WithReadOnly.
func (c *Client) ReadOnly() bool { return c.cfg.readOnly }

// writable returns ErrReadOnly if the client is read-only. Methods that read before they
// change something call it first; the others get the error from the store.
func (c *Client) writable(op string) error {
	if c.cfg.readOnly {
		return wrapStoreErr(op, store.ErrReadOnly)
	}
	return nil
}

// change makes a change in the store. op says what the caller does, in its error.
func (c *Client) change(ctx context.Context, op string, x store.Change) error {
	return wrapStoreErr(op, c.store.Change(ctx, c.now(), x))
}

// Check looks for damage in the database and returns a description of each problem. It looks for
// references to missing rows and for limit counters that differ from a recount; on a file it also
// runs SQLite's integrity check. It changes nothing. Its time is proportional to the size of the
// database.
func (c *Client) Check(ctx context.Context) ([]string, error) {
	found, err := c.store.Check(ctx)
	return found, wrapStoreErr("check", err)
}

// Backup writes a copy of the database to a new file at path, consistent as of one moment, while
// the client goes on working. When a program opens the copy, runs that were executing are queued
// again. On PostgreSQL the error is errors.ErrUnsupported: use the server's own tools.
func (c *Client) Backup(ctx context.Context, path string) error {
	if c.backup == nil {
		return fmt.Errorf("stint: backup: %w: %T copies no files: use the backup of its database", errors.ErrUnsupported, c.store)
	}
	return wrapStoreErr("backup", c.backup.Backup(ctx, path))
}

// MaxSetting is the maximum size of a setting's value in bytes.
const MaxSetting = 1 << 20

// SetSetting stores a value that belongs to no run, such as the state of a server that is built
// on the client. It replaces the value of the key; a nil value deletes it. When SetSetting has
// returned, all processes on the database see the value.
//
// A key has 1 to 255 bytes of UTF-8, a value at most MaxSetting bytes. Settings are stored as
// they are, not encrypted, and are kept until they are deleted.
func (c *Client) SetSetting(ctx context.Context, key string, value []byte) error {
	_, err := c.changeSetting(ctx, "set setting", store.SettingChange{Setting: store.Setting{Key: key, Value: value}})
	return err
}

// EnsureSetting stores a value unless the key has one, and returns the stored value: of several
// processes that call it at once, one sets the value and all get it.
func (c *Client) EnsureSetting(ctx context.Context, key string, value []byte) ([]byte, error) {
	if value == nil {
		value = []byte{}
	}
	return c.changeSetting(ctx, "ensure setting", store.SettingChange{Setting: store.Setting{Key: key, Value: value}, IfMissing: true})
}

func (c *Client) changeSetting(ctx context.Context, op string, s store.SettingChange) ([]byte, error) {
	op = fmt.Sprintf("%s %.300q", op, s.Key)
	err := check.Name("key", s.Key)
	if err == nil {
		err = check.Size("value", len(s.Value), MaxSetting)
	}
	if err != nil {
		return nil, wrapStoreErr(op, err)
	}
	if err := c.change(ctx, op, &s); err != nil {
		return nil, err
	}
	return s.Stored, nil
}

// Setting returns the value that SetSetting stored under a key, or ErrNotFound.
func (c *Client) Setting(ctx context.Context, key string) ([]byte, error) {
	op := fmt.Sprintf("setting %.300q", key)
	if err := check.Name("key", key); err != nil {
		return nil, wrapStoreErr(op, err)
	}
	list := store.SettingList{Prefix: key, Limit: 1} // of those that begin with the key it is the first
	err := c.store.Read(ctx, &list)
	if err == nil && (len(list.Settings) == 0 || list.Settings[0].Key != key) {
		err = store.ErrNotFound
	}
	if err != nil {
		return nil, wrapStoreErr(op, err)
	}
	return list.Settings[0].Value, nil
}

// Settings returns the settings whose keys begin with a prefix; "": all. It returns an error if
// there are more than 100,000 or their values exceed 256 MiB.
func (c *Client) Settings(ctx context.Context, prefix string) (map[string][]byte, error) {
	if err := check.Text("prefix", prefix); err != nil {
		return nil, wrapStoreErr("settings", err)
	}
	found := map[string][]byte{}
	var whole check.Whole
	for list := (store.SettingList{Prefix: prefix, Limit: maxPage, More: true}); list.More; {
		if err := c.store.Read(ctx, &list); err != nil {
			return nil, wrapStoreErr("settings", err)
		}
		for _, s := range list.Settings {
			if err := whole.Add(s.Size()); err != nil {
				return nil, wrapStoreErr("settings", err)
			}
			list.After, found[s.Key] = s.Key, s.Value
		}
	}
	return found, nil
}
