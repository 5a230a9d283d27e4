package sqlite

import (
	"encoding/json"

	"github.com/stint-dev/stint/store/internal/ready"
)

// workers keep the living ones in memory.
type workers struct {
	*unit
	passive
	living []ready.Peer // nil: not known
}

func (ws *workers) forget()     { ws.living = nil }
func (ws *workers) rolledBack() { ws.forget() }
func (ws *workers) outdated()   { ws.forget() }

// peers returns the living workers.
func (ws *workers) peers() ([]ready.Peer, error) {
	if ws.living != nil {
		return ws.living, nil
	}
	type row struct {
		ready.Peer
		labelText, queueText []byte
	}
	rows, err := rowsOf(ws, func(r *row) []any { return []any{&r.ID, &r.Name, &r.Slots, &r.labelText, &r.queueText} },
		"SELECT id, name, slots, labels, queues FROM stint_workers WHERE ended_at IS NULL")
	if err != nil {
		return nil, err
	}
	all := make([]ready.Peer, 0, len(rows))
	for _, r := range rows {
		if json.Unmarshal(r.labelText, &r.Labels) != nil || json.Unmarshal(r.queueText, &r.Queues) != nil {
			continue // changed by hand: it has no labels
		}
		all = append(all, r.Peer)
	}
	ws.living = all
	return all, nil
}
