package stint_test

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/webhook"
)

func sign(secret, text string) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(text))
	return hex.EncodeToString(mac.Sum(nil))
}

func request(body string, headers ...string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "/hook", strings.NewReader(body))
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	return r
}

// The examples that GitHub and Slack publish of their signatures; Stripe's, whose secret
// is not published, made as its documentation says.
func TestWebhookSignatures(t *testing.T) {
	const slackBody = "token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c"
	const slackSignature = "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503"
	const stripeBody = `{"id":"evt_1","object":"event"}`
	at := func(unix int64, f func(t *testing.T)) { // at a time
		synctest.Test(t, func(t *testing.T) {
			time.Sleep(time.Until(time.Unix(unix, 0)))
			f(t)
		})
	}
	check := func(t *testing.T, what string, v webhook.Verifier, r *http.Request, body, wantID string) {
		t.Helper()
		id, err := v(r, []byte(body))
		if (err == nil) != (wantID != "") || err == nil && id != wantID {
			t.Errorf("%s: %q, %v; want %q", what, id, err, wantID)
		}
	}
	github := webhook.GitHubSignature("It's a Secret to Everybody")
	const githubSignature = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
	check(t, "GitHub", github, request("", "X-Hub-Signature-256", githubSignature, "X-GitHub-Delivery", "d"), "Hello, World!", "dffd6021bb2bd5b0af676290809ec3a53191dd81c7f70a4b28688a362182986f")
	check(t, "GitHub, forged", github, request("", "X-Hub-Signature-256", githubSignature), "Hello, World?", "")
	check(t, "GitHub, SHA-1", github, request("", "X-Hub-Signature", "sha1=01"), "Hello, World!", "")
	check(t, "GitHub, no secret", webhook.GitHubSignature(""), request("", "X-Hub-Signature-256", "sha256="+sign("", "x")), "x", "")

	at(1531420618+60, func(t *testing.T) {
		slack := webhook.SlackSignature("8f742231b10e8888abcd99yyyzzz85a5")
		r := request("", "X-Slack-Request-Timestamp", "1531420618", "X-Slack-Signature", slackSignature)
		check(t, "Slack", slack, r, slackBody, slackSignature[len("v0="):])
		check(t, "Slack, forged", slack, r, slackBody+"x", "")
		r = request("", "X-Slack-Request-Timestamp", "1531420619", "X-Slack-Signature", slackSignature)
		check(t, "Slack, another time", slack, r, slackBody, "")
		time.Sleep(10 * time.Minute)
		r = request("", "X-Slack-Request-Timestamp", "1531420618", "X-Slack-Signature", slackSignature)
		check(t, "Slack, stale", slack, r, slackBody, "")
	})
	at(1614556800, func(t *testing.T) {
		stripe := webhook.StripeSignature("whsec_test")
		good := sign("whsec_test", "1614556800."+stripeBody)
		for what, h := range map[string]string{
			"Stripe":              "t=1614556800,v1=" + good + ",v0=ff",
			"Stripe, two secrets": "t=1614556800, v1=" + sign("old", "1614556800."+stripeBody) + ", v1=" + good,
		} {
			check(t, what, stripe, request("", "Stripe-Signature", h), stripeBody, "evt_1")
		}
		for what, h := range map[string]string{
			"no header": "", "no time": "v1=" + good, "no signature": "t=1614556800", "v0 alone": "t=1614556800,v0=" + good,
			"stale":       "t=1614556000,v1=" + sign("whsec_test", "1614556000."+stripeBody),
			"from ahead":  "t=1614557600,v1=" + sign("whsec_test", "1614557600."+stripeBody),
			"not hex":     "t=1614556800,v1=zz",
			"a time, not": "t=1e9,v1=" + good,
		} {
			check(t, "Stripe, "+what, stripe, request("", "Stripe-Signature", h), stripeBody, "")
		}
	})
	r := request("", "Idempotency-Key", "k", "X-API-Key", "secret")
	check(t, "API key", webhook.APIKey("X-API-Key", "secret"), r, "", "k")
	check(t, "wrong API key", webhook.APIKey("X-API-Key", "other"), r, "", "")
	check(t, "empty API key", webhook.APIKey("X-Nothing", ""), r, "", "")
	check(t, "bearer", webhook.APIKey("Authorization", "secret"), request("", "Authorization", "Bearer secret", "Webhook-Id", "w"), "", "w")
	r.SetBasicAuth("ada", "pass")
	check(t, "basic", webhook.BasicAuth("ada", "pass"), r, "", "k")
	check(t, "basic, wrong", webhook.BasicAuth("ada", "word"), r, "", "")
}

