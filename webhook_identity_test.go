package stint_test

import (
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

// A delivery that somebody has seen, and sends again with what nobody signed changed, is the
// one that came; with what is signed changed it is refused.
func TestDeliveryIdentity(t *testing.T) {
	const form = "application/x-www-form-urlencoded"
	c := opened(t)
	working(t, c)
	now := fmt.Sprint(time.Now().Unix())
	slackBody, githubBody, stripeBody := `{"type":"event_callback","n":1}`, `{"action":"opened","n":1}`, `{"object":"event"}`
	slackMAC := sign("s", "v0:"+now+":"+slackBody)
	githubMAC := sign("s", githubBody)
	stripeMAC := sign("s", now+"."+stripeBody)
	for _, tt := range []struct {
		name    string
		verify  webhook.Verifier
		body    string
		first   []string // headers
		again   [][]string
		refused [][]string
	}{
		{"slack", webhook.SlackSignature("s"), slackBody,
			[]string{"X-Slack-Request-Timestamp", now, "X-Slack-Signature", "v0=" + slackMAC},
			[][]string{
				{"X-Slack-Request-Timestamp", now, "X-Slack-Signature", "v0=" + strings.ToUpper(slackMAC)},
				{"X-Slack-Request-Timestamp", now, "X-Slack-Signature", "v0=" + strings.ToUpper(slackMAC[:9]) + slackMAC[9:]},
				{"X-Slack-Request-Timestamp", now, "X-Slack-Signature", "v0=" + slackMAC, "Content-Type", form},
				{"X-Slack-Request-Timestamp", now, "X-Slack-Signature", "v0=" + slackMAC, "X-Slack-Retry-Num", "1", "Idempotency-Key", "x"},
			},
			[][]string{
				{"X-Slack-Request-Timestamp", "+" + now, "X-Slack-Signature", "v0=" + slackMAC},
				{"X-Slack-Request-Timestamp", "0" + now, "X-Slack-Signature", "v0=" + slackMAC},
				{"X-Slack-Request-Timestamp", now, "X-Slack-Signature", slackMAC},
				{"X-Slack-Request-Timestamp", now, "X-Slack-Signature", "v0= " + slackMAC},
			}},
		{"github", webhook.GitHubSignature("s"), githubBody,
			[]string{"X-Hub-Signature-256", "sha256=" + githubMAC, "X-GitHub-Delivery", "a"},
			[][]string{
				{"X-Hub-Signature-256", "sha256=" + githubMAC, "X-GitHub-Delivery", "b"},
				{"X-Hub-Signature-256", "sha256=" + githubMAC},
				{"X-Hub-Signature-256", "sha256=" + strings.ToUpper(githubMAC), "X-GitHub-Delivery", "c", "Content-Type", form},
			},
			[][]string{{"X-Hub-Signature-256", githubMAC, "X-GitHub-Delivery", "a"}, {"X-Hub-Signature-256", "sha256=" + githubMAC + "00"}}},
		{"stripe", webhook.StripeSignature("s"), stripeBody,
			[]string{"Stripe-Signature", "t=" + now + ",v1=" + stripeMAC},
			[][]string{
				{"Stripe-Signature", "t=" + now + ",v1=" + strings.ToUpper(stripeMAC)},
				{"Stripe-Signature", "v1=00, v1=" + stripeMAC + ",t=" + now},
				{"Stripe-Signature", "t=" + now + ",v1=" + stripeMAC, "Content-Type", form},
			},
			[][]string{{"Stripe-Signature", "t=0" + now + ",v1=" + stripeMAC}, {"Stripe-Signature", "t=" + now + ",v0=" + stripeMAC}}},
	} {
		h := c.WebhookHandler(tt.name, tt.verify, "")
		send := func(headers []string) (int, string) {
			w := httptest.NewRecorder()
			h.ServeHTTP(w, request(tt.body, headers...))
			return w.Code, w.Body.String()
		}
		code, first := send(tt.first)
		if code != http.StatusOK {
			t.Errorf("%s: %d %s", tt.name, code, first)
		}
		for _, headers := range tt.again {
			if code, event := send(headers); code != http.StatusOK || event != first {
				t.Errorf("%s, again with %q: %d %s, want %s", tt.name, headers, code, event, first)
			}
		}
		for _, headers := range tt.refused {
			if code, event := send(headers); code != http.StatusUnauthorized {
				t.Errorf("%s with %q: %d %s, want 401", tt.name, headers, code, event)
			}
		}
		page := must[*stint.EventPage](t)(c.ListEvents(t.Context(), stint.EventFilter{Key: tt.name}))
		if len(page.Events) != 1 || string(page.Events[0].Payload) != tt.body {
			t.Errorf("%s: %d events, %+v, want one with %s", tt.name, len(page.Events), page.Events, tt.body)
		}
	}
}

// Two handlers and two deliveries are never taken for one another.
func TestDeliveriesApart(t *testing.T) {
	c := opened(t)
	var events []string
	for _, of := range [][2]string{{"a", "b\x00c"}, {"a\x00b", "c"}, {"a", "1:b"}, {"a1:", "b"}, {"1:a", "b"}, {"a", "b"}} {
		if serverURL != "" && strings.Contains(of[0], "\x00") {
			continue // it is the event's key, and a text of PostgreSQL has no NUL
		}
		w := httptest.NewRecorder()
		r := request(`1`, "X-Key", "k")
		r.Header["Idempotency-Key"] = []string{of[1]}
		c.WebhookHandler(of[0], webhook.APIKey("X-Key", "k"), "").ServeHTTP(w, r)
		if w.Code != http.StatusOK {
			t.Errorf("%q: %d %s", of, w.Code, w.Body)
		}
		for i, other := range events {
			if other == w.Body.String() {
				t.Errorf("%q is taken for number %d", of, i)
			}
		}
		events = append(events, w.Body.String())
	}
}

// Nothing is no password, and no key.
func TestEmptyCredentials(t *testing.T) {
	c := opened(t)
	for name, v := range map[string]webhook.Verifier{"basic": webhook.BasicAuth("", ""), "basic with a user": webhook.BasicAuth("ada", ""), "key": webhook.APIKey("X-Key", ""),
		"github": webhook.GitHubSignature(""), "slack": webhook.SlackSignature(""), "stripe": webhook.StripeSignature("")} {
		h := c.WebhookHandler(name, v, "")
		now := fmt.Sprint(time.Now().Unix())
		r := request("1", "X-Key", "", "X-Hub-Signature-256", "sha256="+sign("", "1"), "X-Slack-Request-Timestamp", now, "X-Slack-Signature", "v0="+sign("", "v0:"+now+":1"),
			"Stripe-Signature", "t="+now+",v1="+sign("", now+".1"))
		for _, user := range []string{"", "ada"} {
			r.SetBasicAuth(user, "")
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r.Clone(t.Context()))
			if w.Code != http.StatusUnauthorized {
				t.Errorf("%s as %q: %d", name, user, w.Code)
			}
		}
	}
	if _, err := webhook.BasicAuth("", "pw")(withLogin("", "pw"), nil); err != nil {
		t.Errorf("a password without a user: %v", err)
	}
}

