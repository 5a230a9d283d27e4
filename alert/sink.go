package alert

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/smtp"
	"net/textproto"
	"strings"
	"time"

	"github.com/stint-dev/stint"
)

// A Sink is where notices go: make one with Slack, Webhook, Email or Func.
type Sink struct {
	Name string
	Kind string // "slack", "webhook", "email" or "func"
	send *sender
}

type sender struct {
	notice func(context.Context, *Notice) error
}

// Func calls a function of the app's. An error has it called again later.
func Func(name string, f func(context.Context, Notice) error) Sink {
	return Sink{name, "func", &sender{func(ctx context.Context, n *Notice) error { return f(ctx, *n) }}}
}

// Webhook posts each notice, as JSON, to a URL. A status of 2xx means that it was taken;
// other 4xx than 408 and 429 that it never will be.
func Webhook(name, url string) Sink {
	return Sink{name, "webhook", &sender{func(ctx context.Context, n *Notice) error { return post(ctx, url, n) }}}
}

// Slack posts each notice as text to a URL that takes what Slack's incoming webhooks do,
// https://api.slack.com/messaging/webhooks: Slack, Mattermost, Rocket.Chat, Discord with
// /slack at the URL's end.
func Slack(name, url string) Sink {
	return Sink{name, "slack", &sender{func(ctx context.Context, n *Notice) error {
		return post(ctx, url, map[string]string{"text": slackEscape(n.Text())})
	}}}
}

// slackEscape is as https://api.slack.com/reference/surfaces/formatting#escaping says.
var slackEscape = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace

func post(ctx context.Context, url string, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return stint.NonRetryable(errors.New("alert: the sink's URL is none")) // it may have a secret in it
	}
	r.Header.Set("Content-Type", "application/json")
	got, err := client.Do(r)
	if err != nil {
		return fmt.Errorf("alert: post: %w", errors.Unwrap(err)) // without the URL
	}
	defer got.Body.Close()
	io.Copy(io.Discard, io.LimitReader(got.Body, 64<<10))
	switch c := got.StatusCode; {
	case c/100 == 2:
		return nil
	case c/100 == 4 && c != http.StatusRequestTimeout && c != http.StatusTooManyRequests:
		return stint.NonRetryable(fmt.Errorf("alert: post: %s", got.Status))
	}
	return fmt.Errorf("alert: post: %s", got.Status)
}

// client keeps no connection: alerts are rare.
var client = &http.Client{Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true}, Timeout: sendTimeout}

// Mail says how Email sends.
type Mail struct {
	Addr     string // of the SMTP server: host:port
	From     string
	To       []string
	User     string // "": no authentication
	Password string // sent over TLS alone, or to this machine
}

// Email mails each notice, by SMTP with STARTTLS if the server has it.
func Email(name string, m Mail) Sink {
	return Sink{name, "email", &sender{func(ctx context.Context, n *Notice) error { return m.send(ctx, n) }}}
}

func (m *Mail) send(ctx context.Context, n *Notice) error {
	host, _, err := net.SplitHostPort(m.Addr)
	if err != nil || m.From == "" || len(m.To) == 0 {
		return stint.NonRetryable(fmt.Errorf("alert: mail: want Addr as host:port, From and To (%v)", err))
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", m.Addr)
	if err != nil {
		return fmt.Errorf("alert: mail: %w", err)
	}
	defer conn.Close()
	if until, ok := ctx.Deadline(); ok {
		conn.SetDeadline(until)
	}
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	c, err := smtp.NewClient(conn, host)
	if err != nil {
		return fmt.Errorf("alert: mail: %w", err)
	}
	defer c.Close()
	if err := m.transfer(c, host, n); err != nil {
		var refused *textproto.Error
		if errors.As(err, &refused) && refused.Code/100 == 5 {
			err = stint.NonRetryable(err)
		}
		return fmt.Errorf("alert: mail: %w", err)
	}
	return c.Quit()
}

func (m *Mail) transfer(c *smtp.Client, host string, n *Notice) error {
	if ok, _ := c.Extension("STARTTLS"); ok {
		if err := c.StartTLS(&tls.Config{ServerName: host}); err != nil {
			return err
		}
	}
	if m.User != "" {
		if err := c.Auth(smtp.PlainAuth("", m.User, m.Password, host)); err != nil {
			return err
		}
	}
	if err := c.Mail(m.From); err != nil {
		return err
	}
	for _, to := range m.To {
		if err := c.Rcpt(to); err != nil {
			return err
		}
	}
	w, err := c.Data()
	if err != nil {
		return err
	}
	if _, err := w.Write(m.message(n)); err != nil {
		return err
	}
	return w.Close()
}

// message is the mail. Nothing of a notice can add a header: its subject is encoded.
func (m *Mail) message(n *Notice) []byte {
	var b bytes.Buffer
	header := func(k, v string) {
		fmt.Fprintf(&b, "%s: %s\r\n", k, strings.NewReplacer("\r", " ", "\n", " ").Replace(v))
	}
	header("From", m.From)
	header("To", strings.Join(m.To, ", "))
	header("Subject", mime.QEncoding.Encode("utf-8", firstLine(n.Subject())))
	header("Date", n.At.Format(time.RFC1123Z))
	header("MIME-Version", "1.0")
	header("Content-Type", "text/plain; charset=utf-8")
	header("Content-Transfer-Encoding", "8bit")
	b.WriteString("\r\n" + strings.ReplaceAll(n.Text(), "\n", "\r\n"))
	return b.Bytes()
}
