package ui

import (
	"context"
	"net/url"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/alert"
)

type alertsView struct {
	Set   bool // the program has alerts
	Rules []alert.Standing
	Sinks []alert.Sink
	Sent  []stint.RunInfo
}

func alertsPage(h *handler, ctx context.Context, arg string, q url.Values) (*view, error) {
	v := &alertsView{Set: h.alerts != nil}
	if v.Set {
		var err error
		if v.Rules, err = h.alerts.Standings(ctx); err != nil {
			return nil, err
		}
		v.Sinks = h.alerts.Sinks()
	}
	page, err := h.list(ctx, stint.RunFilter{Queues: []string{alert.Queue}, Limit: 20, Scan: perQuery})
	if err != nil {
		return nil, err
	}
	v.Sent = page.Runs
	return &view{Title: "Alerts", Name: "alerts", Data: v}, nil
}