func withLogin(user, password string) *http.Request {
	r := request("1")
	r.SetBasicAuth(user, password)
	return r
}

// A verifier takes what is signed, in either case of the digits, and nothing else; its
// identity is a function of what is signed. The seeds are the examples of the vendors'
// documentation: of GitHub and Slack as published, of Stripe made as it says.
func FuzzVerifiers(f *testing.F) {
	const slackAt = 1531420618
	f.Add(uint8(0), "It's a Secret to Everybody", "Hello, World!", "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17", int64(slackAt))
	f.Add(uint8(1), "8f742231b10e8888abcd99yyyzzz85a5", "token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c",
		"a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503", int64(slackAt))
	f.Add(uint8(2), "whsec_test", `{"id":"evt_1","object":"event"}`, sign("whsec_test", `1531420618.{"id":"evt_1","object":"event"}`), int64(slackAt))
	f.Add(uint8(2), "s", `{"id":""}`, "", int64(slackAt))
	f.Fuzz(func(t *testing.T, vendor uint8, secret, body, signature string, at int64) {
		synctest.Test(t, func(t *testing.T) {
			time.Sleep(time.Until(time.Unix(slackAt, 0)))
			var v webhook.Verifier
			var signed string
			headers := func(signature string) []string { return nil }
			when := fmt.Sprint(at)
			switch vendor % 3 {
			case 0:
				v, signed = webhook.GitHubSignature(secret), body
				headers = func(s string) []string { return []string{"X-Hub-Signature-256", "sha256=" + s, "X-GitHub-Delivery", s} }
			case 1:
				v, signed = webhook.SlackSignature(secret), "v0:"+when+":"+body
				headers = func(s string) []string {
					return []string{"X-Slack-Request-Timestamp", when, "X-Slack-Signature", "v0=" + s}
				}
			case 2:
				v, signed = webhook.StripeSignature(secret), when+"."+body
				headers = func(s string) []string { return []string{"Stripe-Signature", "t=" + when + ",v1=" + s} }
			}
			good := sign(secret, signed)
			timely := vendor%3 == 0 || at >= slackAt-300 && at <= slackAt+300
			verify := func(s string) (string, error) { return v(request("", headers(s)...), []byte(body)) }
			id, err := verify(good)
			if want := secret != "" && timely; (err == nil) != want {
				t.Fatalf("a right signature: %v, want taken: %v", err, want)
			}
			if _, err := verify(signature); err == nil && !strings.EqualFold(signature, good) {
				t.Errorf("took %q, want %q", signature, good)
			}
			if err != nil {
				return
			}
			if id == "" {
				t.Error("a delivery without an identity")
			}
			if upper, err := verify(strings.ToUpper(good)); err != nil || upper != id {
				t.Errorf("in capitals: %q, %v, want %q", upper, err, id)
			}
			if _, err := v(request("", headers(good)...), []byte(body+" ")); err == nil {
				t.Error("took another body")
			}
			if sum := sha256.Sum256([]byte(body)); vendor%3 == 0 && id != hex.EncodeToString(sum[:]) {
				t.Errorf("GitHub's identity is %q", id)
			}
		})
	})
}
