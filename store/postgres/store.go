package postgres

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stint-dev/stint/internal/commits"
	"github.com/stint-dev/stint/internal/graphcache"
	"github.com/stint-dev/stint/internal/sample"
	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/cron"
	"github.com/stint-dev/stint/store/internal/keys"
)

// A Store keeps the state of engines in a PostgreSQL database.
type Store struct {
	settings *settings
	ids      keys.IDs
	keys     keyGiver
	clock    serverClock
	direct   *direct
	w        *writer
	finisher *finisher // nil: the writer ends runs
	acks     acks
	graphs   graphcache.Cache
	lanes    laneCache
	flows    flows
	awaits   awaits
	watches  watches
	read     *pgxpool.Pool
	notifier *notifier
	asking   chan struct{} // capacity 1: held by who asks others to tell of ends
	xids     *xids
	pending  *publisher
	sweeper  *sweeper
	sampler  *sample.Loop
	looker   *looker
	gather   *gatherers
	commits  commits.Counter
	ticks    cron.Missed // which to leave alone at first
	appMu    sync.Mutex
	app      *appDB // for BeginTx, which creates it
	closed   atomic.Bool

	// Of a store that only reads.
	reading     sync.WaitGroup
	stopReading context.CancelFunc
	measured    time.Time // the clock

	texts     sync.Map // of package reading: as rewritten
	textCount atomic.Int64
}

var (
	_ store.Store = (*Store)(nil)
	_ store.Clock = (*Store)(nil)
)

// Open opens the database at a URL, as of libpq: postgres://user:password@host/database. It creates or
// updates the store's tables if the role may. Programs of the release before this one may have it open, and go
// on (Migrate).
func Open(ctx context.Context, url string, opts Options) (*Store, error) {
	set, err := newSettings(url, opts)
	if err != nil {
		return nil, err
	}
	return open(ctx, set)
}

func open(ctx context.Context, set *settings) (*Store, error) {
	c, err := set.first(ctx)
	if err != nil {
		return nil, err
	}
	defer c.Close(context.WithoutCancel(ctx))
	if err := set.check(ctx, c); err != nil {
		return nil, err
	}
	if err := set.checkConnections(ctx, c); err != nil {
		return nil, err
	}
	if err := set.migrate(ctx, c, set.needs()); err != nil {
		return nil, err
	}
	secret, err := set.secret(ctx, c)
	if err != nil {
		return nil, err
	}
	s := &Store{settings: set, asking: make(chan struct{}, 1)}
	s.gather = newGatherers(s)
	if s.ids, err = keys.New(secret); err != nil {
		return nil, err
	}
	if set.ReadOnly {
		return s.openReading(ctx, c)
	}
	if s.read, err = newReaders(ctx, set); err != nil {
		return nil, err
	}
	if s.direct, err = newDirect(ctx, set, &s.clock); err != nil {
		s.read.Close()
		return nil, err
	}
	if err := set.admit(ctx, s.direct.process); err != nil {
		s.read.Close()
		return nil, errors.Join(err, set.leave(ctx, s.direct.process), s.direct.process.conn.Close(context.WithoutCancel(ctx)))
	}
	s.keys.setNumber(s.direct.process.number)
	s.direct.heard = s.heard
	s.direct.missed = s.missed
	s.direct.silent = func() { s.watches.lose(nil) }
	s.direct.revived, s.direct.startOver = s.revived, s.startOver
	s.notifier = newNotifier(s)
	s.xids = newXids(s)
	s.pending = newPublisher(s)
	s.w = newWriter(s)
	s.ticks.Open(s.clock.Now().UnixMilli())
	s.sweeper = newSweeper(s)
	s.looker = newLooker(s)
	s.sampler = sample.Start(sampling{s})
	s.direct.start()
	s.finisher = newFinisher(s)
	go s.w.run()
	return s, nil
}

// Close implements store.Store.
func (s *Store) Close() error {
	if s.closed.Swap(true) {
		return nil
	}
	if s.settings.ReadOnly {
		return s.closeReading()
	}
	s.sampler.Close()
	s.w.endClaims()
	ctx, cancel := context.WithTimeout(context.Background(), closeWait)
	defer cancel()
	s.do(ctx, releaseOwn) // or others do it
	s.pending.close()
	s.sweeper.close()
	s.finisher.close()
	s.w.close()
	s.commits.Add(1)
	s.xids.close()
	s.notifier.close()
	s.appMu.Lock()
	if s.app != nil {
		s.app.close()
	}
	s.appMu.Unlock()
	s.awaits.close()
	s.looker.close()
	s.watches.closeAll()
	s.gather.close()
	s.read.Close()
	return s.direct.close(context.Background())
}

func (s *Store) isClosed() bool { return s.closed.Load() }

// sql returns a statement for the store's schema.
func (s *Store) sql(text string) string { return s.settings.sql(text) }

// Now implements store.Clock.
func (s *Store) Now() time.Time { return s.clock.Now() }

// heard does what another process's commit asks for.
func (s *Store) heard(n notice) {
	if n.There {
		s.notifier.othersCame()
	}
	s.commits.Add(1)
	s.awaits.signal(n.Runs)
	s.awaits.changed(n.Chunks)
	if n.All || n.Ended {
		signal(s.looker.signaled)
	}
	if n.All {
		signal(s.sweeper.signaled)
		s.watches.signal(nil)
	} else if len(n.Workers) > 0 {
		s.watches.signal(n.Workers)
	}
	s.w.lookAt(n)
}

// missed looks at everything: notices may have been lost, and claims were held back while the server was silent.
func (s *Store) missed() {
	s.setHealth(nil) // the next commit finds out
	s.heard(notice{All: true})
	s.w.recheckClaims(true)
	signal(s.w.signaled)
}

// setHealth records whether the store can write.
func (s *Store) setHealth(err error) {
	if err == nil {
		s.w.health.Store(nil)
	} else {
		s.w.health.Store(&err)
	}
}

// Healthy implements store.Health.
func (s *Store) Healthy() error {
	if err := s.w.health.Load(); err != nil {
		return *err
	}
	if s.settings.ReadOnly {
		return nil
	}
	return s.direct.health()
}
