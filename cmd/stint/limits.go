package main

import (
	"context"
	"errors"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/internal/near"
	"github.com/stint-dev/stint/internal/wire"
	"golang.org/x/time/rate"
)

// limits lists the keys of concurrency limits, or pauses or resumes one.
func limits(ctx context.Context, s *session) error {
	keys, err := s.c.ListConcurrency(ctx)
	if err != nil {
		return err
	}
	if len(s.args) > 0 {
		return s.limitAction(ctx, keys)
	}
	l := list[stint.ConcurrencyInfo]{s: s, field: "concurrency", header: "LIMIT\tKEY\tMAX\tACTIVE\tWAITING\tSTRATEGY\tPAUSED",
		row: func(k *stint.ConcurrencyInfo) string {
			return columns(truncate(k.Name), truncate(k.Key), k.Max, k.Active, k.Waiting, k.Strategy, k.Paused)
		},
		wire: func(k *stint.ConcurrencyInfo) any { return wire.KeyOf(k) }}
	if err := l.print(keys); err != nil || s.format() != asJSON {
		return err
	}
	rates, err := s.c.ListRateLimits(ctx)
	if err != nil {
		return err
	}
	all := []wire.Rate{}
	for i := range rates {
		all = append(all, wire.RateOf(&rates[i]))
	}
	return l.end("rates", all)
}

// limitAction pauses or resumes a key of a concurrency limit.
func (s *session) limitAction(ctx context.Context, keys []stint.ConcurrencyInfo) error {
	verb := s.args[0]
	do, ok := map[string]func(context.Context, stint.LimitKey) error{"pause": s.c.PauseLimit, "resume": s.c.ResumeLimit}[verb]
	if !ok {
		return usagef("stint: limits %s: want pause or resume%s", verb, near.Meant(verb, []string{"pause", "resume"}))
	}
	name, err := s.arg(1, "the limit's name")
	if err != nil {
		return err
	}
	key, err := s.arg(2, "the limit's key")
	if err != nil {
		return err
	}
	var names []string
	for _, k := range keys {
		names = append(names, k.Name)
	}
	if !s.force && !slices.Contains(names, name) {
		return usagef("stint: no concurrency limit %q is in use%s (-force insists)", name, near.Meant(name, slices.Compact(names)))
	}
	return s.printDone(do(ctx, stint.LimitKey{Name: name, Key: key}))
}

var rateVerbs = []string{"set", "pause", "resume"}

// rates lists rate limits, or acts on one.
func rates(ctx context.Context, s *session) error {
	all, err := s.c.ListRateLimits(ctx)
	if err != nil {
		return err
	}
	if len(s.args) == 0 {
		l := list[stint.RateLimitInfo]{s: s, field: "rates", header: "KEY\tLIMIT\tBURST\tTOKENS\tWAITING\tPAUSED",
			row: func(r *stint.RateLimitInfo) string {
				tokens := strconv.FormatFloat(r.Tokens, 'f', 1, 64)
				return columns(truncate(r.Key), formatRate(r.Limit), r.Burst, tokens, r.Waiting, r.Paused)
			},
			wire: func(r *stint.RateLimitInfo) any { return wire.RateOf(r) }}
		return l.printAll(all)
	}
	verb := s.args[0]
	if !slices.Contains(rateVerbs, verb) {
		return usagef("stint: rate %s: want set, pause or resume%s", verb, near.Meant(verb, rateVerbs))
	}
	key, err := s.arg(1, "the rate limit's key")
	if err != nil {
		return err
	}
	if verb == "set" {
		return s.setRate(ctx, key)
	}
	if len(s.args) > 2 {
		return usagef("stint: %q is too much: want stint rate [-flags] DATABASE %s KEY", s.args[2], verb)
	}
	do := s.c.PauseLimit
	if verb == "resume" {
		do = s.c.ResumeLimit
	}
	err = do(ctx, stint.LimitKey{Key: key})
	if errors.Is(err, stint.ErrNotFound) {
		var keys []string
		for _, r := range all {
			keys = append(keys, r.Key)
		}
		return usagef("%w%s", err, near.Meant(key, keys))
	}
	return s.printDone(err)
}

func (s *session) setRate(ctx context.Context, key string) error {
	text, err := s.arg(2, "the rate, like 10/s, 600/m or inf,")
	if err != nil {
		return err
	}
	limit, err := parseRate(text)
	if err != nil {
		return err
	}
	if text, err = s.arg(3, "the burst"); err != nil {
		return err
	}
	burst, err := strconv.Atoi(text)
	if err != nil {
		return usagef("stint: rate: burst %q: want a number", text)
	}
	return s.printDone(s.c.SetRateLimit(ctx, key, limit, burst))
}

var perUnit = map[string]time.Duration{"s": time.Second, "m": time.Minute, "h": time.Hour, "d": 24 * time.Hour}

// parseRate reads a rate like 10/s, 0.5, 600/m or inf; without a unit it is by the second.
func parseRate(text string) (rate.Limit, error) {
	if text == "inf" {
		return rate.Inf, nil
	}
	number, unit, per := strings.Cut(text, "/")
	if !per {
		unit = "s"
	}
	n, err := strconv.ParseFloat(number, 64)
	if err != nil || perUnit[unit] == 0 || math.IsNaN(n) || math.IsInf(n, 0) {
		return 0, usagef("stint: rate %q: want one like 10/s, 600/m, 5000/h, 100/d or inf", text)
	}
	return rate.Limit(n / perUnit[unit].Seconds()), nil
}

func formatRate(l rate.Limit) string {
	if l == rate.Inf {
		return "inf"
	}
	return strconv.FormatFloat(float64(l), 'g', 4, 64) + "/s"
}
