package store

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"time"
)

// A Strategy says what happens to a run whose concurrency limit is used up. The numbers are
// stored.
type Strategy uint8

// The strategies.
const (
	StrategyQueue            Strategy = iota + 1 // it waits; first in, first out over all keys
	StrategyGroupRoundRobin                      // it waits; keys take turns
	StrategyCancelInProgress                     // other runs of its key are canceled; by priority, then the newest, Max stay
	StrategyCancelNewest                         // it is canceled, unless it has started before
)

// A Limit must admit a run before it starts. It is a share of a key's concurrency, which the
// run holds until it ends or waits for its next attempt, or units of a rate, which the start
// of each attempt takes.
type Limit struct {
	Name string `json:"n,omitempty"` // of a concurrency limit
	Key  string `json:"k,omitempty"`

	Max      int      `json:"m,omitempty"` // of a concurrency limit: runs at once
	Strategy Strategy `json:"s,omitempty"`
	Release  bool     `json:"r,omitempty"` // the run gives its share up while it waits in a durable call

	Units     int     `json:"u,omitempty"` // of a rate limit; 0: it is a concurrency limit
	PerSecond float64 `json:"p,omitempty"`
	Burst     int     `json:"b,omitempty"` // 0: PerSecond and Burst are those that a RateChange set

	// SetBy is the number of the debounced enqueue from which the run has this limit; 0: the run's own enqueue. The
	// settings of the newest enqueue apply.
	SetBy int64 `json:"f,omitempty"`
}

// Rate reports whether it is a rate limit.
func (l *Limit) Rate() bool { return l.Units > 0 }

// CompareLimits orders limits: concurrency limits, then rates, each by name and key. Runs keep
// their limits in this order, so that no two runs wait for each other.
func CompareLimits(a, b Limit) int {
	kind := func(l *Limit) int { return min(l.Units, 1) }
	return cmp.Or(cmp.Compare(kind(&a), kind(&b)), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Key, b.Key))
}

// A LimitKey names a limit: a key of a concurrency limit, or, with an empty Name, a rate.
type LimitKey struct{ Name, Key string }

// Of returns the key of a limit.
func (l *Limit) Of() LimitKey {
	if l.Rate() {
		return LimitKey{Key: l.Key}
	}
	return LimitKey{l.Name, l.Key}
}

// Rate reports whether it names a rate limit.
func (k LimitKey) Rate() bool { return k.Name == "" }

// EncodeLimits returns limits as a run stores them; nil if there are none.
func EncodeLimits(ls []Limit) []byte {
	if len(ls) == 0 {
		return nil
	}
	b, _ := json.Marshal(ls) // they always encode
	return b
}

// DecodeLimits is the inverse of EncodeLimits.
func DecodeLimits(b []byte) (ls []Limit, err error) {
	if err = json.Unmarshal(b, &ls); err != nil {
		err = fmt.Errorf("stored limits: %w", err)
	}
	return ls, err
}

// A Bucket is the state of a rate limit, with the arithmetic of golang.org/x/time/rate: it
// gains PerSecond tokens a second, up to Burst.
type Bucket struct {
	PerSecond float64
	Burst     int
	Tokens    float64
	At        time.Time // when it had Tokens
}

// Unlimited reports whether PerSecond is [golang.org/x/time/rate.Inf].
func (b *Bucket) Unlimited() bool { return b.PerSecond == math.MaxFloat64 }

// Fill adds the tokens gained until now. A clock that was set back adds none.
func (b *Bucket) Fill(now time.Time) {
	if d := now.Sub(b.At); d > 0 {
		b.Tokens += d.Seconds() * b.PerSecond
		b.At = now
	}
	if math.IsNaN(b.Tokens) || b.Tokens > float64(b.Burst) || b.Unlimited() {
		b.Tokens = float64(b.Burst)
	}
}

// Ready returns when there are n tokens, or the zero time if there never are.
func (b *Bucket) Ready(n float64) time.Time {
	if b.Tokens >= n {
		return b.At
	}
	if b.PerSecond <= 0 || n > float64(b.Burst) {
		return time.Time{}
	}
	wait := math.Ceil((n - b.Tokens) / b.PerSecond * float64(time.Second))
	if wait >= math.MaxInt64 { // centuries: its settings change before
		return time.Time{}
	}
	return b.At.Add(time.Duration(wait))
}

// A LimitInfo is the state of a limit.
type LimitInfo struct {
	Limit
	Active  int       // of a concurrency limit: runs that hold a share; of a rate: units promised to runs that are about to start
	Waiting int       // runs that wait for it
	Tokens  float64   // of a rate: units available now
	ReadyAt time.Time // of a rate: when the first of the waiting runs may start; zero: unknown
	Paused  bool
}
