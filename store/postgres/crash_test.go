package postgres

import (
	"context"

	"github.com/stint-dev/stint/store"
)

// Crash makes the store die as if its process was killed: it releases no runs and returns nothing more.
func (s *Store) Crash() {
	if s.closed.Swap(true) {
		return
	}
	s.w.endClaims()
	s.pending.close()
	s.sampler.Close()
	s.sweeper.close()
	s.finisher.close()
	s.w.close()
	s.xids.close()
	s.notifier.close()
	s.awaits.close()
	s.looker.close()
	s.watches.closeAll()
	s.read.Close()
	s.direct.end()
	s.direct.process.conn.Close(context.Background()) // and leaves its row, as a kill does
}

var _ interface {
	store.Store
	Crash()
} = (*Store)(nil)
