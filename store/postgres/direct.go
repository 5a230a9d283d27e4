package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// A direct is the process's own connection to the server: it shows that the process lives, measures the
// server's clock, and listens for what others have committed. One goroutine owns it, and replaces it when
// it breaks.
type direct struct {
	s       *settings
	process *process
	clock   *serverClock
	heard   func(notice)                // what others have committed
	missed  func()                      // notices may have been lost: look at everything
	silent  func()                      // the server has not answered for silentAfter
	revived func(context.Context) error // the process was taken for dead, and is in the table again

	answered  atomic.Int64 // when the last beat was sent that the server has answered: nanoseconds since began
	away      atomic.Pointer[error]
	began     time.Time
	measured  time.Time
	startOver func(context.Context) error // the server has lost its last commits
	setBack   atomic.Bool                 // it has, and startOver was not done yet
	dead      bool                        // others have taken the process for dead, and revived was not done yet
	wg        sync.WaitGroup
	stop      context.CancelFunc
}

// A notice says what a commit has changed. Empty fields were not changed.
type notice struct {
	From    string  `json:"f,omitempty"` // the process
	Lanes   []int64 `json:"l,omitempty"` // with new ready runs
	Ranks   []int64 `json:"r,omitempty"` // the lowest of each lane's
	Workers []int64 `json:"w,omitempty"` // with runs that were asked to cancel
	Runs    []int64 `json:"i,omitempty"` // that ended
	Chunks  []int64 `json:"c,omitempty"` // runs that have new chunks or entries
	Ended   bool    `json:"e,omitempty"` // there are more of either
	Epoch   bool    `json:"p,omitempty"` // what processes remember is outdated
	Timers  int64   `json:"t,omitempty"` // the earliest new time that a row has, in milliseconds
	All     bool    `json:"a,omitempty"` // more than a notice holds
	There   bool    `json:"n,omitempty"` // the process has come, or begins to wait for what runs do
}

// maxNotice is the size of a notice: PostgreSQL's limit is 8000 bytes.
const maxNotice = 7900

func (n *notice) encode() string {
	b, err := json.Marshal(n)
	if err != nil || len(b) > maxNotice {
		b, _ = json.Marshal(notice{From: n.From, Epoch: n.Epoch, Timers: n.Timers, All: true}) // numbers always encode
	}
	return string(b)
}

// channel is the channel of notices of a schema.
func (s *settings) channel() string { return s.Schema + "_commits" }

// newDirect connects, enters the process in the table, and listens.
func newDirect(ctx context.Context, s *settings, k *serverClock) (*direct, error) {
	d := &direct{s: s, clock: k, began: time.Now()}
	c, err := s.connect(ctx, s.direct)
	if err != nil {
		return nil, err
	}
	if d.process, err = s.join(ctx, c); err == nil {
		err = d.prepare(ctx, c)
	}
	if err != nil {
		return nil, errors.Join(err, c.Close(context.WithoutCancel(ctx)))
	}
	return d, nil
}

// prepare makes a connection listen.
func (d *direct) prepare(ctx context.Context, c *pgx.Conn) error {
	d.measured = time.Now()
	if err := d.s.measure(ctx, d.clock, c); err != nil {
		return err
	}
	if d.s.polls() {
		return nil
	}
	_, err := c.Exec(ctx, "LISTEN "+d.s.channel())
	if err == nil {
		err = d.s.sayThere(ctx, c, d.process.name)
	}
	return explain(err)
}

// lost reports whether the server has not answered for so long that others may take the process for dead.
func (d *direct) lost() bool {
	return !d.s.bubble && d.silence() > d.s.silentAfter
}

func (d *direct) silence() time.Duration {
	return time.Since(d.began) - time.Duration(d.answered.Load())
}

// health returns nil, or why the process is cut off from the server.
func (d *direct) health() error {
	if err := d.away.Load(); err != nil {
		return *err
	}
	if d.lost() {
		return &unavailableError{fmt.Errorf("the server has not answered for %v: is it overloaded, or the network cut?",
			d.silence().Truncate(time.Second))}
	}
	return nil
}

// start begins the goroutines, which close ends.
func (d *direct) start() {
	ctx, stop := context.WithCancel(context.Background())
	d.stop = stop
	d.wg.Go(func() { d.run(ctx) })
	if !d.s.bubble {
		d.wg.Go(func() { d.watchSilence(ctx) })
	}
}

