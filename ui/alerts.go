package ui

import (
	"context"
	"fmt"
	"net/url"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/alert"
)

func alertsPage(h *handler, ctx context.Context, arg string, q url.Values) (*view, error) {
	page, err := h.list(ctx, stint.RunFilter{Queues: []string{alert.Queue}, Limit: 20, Scan: scanLimit})
	if err != nil {
		return nil, err
	}
	sent := when(len(page.Runs) > 0, h2("Last deliveries"), h.runTable(page.Runs))
	if h.alerts == nil {
		return &view{Title: "Alerts", Main: group(el("h1", "Alerts"), noAlerts(), sent)}, nil
	}
	rules, err := h.alerts.Statuses(ctx)
	if err != nil {
		return nil, err
	}
	return &view{Title: "Alerts", Main: group(el("h1", "Alerts"),
		h2("Rules"), h.showRules(rules), h2("Sinks"), h.showSinks(h.alerts.Sinks()), sent)}, nil
}

const firstAlert = `alerts, err := alert.New(client, alert.Config{
	Rules: []alert.Rule{{Name: "payments fail", Task: "charge", Count: 3}},
	Sinks: []alert.Sink{alert.Slack("ops", os.Getenv("SLACK_WEBHOOK"))},
})
go alerts.Run(ctx)
ui.Handler(client, ui.WithToken(token), ui.WithAlerts(alerts))`

func noAlerts() node {
	return el("div.empty", el("p", "This page was given no alerts, so it shows no rules and no sinks, though the program may have some: ",
		"give them to it with ", code("ui.WithAlerts"), ". Alerts report failures by chat, mail, HTTP or a function:"), pre(firstAlert))
}

func (h *handler) showRules(rules []alert.RuleStatus) node {
	if len(rules) == 0 {
		return emptyState("No rules, so nothing is reported. Set ", code("alert.Config.Rules"), ".")
	}
	return table(tableHead("Rule", "When", "State", "Last notice"), each(rules, func(r alert.RuleStatus) node {
		of := el("span", "any task")
		if r.Task != "" {
			of = h.link(taskPath(r.Task), userText(r.Task))
		}
		state := el("span.st.st-succeeded", icon("st-succeeded"), el("span", "quiet"))
		if r.Firing() {
			state = group(el("span.st.st-failed", icon("st-failed"), el("span", "firing")), " since ", timestamp(r.Since))
		}
		notice := placeholder("none")
		if r.Kind != "" {
			notice = group(r.Kind+" ", timestamp(r.Sent))
		}
		return el("tr", el("td", userText(r.Name)),
			el("td", fmt.Sprintf("%d or more runs of ", r.Count), of, fmt.Sprintf(" %v in %s", r.State, formatDuration(r.Window)),
				when(r.Rate > 0, fmt.Sprintf(", and %.3g of those that ended", r.Rate))),
			el("td", state), el("td", notice))
	}))
}

func (h *handler) showSinks(sinks []alert.Sink) node {
	if len(sinks) == 0 {
		return emptyState("No sinks, so nobody is notified. Make one with ", code("alert.Slack"), ", ", code("alert.Email"), ", ",
			code("alert.Webhook"), " or ", code("alert.Func"), ".")
	}
	return table(tableHead("Sink", "Kind", h.actions()), each(sinks, func(s alert.Sink) node {
		return el("tr", el("td", userText(s.Name)), el("td", s.Kind),
			el("td", h.actionButton("", "Send a test", "alerts/test", "/alerts", hidden("sink", s.Name))))
	}))
}
