package disk

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
)

// A Recorder records the operations on the files of a directory.
type Recorder struct {
	mu   sync.Mutex
	ops  []Op
	stop func()
}

// Record starts recording. Files that are there already belong to the recording if they
// are empty.
func Record(dir string) *Recorder {
	r := &Recorder{}
	r.stop = Watch(dir, func(op Op) Answer {
		op.Data = slices.Clone(op.Data)
		r.mu.Lock()
		defer r.mu.Unlock()
		r.ops = append(r.ops, op)
		return OK
	})
	return r
}

// Len returns the number of operations, also those that have begun and not ended.
func (r *Recorder) Len() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.ops)
}

// Stop ends the recording.
func (r *Recorder) Stop() []Op {
	r.stop()
	return r.ops
}

// sector is the unit that a disk writes as a whole; writes are torn between sectors.
const sector = 512

// A Disk replays operations. It holds the data that certainly is on the disk, and the data that may be.
type Disk struct {
	done  int
	files map[string]*content
}

type content struct {
	sure    []byte
	exists  bool // for sure
	pending []Op // since the last sync
}

// NewDisk returns an empty disk.
func NewDisk() *Disk { return &Disk{files: map[string]*content{}} }

// Forward replays the operations before number n.
func (d *Disk) Forward(ops []Op, n int) {
	for ; d.done < n; d.done++ {
		op := ops[d.done]
		c := d.files[op.File]
		if c == nil {
			c = &content{}
			d.files[op.File] = c
		}
		if op.Kind != Sync {
			c.pending = append(c.pending, op)
			continue
		}
		if slices.ContainsFunc(c.pending, func(op Op) bool { return op.Kind == Create }) {
			d.syncNames()
		}
		c.exists = true
		for _, op := range c.pending {
			c.sure, c.exists = apply(c.sure, c.exists, op, nil)
		}
		c.pending = c.pending[:0]
	}
}

// syncNames makes the names of files durable. SQLite syncs the directory with the first sync of a journal or log
// that it has created (UNIXFILE_DIRSYNC in its os_unix.c).
func (d *Disk) syncNames() {
	for _, c := range d.files {
		for i, op := range slices.Backward(c.pending) {
			if op.Kind == Delete {
				c.sure, c.exists, c.pending = nil, false, slices.Clone(c.pending[i+1:])
				break
			}
		}
		c.exists = c.exists || slices.ContainsFunc(c.pending, func(op Op) bool { return op.Kind == Create })
	}
}

// Image writes into dir the files that the disk may hold after a power cut now: what was synced, and any part of
// the rest, which rng chooses, down to single sectors of a write.
func (d *Disk) Image(dir string, rng *rand.Rand) error {
	whole, torn := rng.Float64(), rng.Float64()
	switch rng.IntN(5) {
	case 0:
		whole = 0 // nothing that was not synced
	case 1:
		whole, torn = 1, 0 // all
	}
	for name, c := range d.files {
		b, exists := slices.Clone(c.sure), c.exists
		for _, op := range c.pending {
			switch {
			case rng.Float64() >= whole:
			case rng.Float64() < torn:
				b, exists = apply(b, exists, op, rng)
			default:
				b, exists = apply(b, exists, op, nil)
			}
		}
		if !exists && len(b) == 0 {
			continue
		}
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// apply applies an operation to a file's content; with rng, a write changes only some sectors.
func apply(b []byte, exists bool, op Op, rng *rand.Rand) ([]byte, bool) {
	switch op.Kind {
	case Create:
		return b, true
	case Delete:
		return nil, false
	case Truncate:
		return slices.Clip(grown(b, op.Offset)[:op.Offset]), exists
	case Write:
		b = grown(b, op.Offset+int64(len(op.Data)))
		for from := 0; from < len(op.Data); {
			to := min(len(op.Data), from+sector-int(op.Offset+int64(from))%sector)
			if rng == nil || rng.IntN(2) == 0 {
				copy(b[op.Offset+int64(from):], op.Data[from:to])
			}
			from = to
		}
		return b, true
	}
	return b, exists
}

func grown(b []byte, size int64) []byte {
	if missing := size - int64(len(b)); missing > 0 {
		b = append(b, make([]byte, missing)...)
	}
	return b
}
