package storetest

import (
	"context"
	"errors"
	"time"

	"github.com/stint-dev/stint/store"
)

// Counters implements store.Stats. What stores count is no part of what the model proves.
func (m *Model) Counters(context.Context, time.Duration, time.Time, store.Per) ([]store.Counters, error) {
	return nil, errors.ErrUnsupported
}

// Facts implements store.Stats.
func (m *Model) Facts(context.Context) (store.Facts, error) {
	return store.Facts{Engine: "model"}, nil
}

// Counts implements store.Stats.
func (m *Model) Counts(context.Context) (map[store.State]int, error) {
	if err := m.lock(); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	m.advance(time.Now())
	counts := map[store.State]int{}
	for _, s := range store.States {
		if !s.Terminal() {
			counts[s] = 0
		}
	}
	for _, r := range m.runs {
		if !r.State.Terminal() {
			counts[r.State]++
		}
	}
	return counts, nil
}

// Changed implements store.Stats.
func (m *Model) Changed(ctx context.Context, after uint64) (n uint64, err error) {
	err = m.wait(ctx, func() (bool, time.Time) {
		n = m.changes + 1
		return n > after, time.Time{}
	})
	return n, err
}