// A webhook becomes an event, once: status and effect of good and of bad requests.
func TestWebhookHandler(t *testing.T) {
	in(t, func(t *testing.T, c *stint.Client) {
		var b inbox
		type payment struct{ Amount string }
		stint.NewTask(c, "t", func(ctx context.Context, p payment) (string, error) { return b.note(ctx, p.Amount) }, stint.WithEvents("pay"))
		working(t, c)
		h := c.WebhookHandler("pay", webhook.APIKey("X-Key", "secret"), "")
		send := func(r *http.Request) (int, string) {
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			return w.Code, w.Body.String()
		}
		signed := func(body, id string, more ...string) *http.Request {
			return request(body, append([]string{"X-Key", "secret", "Idempotency-Key", id}, more...)...)
		}
		get := signed("", "0")
		get.Method = http.MethodGet
		for _, tc := range []struct {
			what string
			r    *http.Request
			want int
		}{
			{"fine", signed(`{"amount":"1"}`, "1"), 200},
			{"again", signed(`{"amount":"1"}`, "1"), 200},
			{"a form", signed("amount=2&x=y", "2", "Content-Type", "application/x-www-form-urlencoded"), 200},
			{"a form with a payload", signed(`payload=%7B%22amount%22%3A%223%22%7D`, "3", "Content-Type", "application/x-www-form-urlencoded"), 200},
			{"forged", request(`{"amount":"4"}`, "X-Key", "guess"), 401},
			{"no JSON", signed("amount", "5"), 400},
			{"empty", signed("", "6"), 400},
			{"GET", get, 405},
			{"too large", signed(`"`+strings.Repeat("x", stint.DefaultMaxPayload)+`"`, "7"), 413},
		} {
			if got, body := send(tc.r); got != tc.want || strings.Contains(body, "secret") {
				t.Errorf("%s: %d %s, want %d", tc.what, got, body, tc.want)
			}
		}
		equal(t, "runs", b.take(), []string{"1", "2", "3"})
		page := must[*stint.EventPage](t)(c.ListEvents(t.Context(), stint.EventFilter{}))
		if len(page.Events) != 3 || page.Events[2].Metadata["webhook"] != "pay" || page.Events[2].Metadata["delivery"] != "1" {
			t.Errorf("events %+v", page.Events)
		}
		if h := c.ListWebhooks(); len(h) != 1 || h[0].Name != "pay" || h[0].Published != 4 || h[0].Refused != 5 || h[0].LastEvent != page.Events[0].ID || h[0].Refusal == "" {
			t.Errorf("webhooks %+v", h)
		}
		c.Close()
		if got, _ := send(signed(`{"amount":"8"}`, "8")); got != 503 {
			t.Errorf("closed: %d, want 503", got)
		}
	})
}

// Slack asks, once, whether an address takes its events.
func TestSlackChallenge(t *testing.T) {
	c := opened(t)
	h := c.WebhookHandler("slack", webhook.SlackSignature("s"), "")
	body := `{"type":"url_verification","challenge":"3eZbrw1a"}`
	now := fmt.Sprint(time.Now().Unix())
	w := httptest.NewRecorder()
	h.ServeHTTP(w, request(body, "X-Slack-Request-Timestamp", now, "X-Slack-Signature", "v0="+sign("s", "v0:"+now+":"+body)))
	if w.Code != 200 || !bytes.Contains(w.Body.Bytes(), []byte("3eZbrw1a")) {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	for what, f := range map[string]func(){
		"no name":     func() { c.WebhookHandler("", webhook.APIKey("k", "v"), "") },
		"no verifier": func() { c.WebhookHandler("x", nil, "") },
		"no CEL":      func() { c.WebhookHandler("x", webhook.APIKey("k", "v"), "input.kind") },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("took %s", what)
				}
			}()
			f()
		}()
	}
}

func FuzzWebhook(f *testing.F) {
	f.Add("t=1,v1=00", `{"id":"x"}`, "application/json")
	f.Add("t=,v1=", `payload={}`, "application/x-www-form-urlencoded")
	c := opened(f)
	handlers := []http.Handler{
		c.WebhookHandler("a", webhook.GitHubSignature("s"), ""), c.WebhookHandler("b", webhook.StripeSignature("s"), ""), c.WebhookHandler("c", webhook.SlackSignature("s"), ""),
	}
	f.Fuzz(func(t *testing.T, signature, body, kind string) {
		for _, h := range handlers {
			w := httptest.NewRecorder()
			h.ServeHTTP(w, request(body, "Content-Type", kind, "Stripe-Signature", signature, "X-Hub-Signature-256", signature,
				"X-Slack-Signature", signature, "X-Slack-Request-Timestamp", fmt.Sprint(time.Now().Unix())))
			if w.Code != 401 && w.Code != 400 {
				t.Errorf("%d for a request that nobody signed", w.Code)
			}
		}
	})
}
