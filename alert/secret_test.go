package alert_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/textproto"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/emersion/go-smtp"
	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/alert"
)

const secret = "T0123/B456/s3cr3t-t0ken"

// sent sends a test notice to a sink and returns the newest error of the delivery's attempts, and
// whether its run has ended.
func sent(t *testing.T, sink alert.Sink) error {
	t.Helper()
	c := opened(t, filepath.Join(t.TempDir(), "shop.db"))
	a, _ := started(t, c, alert.Config{Sinks: []alert.Sink{sink}})
	if err := a.Test(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	page, err := c.ListRuns(t.Context(), stint.RunFilter{Tasks: []string{alert.Task}})
	if err != nil || len(page.Runs) != 1 {
		t.Fatalf("deliveries: %+v, %v", page, err)
	}
	_, err = stint.RunByID[string](c, page.Runs[0].ID).Wait(t.Context())
	return err
}

// A notice goes only to the host that its sink names, and the error of a failed delivery never
// contains the sink's URL.
func TestSinkURLStays(t *testing.T) {
	var elsewhere int
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere++ }))
	defer other.Close()
	for _, status := range []int{301, 302, 303, 307, 308} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, other.URL+r.URL.Path, status)
		}))
		err := sent(t, alert.Webhook("hook", s.URL+"/"+secret))
		s.Close()
		if err == nil || !strings.Contains(err.Error(), fmt.Sprint(status)) || strings.Contains(err.Error(), "s3cr3t") {
			t.Errorf("redirect with %d: %v", status, err)
		}
	}
	if elsewhere != 0 {
		t.Errorf("%d notices went where a redirect pointed", elsewhere)
	}
	words := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { // the status line repeats the path
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		fmt.Fprintf(conn, "HTTP/1.1 404 no %s here\r\nContent-Length: 0\r\n\r\n", r.URL.Path)
		conn.Close()
	}))
	defer words.Close()
	if err := sent(t, alert.Slack("chat", words.URL+"/"+secret)); err == nil || strings.Contains(err.Error(), "s3cr3t") {
		t.Errorf("a status line that repeats the path: %v", err)
	}
	if err := sent(t, alert.Slack("chat", "http://[::1/"+secret)); err == nil || strings.Contains(err.Error(), "s3cr3t") {
		t.Errorf("a URL that is none: %v", err)
	}
	got := make(chan struct{}, 1)
	fine := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { got <- struct{}{} }))
	defer fine.Close()
	if err := sent(t, alert.Webhook("hook", fine.URL+"/"+secret)); err != nil || len(got) != 1 {
		t.Errorf("control: %v, %d notices", err, len(got))
	}
}

// No text of a run mentions anybody, makes a link, or leaves its line in a chat, and Redact gets
// every error first.
func TestChatTextIsInert(t *testing.T) {
	texts := make(chan string, 10)
	chat := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var m struct{ Text string }
		json.NewDecoder(r.Body).Decode(&m)
		texts <- m.Text
	}))
	defer chat.Close()
	notice := func(redact func(alert.Failure) string) string {
		c := opened(t, filepath.Join(t.TempDir(), "shop.db"))
		hostile := stint.NewTask(c, "task @here", func(context.Context, int) (int, error) {
			return 0, stint.NonRetryable(errors.New("a`b @everyone <!channel> <@U1> [click](https://evil.example) www.evil.example \u202e\x1b[2J\rx\nsecond line"))
		})
		w, err := c.NewWorker(stint.WithQueues(stint.DefaultQueue))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- w.Run(ctx) }()
		defer func() { cancel(); <-done }()
		hostile.Run(t.Context(), 1)
		_, stop := started(t, c, alert.Config{
			Rules: []alert.Rule{{Name: "@channel rule", Task: "task @here"}}, Sinks: []alert.Sink{alert.Slack("chat", chat.URL)},
			Link: "https://app.example.org/stint", Redact: redact,
		})
		defer stop()
		return <-texts
	}
	text := notice(nil)
	for _, bad := range []string{"@everyone", "@here", "@channel", "<", "https://evil", "www.evil", "](", "\x1b", "\r", "\u202e", "second line", "a`b"} {
		if strings.Contains(text, bad) {
			t.Errorf("the chat got %q in\n%s", bad, text)
		}
	}
	if !strings.Contains(text, "https://app.example.org/stint/runs") || !strings.Contains(text, "everyone") {
		t.Errorf("control: the page's link and the error stay: %s", text)
	}
	redacted := notice(func(f alert.Failure) string { return "error of " + f.Task })
	if strings.Contains(redacted, "everyone") || !strings.Contains(redacted, "error of task") {
		t.Errorf("redacted: %s", redacted)
	}
	for name, fails := range map[string]func(alert.Failure) string{
		"panic": func(f alert.Failure) string { panic(f.Error) }, "Goexit": func(alert.Failure) string { runtime.Goexit(); return "" },
	} {
		if text := notice(fails); strings.Contains(text, "everyone") || !strings.Contains(text, "Redact panicked") {
			t.Errorf("a Redact whose call is a %s: %s", name, text)
		}
	}
}

// An smtpServer speaks as much SMTP as a delivery needs, and drops the connection at QUIT.
func smtpServer(t *testing.T, mails chan<- string) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { l.Close(); <-done })
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			dropAtQuit(conn, mails)
		}
	}()
	return l.Addr().String()
}

func dropAtQuit(conn net.Conn, mails chan<- string) {
	defer conn.Close()
	fmt.Fprint(conn, "220 test\r\n")
	r := textproto.NewReader(bufio.NewReader(conn))
	for {
		line, err := r.ReadLine()
		switch {
		case err != nil || strings.HasPrefix(line, "QUIT"):
			return
		case line == "DATA":
			fmt.Fprint(conn, "354 go on\r\n")
			body, _ := io.ReadAll(r.DotReader())
			mails <- string(body)
		}
		fmt.Fprint(conn, "250 ok\r\n")
	}
}

// A mail that the server accepted is not sent again if QUIT fails.
func TestMailIsSentOnce(t *testing.T) {
	mails := make(chan string, 10)
	addr := smtpServer(t, mails)
	err := sent(t, alert.Email("mail", alert.Mail{Addr: addr, From: "app@example.org", To: []string{"ops@example.org"}, AllowPlain: true}))
	if err != nil || len(mails) != 1 {
		t.Errorf("%v, %d mails", err, len(mails))
	}
}

// Mail is encrypted, or the delivery's error says how to send it without; and no text of a run
// breaks a line of it.
func TestMailIsEncrypted(t *testing.T) {
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
	m := alert.Mail{Addr: l.Addr().String(), From: "app@example.org", To: []string{"ops@example.org"}}
	if err := sent(t, alert.Email("mail", m)); err == nil || !strings.Contains(err.Error(), "AllowPlain") || len(box.mails) != 0 {
		t.Errorf("a server without STARTTLS: %v, %d mails", err, len(box.mails))
	}
	m.AllowPlain = true
	if err := sent(t, alert.Email("mail", m)); err != nil {
		t.Errorf("control: %v", err)
	}
	if mail := <-box.mails; strings.Contains(strings.ReplaceAll(mail, "\r\n", ""), "\r") {
		t.Errorf("a bare CR in\n%q", mail)
	}
}
