package stint_test

import (
	"context"
	"net/http/httptest"
	"slices"
	"testing"

	"github.com/stint-dev/stint"
)

//lint:file-ignore SA1019 this is where the former names are used

// What compiled with the former names compiles, and does the same.
func TestFormerNames(t *testing.T) {
	former := []stint.Strategy{stint.Queue, stint.GroupRoundRobin, stint.CancelInProgress, stint.CancelNewest}
	now := []stint.Strategy{stint.StrategyQueue, stint.StrategyGroupRoundRobin, stint.StrategyCancelInProgress, stint.StrategyCancelNewest}
	if !slices.Equal(former, now) {
		t.Errorf("the strategies %v are %v", now, former)
	}
	for name, verify := range map[string]stint.WebhookVerifier{
		"GitHub": stint.GitHubSignature("s"), "Stripe": stint.StripeSignature("s"), "Slack": stint.SlackSignature("s"),
		"basic": stint.BasicAuth("u", "p"), "key": stint.APIKey("K", "k"),
	} {
		if _, err := verify(httptest.NewRequest("POST", "/", nil), nil); err == nil {
			t.Errorf("%s takes a request that nobody signed", name)
		}
	}
	c := opened(t)
	task := stint.NewTask(c, "task", func(ctx context.Context, _ int) (string, error) {
		stint.Progress(ctx, 1, 2)
		info, _ := stint.Info(ctx)
		return info.WorkerID, nil
	})
	working(t, c)
	run := enqueue(t, task, 1)
	name := output(t, run)
	info := infoOf(t, run)
	if name == "" || info.WorkerID != name || info.Worker != name || info.Progress != (stint.Progressed{Done: 1, Total: 2}) {
		t.Errorf("a run of the worker %q has %q, %q and %+v", name, info.WorkerID, info.Worker, info.Progress)
	}
}
