//go:build unix

package main

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"
)

// What is acknowledged.
const (
	enqueued  = "enqueued"
	published = "published"
	ended     = "ended"
)

// An ack is what a call that returned nil has promised.
type ack struct {
	what, id string
	at       int // operations on the disk so far, where they are counted
}

// A ledger keeps acknowledgements.
type ledger struct {
	mu   sync.Mutex
	acks []ack
	at   func() int // nil: not counted
	file *os.File   // nil: in memory
}

// newLedger appends to a file that outlives the process and, synced, the machine.
func newLedger(path string) (*ledger, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY|os.O_SYNC, 0o600)
	return &ledger{file: f}, err
}

func (l *ledger) say(what, id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := ack{what: what, id: id}
	if l.at != nil {
		a.at = l.at()
	}
	l.acks = append(l.acks, a)
	if l.file != nil {
		fmt.Fprintln(l.file, what, id)
	}
}

// readLedger reads what was acknowledged. The last line may be torn.
func readLedger(path string) (acks []ack, err error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	for in := bufio.NewScanner(f); in.Scan(); {
		if what, id, ok := strings.Cut(in.Text(), " "); ok && len(id) == len("00000000-0000-7000-8000-000000000000") {
			acks = append(acks, ack{what: what, id: id})
		}
	}
	return acks, nil
}
