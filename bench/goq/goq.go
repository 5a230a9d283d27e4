// Package goq adapts goqite and its jobs runner.
package goq

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"time"

	"maragu.dev/goqite"
	"maragu.dev/goqite/jobs"

	"github.com/stint-dev/stint/bench/hb"
)

// Schema is the table goqite's documentation asks the user to create.
const Schema = `
create table goqite (
  id text primary key default ('m_' || lower(hex(randomblob(16)))),
  created text not null default (strftime('%Y-%m-%dT%H:%M:%fZ')),
  updated text not null default (strftime('%Y-%m-%dT%H:%M:%fZ')),
  queue text not null,
  body blob not null,
  timeout text not null default (strftime('%Y-%m-%dT%H:%M:%fZ')),
  received integer not null default 0,
  priority integer not null default 0
) strict;
create trigger goqite_updated_timestamp after update on goqite begin
  update goqite set updated = strftime('%Y-%m-%dT%H:%M:%fZ') where id = old.id;
end;
create index goqite_queue_priority_created_idx on goqite (queue, priority desc, created);
`

type Peer struct {
	OpenDB func(dir string) (*sql.DB, string, error)
	PollMS int // 0: the default, 100 ms
	db     *sql.DB
	note   string
	q      *goqite.Queue
	cancel context.CancelFunc
	done   chan struct{}
}

func (p *Peer) Open(ctx context.Context, dir string) (err error) {
	if p.db, p.note, err = p.OpenDB(dir); err != nil {
		return err
	}
	if _, err = p.db.Exec(Schema); err != nil {
		return err
	}
	p.q = goqite.New(goqite.NewOpts{DB: p.db, Name: "jobs", Timeout: time.Minute})
	return nil
}

func body(t int64) []byte { b, _ := json.Marshal(hb.Payload{T: t, Pad: hb.Pad}); return b }

func (p *Peer) Enqueue(ctx context.Context, t int64) error {
	_, err := jobs.Create(ctx, p.q, "noop", goqite.Message{Body: body(t)})
	return err
}

func (p *Peer) Bulk(ctx context.Context, n int, delay time.Duration) error {
	tx, err := p.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	b := body(time.Now().UnixNano())
	for range n {
		if _, err := jobs.CreateTx(ctx, tx, p.q, "noop", goqite.Message{Body: b, Delay: delay}); err != nil {
			return err
		}
	}
	return tx.Commit()
}

func (p *Peer) Start(ctx context.Context, slots int, work func(int64)) error {
	r := jobs.NewRunner(jobs.NewRunnerOpts{Limit: slots, Queue: p.q, PollInterval: time.Duration(p.PollMS) * time.Millisecond,
		Extend: time.Minute})
	r.Register("noop", func(_ context.Context, m []byte) error {
		var v hb.Payload
		if err := json.Unmarshal(m, &v); err != nil {
			return err
		}
		work(v.T)
		return nil
	})
	cx, cancel := context.WithCancel(ctx)
	p.cancel, p.done = cancel, make(chan struct{})
	go func() { r.Start(cx); close(p.done) }()
	return nil
}

func (p *Peer) Stop(context.Context) {
	p.cancel()
	select {
	case <-p.done:
	case <-time.After(5 * time.Second):
	}
}

func (p *Peer) Left(ctx context.Context) (n int64, err error) {
	err = p.db.QueryRowContext(ctx, "select count(*) from goqite").Scan(&n)
	return
}
func (p *Peer) Close() { p.db.Close() }
func (p *Peer) Notes() string {
	poll := "poll 100ms: default"
	if p.PollMS > 0 {
		poll = fmt.Sprintf("poll %dms: tuned", p.PollMS)
	}
	return p.note + "[" + poll + ", message timeout 1m, bulk = 1 transaction of CreateTx]"
}
