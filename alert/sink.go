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
// other 4xx than 408 and 429, and redirects, which are not followed, that it never will be.
func Webhook(name, url string) Sink {
	return Sink{name, "webhook", &sender{func(ctx context.Context, n *Notice) error { return post(ctx, url, n) }}}
}

// Slack posts each notice as text to a URL that takes what Slack's incoming webhooks do,
// https://api.slack.com/messaging/webhooks: Slack, Mattermost, Rocket.Chat, Discord with
// /slack at the URL's end. What comes from runs is shown as it is: it mentions nobody and
// makes no link.
func Slack(name, url string) Sink {
	return Sink{name, "slack", &sender{func(ctx context.Context, n *Notice) error {
		return post(ctx, url, map[string]string{"text": n.text(chatPlain, chatCode)})
	}}}
}

// chatPlain keeps a text of the app's from being read as markup. &, < and > are escaped as
// https://api.slack.com/reference/surfaces/formatting#escaping says. For the chats that
// read @everyone, links and Markdown in plain text, a character without width parts what
// would be one.
var chatPlain = strings.NewReplacer(
	"&", "&amp;", "<", "&lt;", ">", "&gt;",
	"@", "@\u200b", "://", ":\u200b//", "www.", "www\u200b.", "](", "]\u200b(",
).Replace

// chatCode shows a text of the app's as code, in which no chat reads markup.
func chatCode(s string) string {
	if s == "" {
		return ""
	}
	return "`" + chatPlain(strings.ReplaceAll(s, "`", "'")) + "`"
}

func post(ctx context.Context, to string, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, to, bytes.NewReader(body))
	if err != nil {
		return stint.NonRetryable(errors.New("alert: post: the sink's URL is not a URL")) // without it: it may hold a secret
	}
	r.Header.Set("Content-Type", "application/json")
	got, err := client.Do(r)
	if err != nil {
		return fmt.Errorf("alert: post: %w", withoutURL(err, r.URL))
	}
	defer got.Body.Close()
	io.Copy(io.Discard, io.LimitReader(got.Body, 64<<10))
	return answer(got.StatusCode)
}

// answer returns what a status means for a delivery. The server's own words stay out of it:
// they may repeat the URL.
func answer(status int) error {
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

// withoutURL returns the cause of a failed request, or an error that says less where the
// cause names a part of the URL: chats put their secret into its path.
func withoutURL(err error, to *url.URL) error {
	var failed *url.Error
	if errors.As(err, &failed) {
		err = failed.Err
	}
	user := ""
	if to.User != nil {
		user = to.User.String()
	}
	for _, part := range []string{strings.Trim(to.Path, "/"), strings.Trim(to.EscapedPath(), "/"), to.RawQuery, to.Fragment, user} {
		if part != "" && strings.Contains(err.Error(), part) {
			return errors.New("the request failed")
		}
	}
	return err
}

// client keeps no connection: alerts are rare. It follows no redirect, which would take the
// notice, and what it says of the app, to a host that nobody named.
var client = &http.Client{
	Transport:     &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	Timeout:       sendTimeout,
}

// Mail says how Email sends.
type Mail struct {
	Addr     string // of the SMTP server: host:port
	From     string
	To       []string
	User     string // "": no authentication
	Password string // sent over TLS alone, or to this machine
	// AllowPlain sends without encryption to a server that offers no STARTTLS. By default
	// such a server is an error of the delivery.
	AllowPlain bool
}

// Email mails each notice, by SMTP with STARTTLS, which the server must offer unless
// Mail.AllowPlain is set.
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
	c.Quit() // the server has taken the mail: an error now must not send it again
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

// message returns the mail. Nothing of a notice can add a header or end a line by itself:
// the subject is encoded, and the body is quoted-printable (RFC 2045, section 6.7), whose
// lines are short and have no bare CR.
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
	io.WriteString(w, n.Text()) // into memory: it does not fail
	w.Close()
	return b.Bytes()
}
