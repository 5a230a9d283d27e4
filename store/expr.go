package store

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/stint-dev/stint/internal/text"
)

// Exprs are the expressions of a definition that compute the key and the limits of its runs. They are computed when a run is
// made.
type Exprs struct {
	Key    string              `json:"key,omitempty"` // an idempotency key; empty: none
	KeyTTL time.Duration       `json:"key_ttl,omitempty"`
	Limits []LimitExpr         `json:"limits,omitempty"`
	Tasks  map[int][]LimitExpr `json:"tasks,omitempty"` // of the tasks of a workflow, by place
}

// A LimitExpr is a limit some of whose fields are computed by expressions.
type LimitExpr struct {
	Limit
	Field  string        `json:"field"`           // of the definition, for errors
	Key    string        `json:"key,omitempty"`   // for Limit.Key
	Units  string        `json:"units,omitempty"` // for Limit.Units
	Most   string        `json:"most,omitempty"`  // how many units each Window, for Limit.PerSecond and Limit.Burst
	Window time.Duration `json:"window,omitempty"`
}

// RunVars names the variables of expressions for keys and limits.
var RunVars = []string{"input", "metadata", "additional_metadata", "workflow_run_id"}

// MaxUnits bounds units and bursts, so that their sums are exact. It is less where an int has 32 bits.
const MaxUnits = min(1<<50, math.MaxInt)

// idempotencyKey returns the idempotency key that an expression's value stands for, as it is stored.
func (x *Exprs) idempotencyKey(vars *Vars) (string, error) {
	key, err := stringOf(x.Key, vars)
	if err != nil {
		return "", fmt.Errorf("idempotency: key: %w", err)
	}
	if key == "" {
		return "", nil
	}
	return StoredKey(key), nil
}

const maxKey = 255 // bytes of a key

// Prefixes of stored keys, which keep the keys of WithDebounce apart from idempotency keys.
const (
	DebouncePrefix    = "debounce:"
	idempotencyPrefix = "idempotency:"
)

// StoredKey returns an idempotency key as it is stored: with a prefix only if it starts like a key with a
// prefix.
func StoredKey(key string) string {
	if strings.HasPrefix(key, DebouncePrefix) || strings.HasPrefix(key, idempotencyPrefix) {
		return idempotencyPrefix + key
	}
	return key
}

// Apply sets the key and the limits of a run that has its input and metadata. It leaves out what cannot
// be computed, and returns why: for the key, and for the limits.
func (x *Exprs) Apply(r *NewRun) (key, limits error) {
	vars := x.vars(r.Input, r.Metadata)
	if x.Key != "" && r.Key == "" {
		if r.Key, key = x.idempotencyKey(vars); r.Key != "" {
			r.KeyTTL = x.KeyTTL
		}
	}
	r.Limits, limits = limitsOf(x.Limits, vars)
	for place, exprs := range x.Tasks {
		all, err := limitsOf(exprs, vars)
		limits = errors.Join(limits, err)
		if len(all) == 0 {
			continue
		}
		if r.TaskLimits == nil {
			r.TaskLimits = map[int][]Limit{}
		}
		r.TaskLimits[place] = all
	}
	return key, limits
}

// Check returns why what Apply computes for a run itself, not for its tasks, cannot be computed.
func (x *Exprs) Check(input, metadata []byte) error {
	vars := x.vars(input, metadata)
	_, err := limitsOf(x.Limits, vars)
	if x.Key != "" {
		_, kerr := x.idempotencyKey(vars)
		err = errors.Join(kerr, err)
	}
	return err
}

// vars has another RunID each time: the run has no ID yet.
func (x *Exprs) vars(input, metadata []byte) *Vars {
	return &Vars{Input: input, Metadata: metadata, RunID: uuid.NewString()}
}

func limitsOf(exprs []LimitExpr, vars *Vars) (all []Limit, errs error) {
	for i := range exprs {
		l, err := exprs[i].compute(vars)
		if err != nil {
			errs = errors.Join(errs, fmt.Errorf("%s: %w", exprs[i].Field, err))
			continue
		}
		all = append(all, l)
	}
	slices.SortFunc(all, CompareLimits)
	for i := range len(all) - 1 {
		if a, b := &all[i], &all[i+1]; CompareLimits(*a, *b) == 0 {
			return nil, errors.Join(errs, fmt.Errorf("two limits of one name and key: %q %q", a.Name, a.Key))
		}
	}
	return all, errs
}

func (x *LimitExpr) compute(vars *Vars) (l Limit, err error) {
	l = x.Limit
	if x.Key != "" {
		if l.Key, err = stringOf(x.Key, vars); err != nil {
			return l, err
		}
	}
	if !l.Rate() {
		return l, nil
	}
	if l.Key == "" {
		return l, errors.New("a rate limit without a key")
	}
	if x.Units != "" {
		if l.Units, err = unitsOf(x.Units, 1, vars); err != nil {
			return l, err
		}
	}
	if x.Most != "" {
		if l.Burst, err = unitsOf(x.Most, 1, vars); err != nil {
			return l, err
		}
		l.PerSecond = float64(l.Burst) / x.Window.Seconds()
	}
	if l.Burst > 0 && l.Units > l.Burst {
		return l, fmt.Errorf("rate limit %q: %d units of a limit of %d: it could never start", l.Key, l.Units, l.Burst)
	}
	return l, nil
}

func stringOf(expr string, vars *Vars) (string, error) {
	f, err := CompileValue(expr, KindString)
	if err != nil {
		return "", err
	}
	v, err := f(vars)
	if err != nil {
		return "", err
	}
	s, _ := v.(string)
	if len(s) > maxKey {
		return "", fmt.Errorf("expression %q: %d bytes: want at most %d", text.Cut(expr, 256), len(s), maxKey)
	}
	return s, nil
}

func unitsOf(expr string, least int, vars *Vars) (int, error) {
	f, err := CompileValue(expr, KindNumber)
	if err != nil {
		return 0, err
	}
	v, err := f(vars)
	if err != nil {
		return 0, err
	}
	n := 0.0
	switch v := v.(type) {
	case int64:
		n = float64(v)
	case uint64:
		n = float64(v)
	case float64:
		n = v
	}
	if n = math.Trunc(n); !(n >= float64(least) && n <= MaxUnits) {
		return 0, fmt.Errorf("expression %q: it is %v: want %d to %d", text.Cut(expr, 256), v, least, MaxUnits)
	}
	return int(n), nil
}
