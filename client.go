package stint

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/stint-dev/stint/internal/clock"
	"github.com/stint-dev/stint/internal/readonly"
	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/sqlite"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
)

// A Client defines tasks, enqueues runs of them, and has workers that work them, all
// on one database. Its methods may be called concurrently.
type Client struct {
	cfg   clientConfig
	store store.Store

	mu      sync.Mutex
	closed  bool
	tasks   map[string]*taskDef
	workers map[*Worker]struct{}
	waiters map[store.ID]*errorWaiter

	declareMu    sync.Mutex
	undeclared   []*taskDef // whose crons and triggers are to be stored yet
	triggerTasks []*taskDef // that events start

	meters meters

	loops   sync.WaitGroup // recovery and retention
	running sync.WaitGroup // Worker.Run
	ctx     context.Context
	cancel  context.CancelFunc

	webhooks webhooks
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
	set         map[string]bool // options that only Open takes
}

// A Durability says what an acknowledged change survives.
type Durability int

const (
	// DurabilityFull survives a power cut: each commit waits for the disk. The default.
	DurabilityFull Durability = iota
	// DurabilityNormal survives the death of the process, but a power cut may take the
	// last commits. It never damages the file.
	DurabilityNormal
)

// A Handler works one attempt: encoded input to encoded output. Info(ctx) tells of
// which run.
type Handler func(ctx context.Context, input []byte) (output []byte, err error)

const (
	// DefaultRetention is how long runs that succeeded or were canceled are kept.
	DefaultRetention = 30 * 24 * time.Hour
	// DefaultMaxPayload is the size, in bytes, that an input or output may have.
	DefaultMaxPayload = 4 << 20
	// DefaultMaxResident is how many waiting runs stay in memory for a moment.
	DefaultMaxResident = 10_000

	failedFactor = 3 // failed runs are kept so many times as long
	ageingStep   = time.Minute
	expireEvery  = time.Hour   // at most so long until the retention is looked at again
	expireSoon   = time.Minute // and so long until it is looked at first
)

// A Codec encodes inputs and outputs. What it writes must be JSON. What its errors say, and
// those of methods like UnmarshalJSON, may quote the value, so the library's errors have their
// types and the field alone; errors.As finds them where the call itself failed.
type Codec interface {
	Marshal(v any) ([]byte, error)
	Unmarshal(data []byte, v any) error
}

type jsonCodec struct{}

func (jsonCodec) Marshal(v any) ([]byte, error) { return json.Marshal(v) }

func (jsonCodec) Unmarshal(data []byte, v any) error { return json.Unmarshal(data, v) }

// WithCodec sets how inputs and outputs are encoded. The default is encoding/json.
func WithCodec(codec Codec) ClientOption {
	return clientOption(func(c *clientConfig) error {
		if codec == nil {
			return errors.New("stint: WithCodec(nil): want a codec")
		}
		c.codec = codec
		return nil
	})
}

// WithLogger sets where the client logs what it cannot return: a failed attempt, a
// recovery after a crash, a database that cannot be written. The default is
// slog.Default().
func WithLogger(l *slog.Logger) ClientOption {
	return clientOption(func(c *clientConfig) error {
		if l == nil {
			return errors.New("stint: WithLogger(nil): want a logger; slog.DiscardHandler makes a silent one")
		}
		c.logger = l
		return nil
	})
}

// WithDurability sets what an acknowledged change survives. The default is
// DurabilityFull. It is for Open; New's store has its own setting.
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

// WithRetention sets how long runs that succeeded or were canceled are kept after
// they ended. Failed ones are kept three times as long. The default is 30 days. What it
// is over for goes within a tenth of it, or an hour.
func WithRetention(d time.Duration) ClientOption {
	return clientOption(func(c *clientConfig) error {
		c.retention = d
		return wantPositive("WithRetention", d)
	})
}

// WithMiddleware wraps every handler of the client's workers. The first given is the
// outermost. An output of no bytes that a middleware returns is null, which is read as the
// zero value; one that is not JSON, or is larger than WithMaxPayload allows, fails the run.
func WithMiddleware(m func(Handler) Handler) ClientOption {
	return clientOption(func(c *clientConfig) error {
		if m == nil {
			return errors.New("stint: WithMiddleware(nil): want a function")
		}
		c.middleware = append(c.middleware, m)
		return nil
	})
}

// WithPriorityAgeing sets how long a run waits for its effective priority to rise by
// one, so that no run starves. The default is a minute; 0 turns it off. It holds for
// runs that this client enqueues.
func WithPriorityAgeing(d time.Duration) ClientOption {
	return clientOption(func(c *clientConfig) error {
		if d < 0 || d > 0 && d < time.Millisecond {
			return fmt.Errorf("stint: WithPriorityAgeing(%v): want 0 or at least 1ms", d)
		}
		c.ageing = d
		return nil
	})
}

