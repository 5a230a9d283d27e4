package alert

import (
	"bytes"
	"errors"
	"net/url"
	"strings"
	"testing"
	"time"
)

// The cause of a failed request is returned, unless it contains a part of the URL.
func TestWithoutURL(t *testing.T) {
	to, err := url.Parse("https://user:pass-w0rd@chat.example/services/T0/s3cr3t?key=qu3ry")
	if err != nil {
		t.Fatal(err)
	}
	plain := errors.New("connection refused")
	if got := withoutURL(&url.Error{Op: "Post", URL: to.String(), Err: plain}, to); !errors.Is(got, plain) {
		t.Errorf("control: %v", got)
	}
	for _, text := range []string{to.String(), "no route to /services/T0/s3cr3t", "bad query key=qu3ry", "login user:pass-w0rd"} {
		got := withoutURL(&url.Error{Op: "Post", URL: to.String(), Err: errors.New(text)}, to)
		for _, part := range []string{"s3cr3t", "qu3ry", "pass-w0rd"} {
			if strings.Contains(got.Error(), part) {
				t.Errorf("%q: %v", text, got)
			}
		}
	}
}

// No text of the app can break a line of the mail, add a header, or make a line too long.
func TestMessage(t *testing.T) {
	n := Notice{
		Rule: "r\r\nBcc: evil@example.org", Kind: Firing, At: time.Unix(0, 0), Task: "t\rBcc: evil@example.org",
		Newest: []Failure{{Task: "t", Run: "1", Error: "a\rb\r\n.\r\nBcc: evil@example.org"}, {Error: strings.Repeat("long ", 1000)}},
	}
	m := Mail{From: "app@example.org\r\nBcc: evil@example.org", To: []string{"ops@example.org"}}
	mail := m.message(&n)
	if rest := bytes.ReplaceAll(mail, []byte("\r\n"), nil); bytes.ContainsAny(rest, "\r\n") {
		t.Errorf("a bare CR or LF in\n%q", mail)
	}
	for line := range bytes.SplitSeq(mail, []byte("\r\n")) {
		if len(line) > 998 || bytes.HasPrefix(line, []byte("Bcc")) || bytes.Equal(line, []byte(".")) {
			t.Errorf("the line %q", line)
		}
	}
}