// end ends the goroutines.
func (d *direct) end() {
	d.stop()
	d.wg.Wait()
}

// close ends the goroutines and removes the process from the table.
func (d *direct) close(ctx context.Context) error {
	d.end()
	if d.process.conn.IsClosed() { // a beat was cut short
		c, err := d.s.connect(ctx, d.s.direct)
		if err != nil {
			return nil // others remove it, as they do if a program dies
		}
		d.process.conn, d.process.locked = c, false
	}
	err := d.s.leave(ctx, d.process)
	return errors.Join(err, d.process.conn.Close(ctx))
}

// watchSilence calls silent, once a silence: the other goroutine may be waiting for an answer.
func (d *direct) watchSilence(ctx context.Context) {
	for told := false; ; {
		wait := max(d.s.silentAfter-d.silence(), d.s.silentAfter/10)
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
		if lost := d.lost(); lost != told {
			if told = lost; lost {
				d.silent()
			} else {
				d.missed()
			}
		}
	}
}

func (d *direct) run(ctx context.Context) {
	every := beatEvery
	if d.s.bubble { // an hour passes in a moment there
		every = 1000 * time.Hour
	}
	beat := time.Now().Add(every)
	for ctx.Err() == nil {
		err := d.listen(ctx, beat)
		if err == nil && !time.Now().Before(beat) {
			beat = time.Now().Add(every)
			err = d.beat(ctx)
		}
		if err != nil && ctx.Err() == nil {
			d.reconnect(ctx)
			d.missed()
		}
	}
}

// listen passes notices on until a time.
func (d *direct) listen(ctx context.Context, until time.Time) error {
	ctx, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	if d.s.polls() {
		<-ctx.Done()
		return nil
	}
	for {
		n, err := d.process.conn.WaitForNotification(ctx)
		switch {
		case pgconn.Timeout(err) || err != nil && ctx.Err() != nil:
			return nil
		case err != nil:
			return err
		}
		var x notice
		if json.Unmarshal([]byte(n.Payload), &x) != nil {
			x = notice{All: true} // somebody else's
		}
		if x.From != d.process.name {
			d.heard(x)
		}
	}
}

// beat shows that the process lives, and measures the clock if it is time to. After a lost connection the
// server may hold the lock for that for a while: it is tried again with each beat.
func (d *direct) beat(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, d.s.deadSilent)
	defer cancel()
	sent := time.Since(d.began) // the server takes it later
	alive, err := d.s.beat(ctx, d.process)
	if err == nil && !alive {
		d.dead = true
		err = d.enter(ctx)
	}
	if err == nil {
		_, err = d.s.lock(ctx, d.process)
	}
	if err == nil && d.dead {
		if err = d.revived(ctx); err == nil {
			d.dead = false
		}
	}
	if err == nil && d.setBack.Swap(false) {
		if err = d.startOver(ctx); err != nil {
			d.setBack.Store(true)
		}
	}
	if err == nil && time.Since(d.measured) >= clockEvery {
		d.measured = time.Now()
		err = d.s.measure(ctx, d.clock, d.process.conn)
	}
	if err == nil {
		d.answered.Store(int64(sent))
	}
	return err
}

// enter enters a process anew that was taken for dead. Its runs are those of others by then.
func (d *direct) enter(ctx context.Context) error {
	if err := d.s.unlock(ctx, d.process); err != nil {
		return err
	}
	err := d.s.enter(ctx, d.process)
	if err == nil && !d.s.polls() {
		err = explain(d.s.sayThere(ctx, d.process.conn, d.process.name))
	}
	return err
}

// reconnect replaces a broken connection, and waits for a server that is away.
func (d *direct) reconnect(ctx context.Context) {
	d.process.conn.Close(ctx)
	d.process.locked = false
	for pause := reconnectMin; ; pause = min(2*pause, reconnectMax) {
		c, err := d.s.connect(ctx, d.s.direct)
		if err == nil {
			d.process.conn = c
			if err = d.prepare(ctx, c); err == nil {
				err = d.beat(ctx)
			}
			if err == nil {
				d.away.Store(nil)
				return
			}
			c.Close(ctx)
		}
		if ctx.Err() == nil {
			var away error = &unavailableError{err}
			d.away.Store(&away)
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return
		}
	}
}
