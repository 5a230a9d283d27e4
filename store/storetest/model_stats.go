package storetest

import (
	"context"
	"time"

	"github.com/stint-dev/stint/store"
)

// Facts implements store.Health.
func (m *Model) Facts(context.Context) (store.Facts, error) {
	return store.Facts{Engine: "model"}, nil
}

// countStates counts the runs that have not ended.
func (m *Model) countStates() (map[store.State]int, error) {
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

// Changed implements store.Health.
func (m *Model) Changed(ctx context.Context, after uint64) (n uint64, err error) {
	err = m.wait(ctx, func() (bool, time.Time) {
		n = m.changes + 1
		return n > after, time.Time{}
	})
	return n, err
}
