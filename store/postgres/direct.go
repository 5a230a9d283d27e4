package postgres

import (
	"context"
	"encoding/json"
	"errors"
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
	revived func(context.Context) error // the process was taken for dead, and lives again

	answered atomic.Int64 // when the server last answered: nanoseconds since began
	began    time.Time
	measured time.Time
	done     chan struct{}
	stop     context.CancelFunc
}

// A notice says what a commit has changed. Empty fields were not changed.
type notice struct {
	From    string  `json:"f,omitempty"` // the process
	Lanes   []int64 `json:"l,omitempty"` // with new ready runs
	Workers []int64 `json:"w,omitempty"` // with runs that were asked to cancel
	Ended   bool    `json:"e,omitempty"` // runs have ended
	Timers  int64   `json:"t,omitempty"` // the earliest new time that a row has, in milliseconds
	All     bool    `json:"a,omitempty"` // more than a notice holds
}

// maxNotice is the size of a notice: PostgreSQL's limit is 8000 bytes.
const maxNotice = 7900

func (n *notice) encode() string {
	b, err := json.Marshal(n)
	if err != nil || len(b) > maxNotice {
		b, _ = json.Marshal(notice{From: n.From, Timers: n.Timers, All: true}) // numbers always encode
	}
	return string(b)
}

// channel is the channel of notices of a schema.
func (s *settings) channel() string { return s.Schema + "_commits" }

// newDirect connects, enters the process in the table, and listens.
func newDirect(ctx context.Context, s *settings, k *serverClock) (*direct, error) {
	d := &direct{s: s, clock: k, began: time.Now(), done: make(chan struct{})}
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
	d.answer()
	if d.s.polls() {
		return nil
	}
	_, err := c.Exec(ctx, "LISTEN "+d.s.channel())
	return explain(err)
}

func (d *direct) answer() { d.answered.Store(int64(time.Since(d.began))) }

// lost reports whether the server has not answered for so long that others may take the process for dead.
func (d *direct) lost() bool {
	if d.s.bubble {
		return false
	}
	return time.Since(d.began)-time.Duration(d.answered.Load()) > silentAfter
}

// start begins the goroutine, which close ends.
func (d *direct) start() {
	ctx, stop := context.WithCancel(context.Background())
	d.stop = stop
	go func() {
		defer close(d.done)
		d.run(ctx)
	}()
}

// close ends the goroutine and removes the process from the table.
func (d *direct) close(ctx context.Context) error {
	d.stop()
	<-d.done
	err := d.s.leave(ctx, d.process)
	return errors.Join(err, d.process.conn.Close(ctx))
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
		d.answer()
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
	ctx, cancel := context.WithTimeout(ctx, deadSilent)
	defer cancel()
	alive, err := d.s.beat(ctx, d.process)
	switch {
	case err != nil:
		return err
	case !alive:
		err = d.revive(ctx)
	default:
		_, err = d.s.lock(ctx, d.process)
	}
	if err == nil && time.Since(d.measured) >= clockEvery {
		d.measured = time.Now()
		err = d.s.measure(ctx, d.clock, d.process.conn)
	}
	if err == nil {
		d.answer()
	}
	return err
}

// revive enters a process anew that was taken for dead. Its runs are those of others by then.
func (d *direct) revive(ctx context.Context) error {
	if err := d.s.unlock(ctx, d.process); err != nil {
		return err
	}
	if err := d.s.enter(ctx, d.process); err != nil {
		return err
	}
	return d.revived(ctx)
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
				return
			}
			c.Close(ctx)
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return
		}
	}
}
