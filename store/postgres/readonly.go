package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// A store that only reads is not in the table of processes, and changes nothing: it may be on a standby, or of a
// role that may only SELECT. Nobody can listen on a standby, so it looks each second whether something has changed.

// openReading opens a store that only reads. c is a connection for the moment.
func (s *Store) openReading(ctx context.Context, c *pgx.Conn) (_ *Store, err error) {
	if s.settings.follows == nil {
		err = s.settings.isOpen(ctx, c)
	}
	if err == nil {
		err = s.settings.measure(ctx, &s.clock, c)
	}
	if err == nil {
		s.read, err = newReaders(ctx, s.settings)
	}
	if err != nil {
		return nil, explain(err)
	}
	s.measured = time.Now()
	s.w = newWriter(s) // which is idle
	s.startReading()
	return s, nil
}

// startReading begins the goroutine of a store that only reads, which Close ends.
func (s *Store) startReading() {
	ctx, stop := context.WithCancel(context.Background())
	s.stopReading = stop
	s.reading.Go(func() {
		var seen string
		for {
			select {
			case <-time.After(lookEvery):
			case <-ctx.Done():
				return
			}
			last := seen
			err := s.view(ctx, func(c *pgx.Conn) error {
				if time.Since(s.measured) >= clockEvery {
					s.measured = time.Now()
					if err := s.settings.measure(ctx, &s.clock, c); err != nil {
						return err
					}
				}
				return c.QueryRow(ctx, "SELECT pg_current_snapshot()::text").Scan(&seen)
			})
			if ctx.Err() != nil {
				return
			}
			if err != nil {
				err = &unavailableError{err}
			}
			s.setHealth(err)
			if seen != last {
				s.commits.Add(1)
				s.lookForEnds(ctx)
			}
		}
	})
}

// closeReading ends a store that only reads.
func (s *Store) closeReading() error {
	s.stopReading()
	s.reading.Wait()
	s.commits.Add(1)
	s.awaits.close()
	s.watches.closeAll()
	s.gather.close()
	s.read.Close()
	return nil
}
