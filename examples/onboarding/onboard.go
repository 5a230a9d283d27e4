package main

import (
	"context"
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/ui"
)

type onboarding struct {
	client *stint.Client
	mails  string
	token  string // who has it may see the page
	day    time.Duration
	task   *stint.Task[string, string]
}

// A verdict is the payload of the event "approval"; that of "click" has only the user.
type verdict struct {
	User     string
	Approved bool
}

func define(c *stint.Client, mails string, day time.Duration) *onboarding {
	o := &onboarding{client: c, mails: mails, token: ui.NewToken(), day: day}
	o.task = stint.NewTask(c, "onboard", o.onboard, stint.WithRetries(3))
	return o
}

// onboard is one user's first days. A Step runs once; the code between steps may run again, and
// only decides what comes next.
func (o *onboarding) onboard(ctx context.Context, user string) (string, error) {
	if err := o.mail(ctx, user, "welcome"); err != nil {
		return "", err
	}
	if err := stint.Sleep(ctx, 3*o.day); err != nil {
		return "", err
	}
	_, err := stint.WaitForEvent[verdict](ctx, "click", stint.WithMatch("User", user), stint.WithWaitTimeout(2*o.day))
	switch {
	case errors.Is(err, stint.ErrTimeout):
		if err := o.mail(ctx, user, "we miss you"); err != nil {
			return "", err
		}
	case err != nil:
		return "", err
	}
	v, err := stint.WaitForEvent[verdict](ctx, "approval", stint.WithMatch("User", user))
	if err != nil {
		return "", err
	}
	if !v.Approved {
		return "declined", o.mail(ctx, user, "sorry")
	}
	return "approved", o.mail(ctx, user, "your account is open")
}

// mail writes a mail. The file's name has the step's key, so a second try after a crash replaces
// the file.
func (o *onboarding) mail(ctx context.Context, user, subject string) error {
	_, err := stint.Step(ctx, subject, func(ctx context.Context) (string, error) {
		name := fmt.Sprintf("%s - %s.txt", user, subject)
		text := fmt.Sprintf("To: %s\nSubject: %s\nMessage-ID: %s\n", user, subject, stint.StepKey(ctx))
		return name, os.WriteFile(filepath.Join(o.mails, name), []byte(text), 0o600)
	})
	return err
}

func (o *onboarding) handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/stint/", ui.Handler(o.client, ui.WithBasePath("/stint"), ui.WithToken(o.token))) // what runs, live
	mux.HandleFunc("GET /{$}", o.page)
	mux.HandleFunc("POST /users/{user}", o.user(func(ctx context.Context, user string) error {
		_, err := o.task.Enqueue(ctx, user, stint.WithIdempotencyKey(user, stint.UntilDone))
		return err
	}))
	mux.HandleFunc("POST /users/{user}/click", o.event("click", true))
	mux.HandleFunc("POST /users/{user}/approve", o.event("approval", true))
	mux.HandleFunc("POST /users/{user}/decline", o.event("approval", false))
	return mux
}

var userName = regexp.MustCompile(`^[a-z0-9]{1,30}$`)

// user handles a request about a user, whose name becomes part of a file's name.
func (o *onboarding) user(do func(ctx context.Context, user string) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		user := r.PathValue("user")
		if !userName.MatchString(user) {
			http.Error(w, "a user has up to 30 small letters and digits", http.StatusBadRequest)
			return
		}
		if err := do(r.Context(), user); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		http.Redirect(w, r, "/", http.StatusSeeOther)
	}
}

func (o *onboarding) event(key string, yes bool) http.HandlerFunc {
	return o.user(func(ctx context.Context, user string) error {
		_, err := o.client.Publish(ctx, key, verdict{user, yes})
		return err
	})
}

var pageTemplate = template.Must(template.New("page").Parse(`<!doctype html><title>Onboarding</title>
<h1>Onboarding</h1>
<table>{{range .}}<tr><td>{{.User}}<td>{{.State}}<td>{{.Note}}<td>
{{if .Open}}<form method="post" action="/users/{{.User}}/click"><button>clicked</button></form>
<form method="post" action="/users/{{.User}}/approve"><button>approve</button></form>
<form method="post" action="/users/{{.User}}/decline"><button>decline</button></form>{{end}}
{{else}}<tr><td>nobody yet{{end}}</table>
`))

// page lists the users, newest first.
func (o *onboarding) page(w http.ResponseWriter, r *http.Request) {
	runs, err := o.client.ListRuns(r.Context(), stint.RunFilter{Tasks: []string{"onboard"}})
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	type row struct {
		User, State, Note string
		Open              bool
	}
	var rows []row
	for _, run := range runs.Runs {
		entries, err := o.client.Journal(r.Context(), run.ID)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		note := string(run.Output)
		if len(entries) > 0 && !run.State.Terminal() {
			last := entries[len(entries)-1]
			note = last.Kind + " " + last.Name
		}
		user := string(run.Input)
		rows = append(rows, row{user[1 : len(user)-1], run.State.String(), note, !run.State.Terminal()})
	}
	pageTemplate.Execute(w, rows)
}
