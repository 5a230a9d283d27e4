package hatchet

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/hatchet/internal/wire"
)

// Kinds of nodes, as the names of their steps have them.
const (
	kindMemo = "memo"
	kindRun  = "run"
	kindWait = "wait"
)

// told is the result of the step of a node whose end was told: a task hears of ends in the same order each time.
type told struct {
	Order int             `json:"order"`
	End   json.RawMessage `json:"end,omitempty"` // of a wait that looked back: what it found
}

func toldOf(s *stint.OpenStep) (t told, ok bool) {
	stored, ok := s.Result()
	return t, ok && json.Unmarshal(stored, &t) == nil
}

// isEnd reports whether the node is one whose end is told.
func (n *node) isEnd() bool { return n.child != "" || n.waits != nil }

// tellings say in which order ends are told: first the nodes of order, when they have ended, then others as they end.
type tellings struct {
	order []int64
	ended map[int64]bool // and are not told
	late  []int64        // those that are not in order
	last  int            // the highest number that was told
}

// come notes that a node has ended.
func (t *tellings) come(id int64) {
	if t.ended == nil {
		t.ended = map[int64]bool{}
	}
	if t.ended[id] = true; !slices.Contains(t.order, id) {
		t.late = append(t.late, id)
	}
}

// next returns the node of whose end is told next, or 0, and forgets it.
func (t *tellings) next() (id int64) {
	switch {
	case len(t.order) > 0 && t.ended[t.order[0]]:
		id, t.order = t.order[0], t.order[1:]
	case len(t.order) == 0 && len(t.late) > 0:
		id, t.late = t.late[0], t.late[1:]
	}
	delete(t.ended, id)
	return id
}

// A past is what the journal says of a node.
type past struct {
	id    int64
	order int // as which its end was told; 0: it was not
	waits int // that have not ended
	child string
	at    time.Time // when it ended; zero: it has not
}

// read reads which ends were told, in which order, and then which have come since, in the order in which they came.
func (t *tellings) read(ctx context.Context, c *stint.Client, entries []stint.JournalEntry) error {
	var ends []*past
	for _, p := range pastOf(entries) {
		if t.last = max(t.last, p.order); p.order == 0 && p.child != "" {
			info, err := c.GetRun(ctx, p.child)
			if errors.Is(err, stint.ErrNotFound) {
				continue
			}
			if err != nil {
				return err
			}
			p.at = info.Finished
		}
		if p.order > 0 || p.waits == 0 && !p.at.IsZero() {
			ends = append(ends, p)
		}
	}
	slices.SortFunc(ends, func(a, b *past) int {
		switch {
		case a.order > 0 && b.order > 0:
			return cmp.Compare(a.order, b.order)
		case a.order > 0:
			return -1
		case b.order > 0:
			return 1
		}
		return cmp.Or(a.at.Compare(b.at), cmp.Compare(a.id, b.id))
	})
	for _, p := range ends {
		t.order = append(t.order, p.id)
	}
	return nil
}

// endOf returns when a wait ended; zero: it has not. That its time has come may not be recorded yet.
func endOf(e *stint.JournalEntry) time.Time {
	switch {
	case e.Done:
		return e.At
	case !e.Due.IsZero() && !e.Due.After(time.Now()):
		return e.Due
	}
	return time.Time{}
}

// pastOf returns the nodes that a journal has and whose ends are told.
func pastOf(entries []stint.JournalEntry) []*past {
	var all []*past
	for i := range entries {
		e := &entries[i]
		if strings.Contains(e.Address, "/") || isTimeout(e) {
			continue
		}
		switch n, ok := nodeOf(e); {
		case ok && n.kind != kindMemo:
			p := &past{id: n.id}
			if e.Done {
				var t told
				if json.Unmarshal(e.Output, &t) == nil {
					p.order = t.Order
				}
			}
			all = append(all, p)
		case e.Kind == "wait" && len(all) > 0:
			p := all[len(all)-1]
			if at := endOf(e); at.IsZero() {
				p.waits++
			} else if at.After(p.at) {
				p.at = at
			}
		case e.Kind == "child":
			var ids []string
			if json.Unmarshal(e.Output, &ids) != nil || len(ids) > len(all) {
				continue
			}
			for j, p := range all[len(all)-len(ids):] {
				p.child = ids[j]
			}
		}
	}
	return all
}

// A nodeName is what the name of a node's step says.
type nodeName struct {
	id    int64
	kind  string
	later bool // a child that is not the first of its operation
}

// nodeOf returns the node whose step an entry is.
func nodeOf(e *stint.JournalEntry) (n nodeName, ok bool) {
	words := strings.Fields(e.Name)
	if e.Kind != "step" || len(words) < 3 {
		return n, false
	}
	id, err := strconv.ParseInt(words[0], 10, 64)
	return nodeName{id, words[1], words[1] == kindRun && !strings.HasPrefix(words[2], "1/")}, err == nil
}

// tell tells the SDK of ends that have come and whose turn it is. That it was told is recorded before.
func (d *durable) tell() error {
	for {
		id := d.next()
		if id == 0 {
			return nil
		}
		n := d.nodes[id-1]
		end, t := n.end, told{}
		if end == nil {
			payload, looked, err := n.payload(d.ctx)
			if err != nil {
				return err
			}
			if end = (&wire.DurableEntryCompleted{Payload: payload}); looked {
				t.End = payload
			}
		}
		if _, was := n.step.Result(); !was {
			d.last++
			t.Order = d.last
			stored, err := json.Marshal(t)
			if err == nil {
				err = n.step.Complete(d.ctx, stored)
			}
			if err != nil {
				return err
			}
		}
		end.Ref, d.lastTold, n.told = d.ref(id), time.Now(), true
		d.e.completeNode(id, end)
	}
}
