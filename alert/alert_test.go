package alert_test

import (
	"context"
	"encoding/json"
	"errors"
	"github.com/stint-dev/stint/internal/selfcheck"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/emersion/go-smtp"
	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/alert"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	selfcheck.Enable()
	goleak.VerifyTestMain(m, goleak.Cleanup(selfcheck.Exit))
}

func opened(t *testing.T, path string) *stint.Client {
	t.Helper()
	c, err := stint.Open(path, stint.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// started runs alerts until the function that it returns is called.
func started(t *testing.T, c *stint.Client, cfg alert.Config) (*alert.Alerts, func()) {
	t.Helper()
	a, err := alert.New(c, cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := a.Run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	stop := sync.OnceFunc(func() { cancel(); wg.Wait() })
	t.Cleanup(stop)
	return a, stop
}

// A notebook records the notices that a sink gets.
type notebook struct {
	mu      sync.Mutex
	notices []alert.Notice
}

func (b *notebook) take(_ context.Context, n alert.Notice) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.notices = append(b.notices, n)
	return nil
}

func (b *notebook) kinds() (all []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, n := range b.notices {
		all = append(all, n.Rule+" "+n.Kind)
	}
	return all
}

// Sinks are notified when a rule begins to fire, in digests while it fires, and when it has
// recovered; once each, also after a restart and with two processes on the file.
func TestEpisode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "shop.db")
		var book notebook
		cfg := alert.Config{
			Rules:  []alert.Rule{{Name: "pay", Task: "charge", Count: 2, Rate: 0.5, Window: 5 * time.Minute}, {Name: "other", Task: "other"}},
			Sinks:  []alert.Sink{alert.Func("book", book.take)},
			Digest: 20 * time.Minute, Link: "https://app.example.org/stint/",
		}
		define := func(c *stint.Client) *stint.Task[bool, int] {
			return stint.NewTask(c, "charge", func(ctx context.Context, ok bool) (int, error) {
				if !ok {
					return 0, stint.NonRetryable(errors.New("declined"))
				}
				return 1, nil
			})
		}
		c, other := opened(t, path), opened(t, path)
		charge := define(c)
		define(other)
		w, err := c.NewWorker()
		if err != nil {
			t.Fatal(err)
		}
		go w.Run(t.Context())
		_, stop := started(t, c, cfg)
		_, stopOther := started(t, other, cfg)
		expect := func(when string, want ...string) {
			t.Helper()
			synctest.Wait()
			if got := book.kinds(); !slices.Equal(got, want) {
				t.Fatalf("%s: told %q, want %q", when, got, want)
			}
		}
		for range 3 {
			charge.Run(t.Context(), true)
		}
		charge.Run(t.Context(), false)
		charge.Run(t.Context(), false)
		time.Sleep(15 * time.Second)
		expect("2 of 5 failed")
		charge.Run(t.Context(), false)
		time.Sleep(15 * time.Second)
		expect("3 of 6 failed", "pay firing")
		if n := book.notices[0]; n.Count != 3 || n.Ended != 6 || len(n.Newest) != 3 || n.Newest[0].Error != "declined" || !strings.HasPrefix(n.Newest[0].Link, "https://app.example.org/stint/runs/") {
			t.Errorf("%+v", n)
		}
		stop()
		stopOther()
		c2 := opened(t, path)
		charge = define(c2)
		w2, err := c2.NewWorker()
		if err != nil {
			t.Fatal(err)
		}
		go w2.Run(t.Context())
		started(t, c2, cfg)
		for range 25 { // minutes
			charge.Run(t.Context(), false)
			time.Sleep(time.Minute)
		}
		expect("it went on, over a restart", "pay firing", "pay digest")
		time.Sleep(10 * time.Minute)
		expect("it is over", "pay firing", "pay digest", "pay recovered")
		charge.Run(t.Context(), false)
		charge.Run(t.Context(), false)
		time.Sleep(time.Minute)
		expect("it came back", "pay firing", "pay digest", "pay recovered", "pay firing")
		c.Close()
		other.Close()
		c2.Close()
	})
}

