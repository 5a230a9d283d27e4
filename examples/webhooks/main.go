// Command webhooks receives signed webhooks of GitHub and Stripe and publishes each as an event,
// once: an opened issue starts a task, a payment wakes the order that waits for it, and each
// minute a cron writes a digest.
//
//	go run ./examples/webhooks -db /tmp/webhooks.db   # in one terminal
//	go run ./examples/webhooks -send                  # in another: what GitHub and Stripe would send
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/stint-dev/stint"
	_ "github.com/stint-dev/stint/cel"
	"github.com/stint-dev/stint/examples/internal/database"
	"github.com/stint-dev/stint/ui"
	"github.com/stint-dev/stint/webhook"
)

// Secrets that the senders share. A real program reads them from its environment.
const (
	githubSecret = "github's secret"
	stripeSecret = "whsec_of_stripe"
)

func main() {
	path := flag.String("db", "webhooks.db", "database file")
	addr := flag.String("addr", "localhost:8080", "where to listen, or to send to")
	send := flag.Bool("send", false, "send webhooks instead of taking them")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	if *send {
		err = sendAll(ctx, "http://"+*addr, os.Stdout)
	} else {
		err = serve(ctx, *path, *addr)
	}
	if err != nil {
		log.Fatal(err)
	}
}

// serve receives webhooks and runs a worker until ctx is done.
func serve(ctx context.Context, path, addr string) error {
	c, err := database.Open("webhooks", path)
	if err != nil {
		return err
	}
	mux := define(c, func(format string, args ...any) { fmt.Printf(format+"\n", args...) })
	token := ui.NewToken()
	mux.Handle("/stint/", ui.Handler(c, ui.WithBasePath("/stint"), ui.WithToken(token))) // the live page of runs
	w, err := c.NewWorker()
	if err != nil {
		return errors.Join(err, c.Close())
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return errors.Join(err, c.Close())
	}
	fmt.Printf("listening on http://%[1]s; the web page: http://%[1]s/stint/?token=%[2]s\n", l.Addr(), token)
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	err = w.Run(ctx)
	srv.Shutdown(context.WithoutCancel(ctx))
	if e := <-served; !errors.Is(e, http.ErrServerClosed) {
		err = errors.Join(err, e)
	}
	return errors.Join(err, c.Close())
}

type issue struct {
	Issue struct {
		Number int    `json:"number"`
		Title  string `json:"title"`
	} `json:"issue"`
}

type payment struct {
	Type string `json:"type"`
	Data struct {
		Object struct {
			Amount   int               `json:"amount"`
			Metadata map[string]string `json:"metadata"`
		} `json:"object"`
	} `json:"data"`
}

// define defines the tasks and the handlers of webhooks.
func define(c *stint.Client, say func(format string, args ...any)) *http.ServeMux {
	stint.NewTask(c, "triage", func(ctx context.Context, i issue) (string, error) {
		say("triage: issue %d, %q", i.Issue.Number, i.Issue.Title)
		return "triaged", nil
	}, stint.WithEvents("github.issues.opened"), stint.WithRetries(3))

	order := stint.NewTask(c, "order", func(ctx context.Context, id string) (int, error) {
		say("order %s: waits for its payment", id)
		p, err := stint.WaitForEvent[payment](ctx, "stripe.payment_intent.succeeded",
			stint.WithFilter(fmt.Sprintf("input.data.object.metadata.order == %q", id)), stint.WithWaitTimeout(24*time.Hour))
		if err != nil {
			return 0, err
		}
		say("order %s: paid %d", id, p.Data.Object.Amount)
		return p.Data.Object.Amount, nil
	})

	stint.NewTask(c, "digest", func(ctx context.Context, _ struct{}) (string, error) {
		page, err := c.ListEvents(ctx, stint.EventFilter{Limit: 1000})
		if err != nil {
			return "", err
		}
		counts := map[string]int{}
		for _, e := range page.Events {
			if time.Since(e.Published) < time.Minute {
				counts[e.Key]++
			}
		}
		digest := fmt.Sprint(counts)
		say("digest of the last minute: %s", digest)
		return digest, nil
	}, stint.WithCron("* * * * *"))

	mux := http.NewServeMux()
	mux.Handle("POST /hooks/github", c.WebhookHandler("github", webhook.GitHubSignature(githubSecret),
		`"github." + headers["x-github-event"] + (has(input.action) ? "." + input.action : "")`))
	mux.Handle("POST /hooks/stripe", c.WebhookHandler("stripe", webhook.StripeSignature(stripeSecret), `"stripe." + input.type`))
	mux.HandleFunc("POST /orders/{id}", func(w http.ResponseWriter, r *http.Request) {
		run, err := order.Enqueue(r.Context(), r.PathValue("id"), stint.WithIdempotencyKey(r.PathValue("id"), 24*time.Hour))
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		fmt.Fprintln(w, run.ID())
	})
	return mux
}
