package report

import "context"

// ChunkUnit is the number of bytes counted at least for a chunk.
const ChunkUnit = 4 << 10

// Chunks limits the chunks of a run that are on their way to the store to one portion.
type Chunks struct {
	lock   chan struct{} // held while taking tokens: two takers with some each would wait for ever
	tokens chan struct{}
}

// NewChunks returns a Chunks for one run.
func NewChunks() *Chunks {
	return &Chunks{make(chan struct{}, 1), make(chan struct{}, Portion/ChunkUnit)}
}

// Acquire waits, in order, until a chunk of that size may be stored. release must be called
// after.
func (s *Chunks) Acquire(ctx context.Context, size int) (release func(), err error) {
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
	for want := min(1+size/ChunkUnit, cap(s.tokens)); n < want; n++ {
		select {
		case s.tokens <- struct{}{}:
		case <-ctx.Done():
			release()
			return nil, ctx.Err()
		}
	}
	return release, nil
}