// A sink that is slow or refuses delays no run of the app, and gets its notice when it accepts it.
func TestHTTP(t *testing.T) {
	c := opened(t, filepath.Join(t.TempDir(), "shop.db"))
	got := make(chan string, 10)
	calls := 0
	flaky := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if calls++; calls == 1 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		body, _ := io.ReadAll(r.Body)
		got <- string(body)
	}))
	defer flaky.Close()
	release := make(chan struct{})
	dead := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { <-release }))
	defer dead.Close()
	defer close(release)
	work := stint.NewTask(c, "work", func(ctx context.Context, n int) (int, error) { return n, nil })
	w, err := c.NewWorker(stint.WithQueues(stint.DefaultQueue), stint.WithSlots(1))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- w.Run(ctx) }()
	defer func() { cancel(); <-done }()
	a, _ := started(t, c, alert.Config{Sinks: []alert.Sink{alert.Slack("dead", dead.URL), alert.Slack("flaky", flaky.URL), alert.Webhook("gone", "http://127.0.0.1:1/")}})
	for range 5 {
		if err := a.Test(t.Context(), ""); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 50 {
		if _, err := work.Run(t.Context(), i); err != nil {
			t.Fatal(err)
		}
	}
	var text struct{ Text string }
	if err := json.Unmarshal([]byte(<-got), &text); err != nil || !strings.Contains(text.Text, "[test]") {
		t.Errorf("the sink got %q, %v", text.Text, err)
	}
	if err := a.Test(t.Context(), "none"); !errors.Is(err, stint.ErrNotFound) {
		t.Errorf("a sink that is not there: %v", err)
	}
}

// Mail reaches a real SMTP server unchanged, whatever the notice contains.
func TestMail(t *testing.T) {
	box := &mailbox{mails: make(chan string, 1)}
	server := smtp.NewServer(box)
	server.Domain, server.AllowInsecureAuth = "localhost", true
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error)
	go func() { served <- server.Serve(l) }()
	defer func() { server.Close(); <-served }()
	c := opened(t, filepath.Join(t.TempDir(), "shop.db"))
	fail := stint.NewTask(c, "fail", func(ctx context.Context, n int) (int, error) {
		return 0, stint.NonRetryable(errors.New("no\r\nBcc: evil@example.org\r\n.\r\nmore"))
	})
	w, err := c.NewWorker()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- w.Run(ctx) }()
	defer func() { cancel(); <-done }()
	fail.Run(t.Context(), 1)
	started(t, c, alert.Config{Rules: []alert.Rule{{Name: "r\r\nBcc: evil@example.org"}}, Sinks: []alert.Sink{alert.Email("mail", alert.Mail{Addr: l.Addr().String(), From: "app@example.org", To: []string{"ops@example.org"}, AllowPlain: true})}})
	mail := <-box.mails
	head, body, _ := strings.Cut(mail, "\r\n\r\n")
	if !strings.Contains(head, "Subject: ") || !strings.Contains(head, "To: ops@example.org") || strings.Contains(head, "\nBcc") || !strings.Contains(body, "no") {
		t.Errorf("the mail is\n%s", mail)
	}
}

type mailbox struct{ mails chan string }

func (b *mailbox) NewSession(*smtp.Conn) (smtp.Session, error) { return b, nil }
func (b *mailbox) Reset()                                      {}
func (b *mailbox) Logout() error                               { return nil }
func (b *mailbox) Mail(string, *smtp.MailOptions) error        { return nil }
func (b *mailbox) Rcpt(string, *smtp.RcptOptions) error        { return nil }
func (b *mailbox) Data(r io.Reader) error {
	text, err := io.ReadAll(r)
	b.mails <- string(text)
	return err
}

// Mistakes in rules and sinks are errors at once.
func TestBadConfig(t *testing.T) {
	book := alert.Func("book", func(context.Context, alert.Notice) error { return nil })
	for what, cfg := range map[string]alert.Config{
		"no name":     {Rules: []alert.Rule{{}}},
		"two alike":   {Rules: []alert.Rule{{Name: "a"}, {Name: "a"}}},
		"state":       {Rules: []alert.Rule{{Name: "a", State: stint.StateRunning}}},
		"rate":        {Rules: []alert.Rule{{Name: "a", Rate: 2}}},
		"window":      {Rules: []alert.Rule{{Name: "a", Window: time.Second}}},
		"no sink":     {Rules: []alert.Rule{{Name: "a", Sinks: []string{"none"}}}},
		"sinks alike": {Sinks: []alert.Sink{book, book}},
		"empty sink":  {Sinks: []alert.Sink{{Name: "x"}}},
	} {
		if _, err := alert.New(opened(t, ":memory:"), cfg); err == nil {
			t.Errorf("%s: no error", what)
		}
	}
}
