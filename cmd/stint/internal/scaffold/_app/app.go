package main

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net/http"
	"os"
	"time"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/ui"
)

// A report is what a client orders: the input of a run.
type report struct {
	Title string `json:"title"`
	Pages int    `json:"pages"`
}

// A page is one step's result.
type page struct {
	Number  int `json:"number"`
	Process int `json:"process"` // the process that wrote it
}

// A job is a run as clients see it.
type job struct {
	ID     string          `json:"id"`
	State  stint.State     `json:"state"`
	Done   int64           `json:"done"`
	Total  int64           `json:"total"`
	Output json.RawMessage `json:"output,omitempty"`
	Error  string          `json:"error,omitempty"`
}

type app struct {
	client  *stint.Client
	pace    time.Duration
	reports *stint.Task[report, []page]
}

// newApp defines the app's tasks.
func newApp(client *stint.Client, pace time.Duration) *app {
	a := &app{client: client, pace: pace}
	a.reports = stint.NewTask(client, "report", a.writeReport, stint.WithRetries(3), stint.WithRetryBackoff(2, time.Minute))
	return a
}

// writeReport writes the pages of a report. Each is a step: it is recorded, and not written again after a crash.
func (a *app) writeReport(ctx context.Context, r report) (pages []page, err error) {
	for n := 1; n <= r.Pages; n++ {
		p, err := stint.Step(ctx, fmt.Sprintf("page %d", n), func(ctx context.Context) (page, error) { return a.writePage(ctx, n) })
		if err != nil {
			return nil, err
		}
		pages = append(pages, p)
		if err := stint.Progress(ctx, int64(n), int64(r.Pages)); err != nil {
			return nil, err
		}
	}
	return pages, nil
}

// writePage stands for slow work; only the title page is quick.
func (a *app) writePage(ctx context.Context, number int) (page, error) {
	if number > 1 {
		select {
		case <-time.After(a.pace):
		case <-ctx.Done():
			return page{}, ctx.Err()
		}
	}
	stint.Logger(ctx).Info("written", "page", number)
	return page{Number: number, Process: os.Getpid()}, nil
}

// handler serves the API, which anyone who reaches it may use, and the page of runs.
func (a *app) handler(page http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/stint/", page)
	mux.HandleFunc("POST /jobs", a.create)
	mux.HandleFunc("GET /jobs/{id}", a.show)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	return mux
}

// localPage returns the page for this machine, and the link with which a browser comes in.
func (a *app) localPage() (page http.Handler, link string) {
	token := ui.NewToken()
	return ui.Handler(a.client, ui.WithBasePath("/stint"), ui.WithToken(token)), "/stint/?token=" + token
}

// sharedPage returns the page for all who have the password: a browser asks for it, and takes any name with it. Put TLS before it,
// or the network sees the password.
func (a *app) sharedPage(password string) http.Handler {
	all := func(*http.Request, ui.Action) error { return nil }
	page := ui.Handler(a.client, ui.WithBasePath("/stint"), ui.WithAuthorize(all))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, given, _ := r.BasicAuth()
		if subtle.ConstantTimeCompare([]byte(given), []byte(password)) != 1 {
			w.Header().Set("WWW-Authenticate", `Basic realm="the page of runs"`)
			http.Error(w, "the page needs the password in $PAGE_PASSWORD", http.StatusUnauthorized)
			return
		}
		page.ServeHTTP(w, r)
	})
}

func (a *app) create(w http.ResponseWriter, r *http.Request) {
	var in report
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<20)).Decode(&in); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if in.Pages < 1 || in.Pages > 1000 {
		http.Error(w, "want 1 to 1000 pages", http.StatusUnprocessableEntity)
		return
	}
	var opts []stint.RunOption
	if key := r.Header.Get("Idempotency-Key"); key != "" { // a client that sends its request twice gets one job
		opts = append(opts, stint.WithIdempotencyKey(key, 24*time.Hour))
	}
	run, err := a.reports.Enqueue(r.Context(), in, opts...)
	if err != nil {
		a.fail(w, err)
		return
	}
	w.Header().Set("Location", "/jobs/"+run.ID())
	a.answer(w, http.StatusAccepted, job{ID: run.ID(), State: stint.StateQueued, Total: int64(in.Pages)})
}

func (a *app) show(w http.ResponseWriter, r *http.Request) {
	run, err := a.client.GetRun(r.Context(), r.PathValue("id"))
	if errors.Is(err, stint.ErrNotFound) {
		http.NotFound(w, r)
		return
	}
	if err != nil {
		a.fail(w, err)
		return
	}
	a.answer(w, http.StatusOK, job{run.ID, run.State, run.Progress.Done, run.Progress.Total, run.Output, run.Error})
}

func (a *app) answer(w http.ResponseWriter, status int, j job) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(j)
}

// fail answers an error of ours, whose text is not the client's business.
func (a *app) fail(w http.ResponseWriter, err error) {
	log.Print(err)
	http.Error(w, "internal error", http.StatusInternalServerError)
}
