package stint

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/stint-dev/stint/store"
)

// Stream appends a chunk to the run's stream, which any number of readers follow with
// Run.Stream. The chunk is durable when Stream returns. A commit stores at most 256 KiB of one
// run's chunks, or one larger chunk, so that a busy stream leaves room for others; further
// calls wait. Outside of a run it does nothing.
func Stream(ctx context.Context, chunk []byte) error {
	e := executionOf(ctx)
	if e == nil || e.replay != nil {
		return nil
	}
	if max := e.c.cfg.maxPayload; len(chunk) > max {
		return fmt.Errorf("stint: Stream: chunk of %d bytes: want at most %d (WithMaxPayload)", len(chunk), max)
	}
	release, err := e.streamSemaphore().acquire(ctx, len(chunk))
	if err != nil {
		return wrapStoreErr("stream", err)
	}
	if began := time.Now(); len(chunk) < chunkUnit {
		defer release()
	} else { // holds it as long again, so that others get the disk
		defer func() { time.AfterFunc(time.Since(began), release) }()
	}
	stale, err := e.c.store.Record(ctx, []store.Record{{ID: e.run.ID, Lease: e.run.Lease,
		Chunks: []store.Chunk{{Data: chunk, At: e.c.now(), Attempt: e.run.Attempt, Execution: e.run.Executions}}}})
	if err != nil {
		return wrapStoreErr("stream", err)
	}
	if stale[0] {
		return errors.New("stint: Stream: this attempt is over")
	}
	return nil
}

// Stream yields the chunks of the run's stream from the beginning, until the run has ended and
// all chunks are read. If ctx is done it yields that error last.
func (r *Run[Out]) Stream(ctx context.Context) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		for c, err := range r.Chunks(ctx, 0) {
			if !yield(c.Data, err) {
				return
			}
		}
	}
}

// Chunks yields what Stream does, with the time and the attempt of each chunk, and only chunks with numbers above after.
func (r *Run[Out]) Chunks(ctx context.Context, after int64) iter.Seq2[Chunk, error] {
	return func(yield func(Chunk, error) bool) {
		if r.idErr != nil {
			yield(Chunk{}, r.idErr)
			return
		}
		for after := max(after, 0); ; {
			chunks, ended, err := r.c.store.Chunks(ctx, r.id, after, chunksAtOnce)
			if err == nil && len(chunks) == 0 && !ended {
				_, err = r.c.store.Await(ctx, r.id, store.Until{Chunk: after + 1})
			}
			if err != nil {
				yield(Chunk{}, wrapStoreErr("stream", err))
				return
			}
			for _, c := range chunks {
				if !yield(Chunk(c), nil) {
					return
				}
				after = c.Seq
			}
			if ended {
				return
			}
		}
	}
}

const chunksAtOnce = 256

// StreamChunks returns up to limit chunks of a run's stream with numbers above after; the
// first chunk has number 1. It returns fewer, but at least one, when they reach 8 MiB, and
// none if no more are stored yet. Run.Stream waits for more.
func (c *Client) StreamChunks(ctx context.Context, runID string, after int64, limit int) ([][]byte, error) {
	chunks, err := c.Chunks(ctx, runID, max(after, 0), limit)
	if err != nil {
		return nil, err
	}
	all := make([][]byte, len(chunks))
	for i := range chunks {
		all[i] = chunks[i].Data
	}
	return all, nil
}

// A Chunk is a piece of a run's stream. A run that starts again, after a failure, a crash or a wait, appends to its stream;
// Attempt and Execution tell the chunks of each start apart.
type Chunk struct {
	Seq       int64 // its number in the run, from 1
	Data      []byte
	At        time.Time
	Attempt   int
	Execution int // RunInfo.Executions at that time
}

// Chunks returns what StreamChunks does, with the time and the attempt of each chunk. A negative after means the end of the
// stream: all but the last -after of the chunks stored are left out. Run.Chunks waits for more.
func (c *Client) Chunks(ctx context.Context, runID string, after int64, limit int) ([]Chunk, error) {
	u, err := parseID(runID)
	if err != nil {
		return nil, err
	}
	stored, _, err := c.store.Chunks(ctx, u, after, limit)
	if err != nil {
		return nil, wrapStoreErr("stream", err)
	}
	all := make([]Chunk, len(stored))
	for i, s := range stored {
		all[i] = Chunk(s)
	}
	return all, nil
}

// A chunkSemaphore limits the chunks of a run that are on their way to the store to one
// portion.
type chunkSemaphore struct {
	lock   chan struct{} // held while taking tokens: two takers with some each would wait for ever
	tokens chan struct{}
}

func newChunkSemaphore() *chunkSemaphore {
	return &chunkSemaphore{make(chan struct{}, 1), make(chan struct{}, portion/chunkUnit)}
}

// acquire waits, in order, until a chunk of that size may be stored. release must be called
// after.
func (s *chunkSemaphore) acquire(ctx context.Context, size int) (release func(), err error) {
	select {
	case s.lock <- struct{}{}:
		defer func() { <-s.lock }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	n := 0
	release = func() {
		for range n {
			<-s.tokens
		}
	}
	for want := min(1+size/chunkUnit, cap(s.tokens)); n < want; n++ {
		select {
		case s.tokens <- struct{}{}:
		case <-ctx.Done():
			release()
			return nil, ctx.Err()
		}
	}
	return release, nil
}

// streamSemaphore returns the semaphore of the run's chunks.
func (e *execution) streamSemaphore() *chunkSemaphore {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.streamLimit == nil {
		e.streamLimit = newChunkSemaphore()
	}
	return e.streamLimit
}
