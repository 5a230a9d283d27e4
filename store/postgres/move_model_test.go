package postgres

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"flag"
	"math"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/storetest"
)

// A moved is a file and the schema that it moves to, after so many calls of the stores that follow it.
type moved struct {
	path  string
	opts  Options
	after int64
	still bool // nothing else works meanwhile: what the store tells is compared with what it told before
	calls atomic.Int64
	once  sync.Once
}

// A movingStore is a follower whose file moves in the middle of a test.
type movingStore struct {
	*follower
	t testing.TB
	*moved
}

func (m *movingStore) step() {
	if m.calls.Add(1) >= m.after {
		m.move()
	}
}

func (m *movingStore) move() {
	m.once.Do(func() {
		if m.still {
			before := dump(m.t, m.follower, false)
			defer func() { same(m.t, before, dump(m.t, m.follower, false)) }()
		}
		r, err := Move(context.Background(), m.path, serverURL(m.t), MoveOptions{Options: m.opts})
		if err != nil {
			m.t.Error(err)
		}
		for _, p := range r.Problems {
			m.t.Error(p)
		}
	})
}

func (m *movingStore) Enqueue(ctx context.Context, now time.Time, runs []store.NewRun) ([]store.Enqueued, error) {
	m.step()
	return m.follower.Enqueue(ctx, now, runs)
}

func (m *movingStore) Claim(ctx context.Context, r store.ClaimRequest) ([]store.Claimed, error) {
	m.step()
	return m.follower.Claim(ctx, r)
}

func (m *movingStore) Append(ctx context.Context, now time.Time, c store.Call) (store.Entry, bool, error) {
	m.step()
	return m.follower.Append(ctx, now, c)
}

func (m *movingStore) Finish(ctx context.Context, now time.Time, outcomes []store.Outcome) ([]bool, error) {
	m.step()
	return m.follower.Finish(ctx, now, outcomes)
}

func (m *movingStore) Publish(ctx context.Context, now time.Time, events []store.NewEvent) ([]store.ID, error) {
	m.step()
	return m.follower.Publish(ctx, now, events)
}

func (m *movingStore) List(ctx context.Context, f store.Filter, before store.ID, limit int) ([]store.Run, store.ID, error) {
	m.step()
	return m.follower.List(ctx, f, before, limit)
}

// Crash kills the process, in the database: the move comes first.
func (m *movingStore) Crash() {
	m.move()
	if err := m.Read(context.Background(), &store.StateCount{}); err != nil {
		m.t.Error(err)
	}
	m.follower.mu.Lock()
	m.follower.closed = true
	b := m.follower.now
	m.follower.mu.Unlock()
	m.follower.closing.Wait()
	b.Store.(*Store).Crash()
}

// long makes each file of the tests move, not a part of them: a move of a file with little in it takes 0.2 s, most of it
// for the tables of the target.
var long = flag.Bool("long", false, "move the file in each rule and each random sequence")

// movingStores opens stores of a directory that follow its file. The files of one directory in every move, after a number
// of calls that differs from directory to directory, and is at most most.
func movingStores(every int, most int64, still bool) func(t testing.TB, dir string) *movingStore {
	dirs := map[string]*moved{}
	if *long {
		every = 1
	}
	return func(t testing.TB, dir string) *movingStore {
		d := dirs[dir]
		if d == nil {
			sum := sha256.Sum256([]byte(dir))
			d = &moved{path: filepath.Join(dir, "app.db"), opts: Options{Schema: "m_" + hex.EncodeToString(sum[:8])},
				after: math.MaxInt64, still: still}
			if n := len(dirs); n%every == 0 {
				d.after = 1 + int64(n/every*7)%most
			}
			if strings.Contains(t.Name(), "what_happened_is_counted") {
				d.after = 1 // what a process has counted in the last second before the move is lost, as Stats says
			}
			dirs[dir] = d
			makeFile(t, d.path)
			dropAfter(t, d.opts)
		}
		f, err := FollowWith(d.path, serverURL(t), d.opts)
		if err != nil {
			t.Fatal(err)
		}
		return &movingStore{f.(*follower), t, d}
	}
}

// A file moves in the middle of rules.
func TestFollowKeepsTheRules(t *testing.T) {
	serverURL(t)
	open := movingStores(3, 6, false)
	storetest.Run(t, func(t testing.TB, dir string) store.Store { return open(t, dir) })
}

// A file moves in the middle of random sequences, which two programs that follow it go on with.
func TestRandomMoves(t *testing.T) {
	serverURL(t)
	open := movingStores(1, 23, true)
	if checks := flag.Lookup("rapid.checks"); !*long {
		defer checks.Value.Set(checks.Value.String())
		checks.Value.Set("12")
	}
	storetest.Random(t, func(t testing.TB, dir string) storetest.Crasher { return open(t, dir) })
}
