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
	"mime/quotedprintable"
	"net"
	"net/http"
	"net/smtp"
	"net/textproto"
	"net/url"
	"strings"
	"time"

	"github.com/stint-dev/stint"
)

// A Sink receives notices. Slack, Webhook, Email and Func make one.
type Sink struct {
	Name string
	Kind string // "slack", "webhook", "email" or "func"
	send *sender
}

type sender struct {
	send func(context.Context, *Notice) error
}

// Func returns a sink that calls f with each notice. If f returns an error, it is called again
// later.
func Func(name string, f func(context.Context, Notice) error) Sink {
	return Sink{name, "func", &sender{func(ctx context.Context, n *Notice) error { return f(ctx, *n) }}}
}

// Webhook returns a sink that posts each notice as JSON to a URL. A status 2xx is success.
// Redirects are not followed; they and 4xx, except 408 and 429, fail the delivery for good. Other
// statuses are retried.
func Webhook(name, url string) Sink {
	return Sink{name, "webhook", &sender{func(ctx context.Context, n *Notice) error { return post(ctx, url, n) }}}
}

// Slack returns a sink that posts each notice as text to a URL in the format of Slack's incoming
// webhooks, https://api.slack.com/messaging/webhooks: Slack, Mattermost, Rocket.Chat, or Discord
// with /slack at the end of the URL. Texts of runs are escaped: they mention nobody and make no
// link.
func Slack(name, url string) Sink {
	return Sink{name, "slack", &sender{func(ctx context.Context, n *Notice) error {
		return post(ctx, url, map[string]string{"text": n.format(escapeChat, chatCodeSpan)})
	}}}
}

// escapeChat escapes a text of the app for chats. &, < and > are escaped as
// https://api.slack.com/reference/surfaces/formatting#escaping says. A zero-width space splits
// @everyone, links and Markdown, which some chats read in plain text.
var escapeChat = strings.NewReplacer(
	"&", "&amp;", "<", "&lt;", ">", "&gt;",
	"@", "@\u200b", "://", ":\u200b//", "www.", "www\u200b.", "](", "]\u200b(",
).Replace

// chatCodeSpan returns a text of the app as code, in which no chat reads markup.
func chatCodeSpan(s string) string {
	if s == "" {
		return ""
	}
	return "`" + escapeChat(strings.ReplaceAll(s, "`", "'")) + "`"
}

func post(ctx context.Context, to string, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, to, bytes.NewReader(body))
	if err != nil {
		return stint.NonRetryable(errors.New("alert: post: the sink's URL is not a URL")) // not quoted: it may contain a secret
	}
	r.Header.Set("Content-Type", "application/json")
	got, err := client.Do(r)
	if err != nil {
		return fmt.Errorf("alert: post: %w", withoutURL(err, r.URL))
	}
	defer got.Body.Close()
	io.Copy(io.Discard, io.LimitReader(got.Body, 64<<10))
	return statusError(got.StatusCode)
}

// statusError returns the error of a delivery that was answered with a status, or nil. It leaves
// out the body of the answer, which may repeat the URL.
func statusError(status int) error {
	err := fmt.Errorf("alert: post: status %d %s", status, http.StatusText(status))
	switch {
	case status/100 == 2:
		return nil
	case status/100 == 3:
		return stint.NonRetryable(fmt.Errorf("%w: a redirect is not followed: give the sink its final URL", err))
	case status/100 == 4 && status != http.StatusRequestTimeout && status != http.StatusTooManyRequests:
		return stint.NonRetryable(err)
	}
	return err
}

// withoutURL returns the cause of a failed request, or a general error if the cause contains a
// part of the URL: chats put their secret into its path.
func withoutURL(err error, to *url.URL) error {
	var failed *url.Error
	if errors.As(err, &failed) {
		err = failed.Err
	}
	user := ""
	if to.User != nil {
		user = to.User.String()
	}
	path, escaped := strings.Trim(to.Path, "/"), strings.Trim(to.EscapedPath(), "/")
	for _, part := range []string{path, escaped, to.RawQuery, to.Fragment, user} {
		if part != "" && strings.Contains(err.Error(), part) {
			return errors.New("the request failed")
		}
	}
	return err
}

// client keeps no connections open, since alerts are rare. It follows no redirect, which could
// send the notice to a host that nobody configured.
var client = &http.Client{
	Transport:     &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	Timeout:       sendTimeout,
}

// Mail configures Email.
type Mail struct {
	Addr     string // host:port of the SMTP server
	From     string
	To       []string
	User     string // "": no authentication
	Password string // only sent over TLS, or to this machine
	// AllowPlain sends without encryption if the server offers no STARTTLS. By default that fails
	// the delivery for good.
	AllowPlain bool
}

// Email returns a sink that mails each notice by SMTP with STARTTLS. The server must offer
// STARTTLS unless Mail.AllowPlain is set.
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
	c.Quit() // the server has accepted the mail: an error now must not send it again
	return nil
}

func (m *Mail) transfer(c *smtp.Client, host string, n *Notice) error {
	if ok, _ := c.Extension("STARTTLS"); ok {
		if err := c.StartTLS(&tls.Config{ServerName: host}); err != nil {
			return err
		}
	} else if !m.AllowPlain {
		return stint.NonRetryable(errors.New("the server offers no STARTTLS: set AllowPlain to send without encryption"))
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

// message returns the mail. A notice cannot add a header or break a line: the subject is encoded,
// and the body is quoted-printable (RFC 2045, section 6.7), whose lines are short and without
// bare CR.
func (m *Mail) message(n *Notice) []byte {
	var b bytes.Buffer
	header := func(k, v string) {
		fmt.Fprintf(&b, "%s: %s\r\n", k, strings.NewReplacer("\r", " ", "\n", " ").Replace(v))
	}
	header("From", m.From)
	header("To", strings.Join(m.To, ", "))
	header("Subject", mime.QEncoding.Encode("utf-8", n.Subject()))
	header("Date", n.At.Format(time.RFC1123Z))
	header("MIME-Version", "1.0")
	header("Content-Type", "text/plain; charset=utf-8")
	header("Content-Transfer-Encoding", "quoted-printable")
	b.WriteString("\r\n")
	w := quotedprintable.NewWriter(&b)
	io.WriteString(w, n.Text()) // to memory: never fails
	w.Close()
	return b.Bytes()
}
