package ui

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/internal/wire"
	"golang.org/x/time/rate"
)

func listLimits(h *handler, ctx context.Context, in url.Values) (any, error) {
	keys, err := h.c.ListConcurrency(ctx)
	if err != nil {
		return nil, err
	}
	rates, err := h.c.ListRateLimits(ctx)
	if err != nil {
		return nil, err
	}
	out := wireLimits{Concurrency: []wireKey{}, Rates: []wireRate{}}
	for _, k := range keys {
		k.Key = h.redactKey(stint.LimitKey{Name: k.Name, Key: k.Key})
		out.Concurrency = append(out.Concurrency, wire.KeyOf(&k))
	}
	for _, r := range rates {
		r.Key = h.redactKey(stint.LimitKey{Key: r.Key})
		out.Rates = append(out.Rates, wire.RateOf(&r))
	}
	return out, nil
}

// byLimit returns an operation that calls do with a limit's name and key.
func byLimit(do func(*stint.Client, context.Context, stint.LimitKey) error) operationFunc {
	return func(h *handler, ctx context.Context, in url.Values) (any, error) {
		k := stint.LimitKey{Name: in.Get("limit_name"), Key: in.Get("limit_key")}
		if k == (stint.LimitKey{}) {
			return nil, errors.New("limit_name or limit_key is missing")
		}
		return wireDone{true}, do(h.c, ctx, k)
	}
}

func setLimit(h *handler, ctx context.Context, in url.Values) (any, error) {
	limit, err := strconv.ParseFloat(in.Get("limit"), 64)
	if err != nil {
		return nil, fmt.Errorf("limit: want units each second: %w", err)
	}
	burst, err := intParam(in, "burst", 0)
	if err != nil {
		return nil, err
	}
	return wireDone{true}, h.c.SetRateLimit(ctx, in.Get("limitkey"), rate.Limit(limit), burst)
}
