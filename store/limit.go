package store

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"time"
)

// A Strategy says what becomes of a run whose concurrency limit is used up. The numbers
// are stored.
type Strategy uint8

// The strategies.
const (
	StrategyQueue            Strategy = iota + 1 // it waits; first in, first out over all keys
	StrategyGroupRoundRobin                      // it waits; keys take turns
	StrategyCancelInProgress                     // the oldest of its key are canceled
	StrategyCancelNewest                         // it is canceled
)

// A Limit is something that a run must pass before it starts: a share of a key's
// concurrency, which it holds until it ends or waits for its next attempt, or units of
// a rate, which the start of each attempt takes.
type Limit struct {
	Name string `json:"n,omitempty"` // of a concurrency limit
	Key  string `json:"k,omitempty"`

	Max      int      `json:"m,omitempty"` // of a concurrency limit: runs at once
	Strategy Strategy `json:"s,omitempty"`
	Release  bool     `json:"r,omitempty"` // the share is given up while the run waits in a durable call

	Units     int     `json:"u,omitempty"` // of a rate limit; more than 0 says that it is one
	PerSecond float64 `json:"p,omitempty"`
	Burst     int     `json:"b,omitempty"` // 0: the figures that SetRate gave

	SetBy int64 `json:"f,omitempty"` // of a run that a debounced enqueue changed: which that was; the newest sets the figures
}

// Rate reports whether this is a limit of a rate.
func (l *Limit) Rate() bool { return l.Units > 0 }

// CompareLimits orders limits: those of concurrency, then rates, each by name and key.
// Runs keep them in this order, so that two never wait for each other's turns.
func CompareLimits(a, b Limit) int {
	kind := func(l *Limit) int { return min(l.Units, 1) }
	return cmp.Or(cmp.Compare(kind(&a), kind(&b)), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Key, b.Key))
}

// A LimitKey names a limit: a key of a concurrency limit, or, with an empty Name, a rate.
type LimitKey struct{ Name, Key string }

// Of is the key of a limit.
func (l *Limit) Of() LimitKey {
	if l.Rate() {
		return LimitKey{Key: l.Key}
	}
	return LimitKey{l.Name, l.Key}
}

// Rate reports whether it is a rate's.
func (k LimitKey) Rate() bool { return k.Name == "" }

// SetByEnqueue returns a copy of limits whose SetBy is set.
func SetByEnqueue(ls []Limit, used int64) []Limit {
	ls = slices.Clone(ls)
	for i := range ls {
		ls[i].SetBy = used
	}
	return ls
}

// EncodeLimits is how a run keeps its limits; nil if it has none.
func EncodeLimits(ls []Limit) []byte {
	if len(ls) == 0 {
		return nil
	}
	b, _ := json.Marshal(ls) // they always encode
	return b
}

// DecodeLimits reads what EncodeLimits wrote.
func DecodeLimits(b []byte) (ls []Limit, err error) {
	if err = json.Unmarshal(b, &ls); err != nil {
		err = fmt.Errorf("stored limits: %w", err)
	}
	return ls, err
}

// A Bucket is the state of a rate limit. Its arithmetic is that of
// golang.org/x/time/rate: it gains PerSecond tokens a second, up to Burst.
type Bucket struct {
	PerSecond float64
	Burst     int
	Tokens    float64
	At        time.Time // of Tokens
}

// Unlimited reports whether PerSecond is rate.Inf.
func (b *Bucket) Unlimited() bool { return b.PerSecond == math.MaxFloat64 }

// Fill brings the tokens up to date. A clock that was set back adds none.
func (b *Bucket) Fill(now time.Time) {
	if d := now.Sub(b.At); d > 0 {
		b.Tokens += d.Seconds() * b.PerSecond
		b.At = now
	}
	if math.IsNaN(b.Tokens) || b.Tokens > float64(b.Burst) || b.Unlimited() {
		b.Tokens = float64(b.Burst)
	}
}

// Ready is when there are n tokens; the zero time: never.
func (b *Bucket) Ready(n float64) time.Time {
	if b.Tokens >= n {
		return b.At
	}
	if b.PerSecond <= 0 || n > float64(b.Burst) {
		return time.Time{}
	}
	wait := math.Ceil((n - b.Tokens) / b.PerSecond * float64(time.Second))
	if wait >= math.MaxInt64 { // centuries: its figures change before
		return time.Time{}
	}
	return b.At.Add(time.Duration(wait))
}

// A LimitInfo is how a limit stands.
type LimitInfo struct {
	Limit
	Active  int // runs that hold a share, or units that runs which are about to start have been promised
	Waiting int // runs that wait for it
	Tokens  float64
	ReadyAt time.Time // of a rate: when the first of them may start; zero: unknown
	Paused  bool
}