// WithMaxPayload sets how many bytes an encoded input or output may have. The default
// is 4 MiB.
func WithMaxPayload(bytes int) ClientOption {
	return clientOption(func(c *clientConfig) error {
		if bytes < 1 {
			return fmt.Errorf("stint: WithMaxPayload(%d): want 1 or more", bytes)
		}
		c.maxPayload = bytes
		return nil
	})
}

// WithMaxResident sets how many runs that wait in a durable call may stay in memory for
// a moment, so that a short wait need not run the handler again. The default is 10,000;
// with 0 none does.
func WithMaxResident(n int) ClientOption {
	return clientOption(func(c *clientConfig) error {
		if n < 0 {
			return fmt.Errorf("stint: WithMaxResident(%d): want 0 or more", n)
		}
		c.maxResident = n
		return nil
	})
}

// WithReadOnly has the client only look. It fires no cron and no timer, recovers nothing,
// registers nothing, stores no definition, and leaves nothing beside the file; each call that
// changes something is ErrReadOnly, and so is NewWorker. What it shows follows the commits of
// others, and Run.Wait works. Backup and Check do too.
//
// With Open the file must exist and have the schema of this version; it may be one that the
// user may not write, in a directory that the user may not write. For New, open the store so
// that it does nothing by itself either (sqlite.Options.ReadOnly).
func WithReadOnly() ClientOption {
	return clientOption(func(c *clientConfig) error {
		c.readOnly = true
		return nil
	})
}

// Open opens the SQLite file at path, which is made, readable for its owner alone, if
// it is missing. ":memory:" is a database of the client's own that is gone when it is
// closed. Several clients, in one process or in many, may have one file open.
//
// The error says what to do: a directory that is missing, a file that is not a
// database or was made by a newer version, a file that cannot be written.
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

// New makes a client on any store. The client closes it.
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
	c := &Client{cfg: cfg, store: s, tasks: map[string]*taskDef{}, workers: map[*Worker]struct{}{}, waiters: map[store.ID]*errorWaiter{}}
	if err := guarded(c.measureAll); err != nil {
		return nil, errors.Join(wrapStoreErr("WithMeterProvider", err), s.Close())
	}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	if cfg.readOnly {
		c.store = readonly.New(s)
		return c, nil
	}
	c.loops.Go(c.recoverLoop)
	c.loops.Go(c.expireLoop)
	return c, nil
}

// Close drains the client's workers, waits for them, and closes the database. Calls in
// other goroutines, Wait among them, return ErrClosed. A second Close does nothing.
func (c *Client) Close() error {
	c.mu.Lock()
	first := !c.closed
	c.closed = true
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
	if c.meters.observed != nil {
		c.guardProvider(func() { c.meters.observed.Unregister() }) // its error says only that it was
	}
	if err := c.store.Close(); err != nil {
		return errorf("stint: close: %w", err)
	}
	return nil
}

// Healthy is nil, or why the database cannot be written at present: a full disk, a
// file made read-only, or one that is no longer at its path (ErrFileGone, ErrReplaced).
// Nothing is acknowledged meanwhile, and the client goes on by itself when it can.
func (c *Client) Healthy() error {
	if err := c.store.Healthy(); err != nil {
		return wrapStoreErr("degraded", err)
	}
	return nil
}

// recoverLoop gives the runs of dead processes back to the queue.
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
			pause(c.ctx, retryStore)
		}
	}
}

// expireLoop deletes what the retention is over for: soon, for a program that never runs
// long, and then each tenth of the retention.
func (c *Client) expireLoop() {
	every := min(expireEvery, max(c.cfg.retention/10, time.Second))
	for wait := min(every, expireSoon); pause(c.ctx, wait); wait = every {
		now := time.Now()
		n, err := c.store.Expire(c.ctx, clock.Add(now, -c.cfg.retention), clock.Add(now, clock.Mul(c.cfg.retention, -failedFactor)))
		if err != nil && c.ctx.Err() == nil {
			c.logger().Error("stint: deleting runs past their retention; will retry", "err", err, "in", every)
		} else if n > 0 {
			c.logger().Debug("stint: deleted runs past their retention", "runs", n)
		}
	}
}

// retryStore is the pause before a store that failed is asked again.
const retryStore = time.Second

// retryWhileDegraded makes a change that a handler depends on again and again, until the store can
// write it, or ctx ends: a disk that is full for a while is not the handler's failure.
func (c *Client) retryWhileDegraded(ctx context.Context, change func() error) error {
	for {
		err := change()
		if err == nil || !c.store.Degraded(err) {
			return err
		}
		c.logger().Warn("stint: the database cannot be written; will retry", "err", err, "in", retryStore)
		if !pause(ctx, retryStore) {
			return err
		}
	}
}

// pause waits for d, and reports false if ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// ReadOnly reports whether the client was made WithReadOnly.
func (c *Client) ReadOnly() bool { return c.cfg.readOnly }

// writable returns ErrReadOnly if the client may not change anything. Calls that read before
// they change ask it first; the rest learn it from the store.
func (c *Client) writable(op string) error {
	if c.cfg.readOnly {
		return wrapStoreErr(op, store.ErrReadOnly)
	}
	return nil
}
