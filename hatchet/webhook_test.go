package hatchet_test

import (
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/hatchet"
)

// A hook is a webhook of a gateway.
type hook struct {
	g    *gateway
	path string
}

// hook makes a webhook: auth is the JSON of authType and auth, more that of other fields.
func (g *gateway) hook(source, auth, more string) *hook {
	g.t.Helper()
	h := &hook{g, "/api/v1/stable/tenants/" + g.tenant(g.dial(g.token)) + "/webhooks"}
	name := strings.ToLower(source)
	h.g.rest("POST", h.path, g.token, fmt.Sprintf(`{"name":%q,"sourceName":%q,"eventKeyExpression":"'hook:' + input.type",%s%s}`, name,
		source, auth, more), 200, nil)
	h.path += "/" + name
	return h
}

// send sends a request, checks the status of its answer, and returns the answer.
func (h *hook) send(body string, want int, headers ...string) (answer struct {
	Message, Challenge string
	Event              struct {
		Key, Scope, TriggeringWebhookName string
		Metadata                          struct{ ID string }
		Payload                           map[string]any
	}
}) {
	h.g.t.Helper()
	req := must[*http.Request](h.g.t)(http.NewRequestWithContext(h.g.t.Context(), "POST", "http://"+h.g.address+h.path, strings.NewReader(body)))
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp := must[*http.Response](h.g.t)(client.Do(req))
	defer resp.Body.Close()
	text := must[[]byte](h.g.t)(io.ReadAll(resp.Body))
	if resp.StatusCode != want {
		h.g.t.Fatalf("status %d, want %d: %s", resp.StatusCode, want, text)
	}
	if want == 200 {
		if err := json.Unmarshal(text, &answer); err != nil {
			h.g.t.Fatalf("%v in %s", err, text)
		}
	}
	return answer
}

func (h *hook) events(want int) {
	h.g.t.Helper()
	if n := len(must[*stint.EventPage](h.g.t)(h.g.c.ListEvents(h.g.t.Context(), stint.EventFilter{})).Events); n != want {
		h.g.t.Errorf("%d events, want %d", n, want)
	}
}

func sign(h func() hash.Hash, key, text string) []byte {
	mac := hmac.New(h, []byte(key))
	mac.Write([]byte(text))
	return mac.Sum(nil)
}

const basicAuth = `"authType":"BASIC","auth":{"username":"ann","password":"secret"}`

// A webhook publishes what its service sends, by expressions over the body and the headers. Only the service may send, and
// only who has a token may see or change it, never its secret.
func TestWebhook(t *testing.T) {
	g := serve(t, hatchet.Options{})
	h := g.hook("GENERIC", basicAuth, `,"scopeExpression":"headers['x-scope']","staticPayload":{"by":"hook"}`)
	auth := "Basic " + base64.StdEncoding.EncodeToString([]byte("ann:secret"))
	got := h.send(`{"type":"push","by":"sender"}`, 200, "Authorization", auth, "X-Scope", "s")
	if e := got.Event; got.Message != "ok" || e.Key != "hook:push" || e.Scope != "s" || e.TriggeringWebhookName != "generic" ||
		e.Payload["by"] != "hook" || e.Payload["type"] != "push" {
		t.Errorf("the answer is %+v", got)
	}
	h.send("type=form&by=x", 200, "Authorization", auth, "X-Scope", "s", "Content-Type", "application/x-www-form-urlencoded")
	h.events(2)
	h.send(`{"type":"push"}`, 403)
	h.send(`{"type":"push"}`, 403, "Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte("ann:wrong")), "X-Scope", "s")
	h.send(`{"type":"push"}`, 403, "Authorization", "Bearer "+g.token)
	h.send(`{"type":"push"}`, 400, "Authorization", auth) // no scope
	h.send(`{"type":7}`, 400, "Authorization", auth, "X-Scope", "s")
	h.send(`["type"]`, 400, "Authorization", auth, "X-Scope", "s")
	h.events(2)
	g.rest("PATCH", h.path, g.token, `{"returnEventAsResponsePayload":false,"scopeExpression":""}`, 200, nil)
	h.send(`{"type":"push"}`, 204, "Authorization", auth)
	h.events(3)
	for _, path := range []string{h.path, strings.TrimSuffix(h.path, "/generic")} {
		if text := g.rest("GET", path, g.token, "", 200, nil); strings.Contains(text, "secret") || !strings.Contains(text, "input.type") {
			t.Errorf("it is shown as %s", text)
		}
		g.rest("GET", path, "", "", 401, nil)
	}
	g.rest("PATCH", h.path, "", `{}`, 401, nil)
	g.rest("DELETE", h.path, "", "", 401, nil)
	g.rest("DELETE", h.path, g.token, "", 200, nil)
	h.send(`{"type":"push"}`, 404, "Authorization", auth)
	g.rest("GET", h.path, g.token, "", 404, nil)
}

// What signs in a way of its own is verified so, and a delivery that has a signed ID is published once.
func TestWebhookSignatures(t *testing.T) {
	g := serve(t, hatchet.Options{})
	hmacAuth := func(algorithm, encoding, header, secret string) string {
		return fmt.Sprintf(`"authType":"HMAC","auth":{"algorithm":%q,"encoding":%q,"signatureHeaderName":%q,"signingSecret":%q}`, algorithm,
			encoding, header, secret)
	}
	const body = `{"type":"push","id":"one","event_id":"two"}`
	now, old := fmt.Sprint(time.Now().Unix()), fmt.Sprint(time.Now().Add(-time.Hour).Unix())
	h := g.hook("GENERIC", hmacAuth("SHA1", "BASE64", "X-Sig", "key"), "")
	h.send(body, 200, "X-Sig", base64.StdEncoding.EncodeToString(sign(sha1.New, "key", body)))
	h.send(body, 403, "X-Sig", hex.EncodeToString(sign(sha1.New, "key", body)))
	h.send(body, 403)
	h = g.hook("GITHUB", hmacAuth("SHA256", "HEX", "X-Hub-Signature-256", "key"), "")
	h.send(body, 200, "X-Hub-Signature-256", "sha256="+hex.EncodeToString(sign(sha256.New, "key", body)))
	h.send(body+" ", 403, "X-Hub-Signature-256", "sha256="+hex.EncodeToString(sign(sha256.New, "key", body)))
	h.events(2)
	h = g.hook("STRIPE", hmacAuth("SHA256", "HEX", "Stripe-Signature", "key"), "")
	stripe := func(at string) string {
		return "t=" + at + ",v1=" + hex.EncodeToString(sign(sha256.New, "key", at+"."+body))
	}
	first := h.send(body, 200, "Stripe-Signature", stripe(now)).Event.Metadata.ID
	if again := h.send(body, 200, "Stripe-Signature", stripe(now)).Event.Metadata.ID; again != first {
		t.Errorf("a delivery is event %s, then %s", first, again)
	}
	h.send(body, 403, "Stripe-Signature", stripe(old))
	h.send(body, 400, "Stripe-Signature", "v1=0")
	h = g.hook("SLACK", hmacAuth("SHA256", "HEX", "X-Slack-Signature", "key"), "")
	slack := func(body string) []string {
		return []string{"X-Slack-Request-Timestamp", now, "X-Slack-Signature", "v0=" + hex.EncodeToString(sign(sha256.New, "key", "v0:"+now+":"+body))}
	}
	h.send(body, 200, slack(body)...)
	if got := h.send(`{"challenge":"c"}`, 200, slack(`{"challenge":"c"}`)...); got.Challenge != "c" {
		t.Errorf("the challenge is answered by %+v", got)
	}
	h.send(`{"challenge":"c"}`, 403, slack(body)...)
	form := "payload=%7B%22type%22%3A%22click%22%7D"
	if e := h.send(form, 200, append(slack(form), "Content-Type", "application/x-www-form-urlencoded")...).Event; e.Key != "hook:click" {
		t.Errorf("a form is event %q", e.Key)
	}
	h = g.hook("SVIX", hmacAuth("SHA256", "HEX", "", "whsec_"+base64.StdEncoding.EncodeToString([]byte("key"))), "")
	svix := base64.StdEncoding.EncodeToString(sign(sha256.New, "key", "m."+now+"."+body))
	h.send(body, 200, "webhook-id", "m", "webhook-timestamp", now, "webhook-signature", "v1,AAAA v1,"+svix)
	h.send(body, 403, "svix-id", "n", "svix-timestamp", now, "svix-signature", "v1,"+svix)
	h.send(body, 400, "svix-signature", "v1,"+svix)
	h.events(6)
	h = g.hook("LINEAR", `"authType":"API_KEY","auth":{"headerName":"X-Key","apiKey":"k"}`, "")
	h.send(body, 200, "X-Key", "k")
	h.send(body, 403, "X-Key", "K")
	h.send(body, 403)
}

// A webhook that would let anybody in, or whose expressions are wrong, is refused.
func TestBadWebhook(t *testing.T) {
	g := serve(t, hatchet.Options{})
	h := g.hook("GENERIC", basicAuth, "")
	path := strings.TrimSuffix(h.path, "/generic")
	make := func(name, source, key, auth string) string {
		return fmt.Sprintf(`{"name":%q,"sourceName":%q,"eventKeyExpression":%q,%s}`, name, source, key, auth)
	}
	g.rest("POST", path, g.token, make("generic", "GENERIC", "'k'", basicAuth), 409, nil)
	for what, body := range map[string]string{
		"name":              make("", "GENERIC", "'k'", basicAuth),
		"sourceName":        make("n", "OTHER", "'k'", basicAuth),
		"authType":          make("n", "GENERIC", "'k'", `"authType":"NONE"`),
		"so want HMAC":      make("n", "STRIPE", "'k'", basicAuth),
		"anybody":           make("n", "GENERIC", "'k'", `"authType":"BASIC","auth":{"username":"ann"}`),
		"header":            make("n", "GENERIC", "'k'", `"authType":"API_KEY","auth":{"apiKey":"k"}`),
		"algorithm":         make("n", "GENERIC", "'k'", `"authType":"HMAC","auth":{"algorithm":"CRC","encoding":"HEX","signingSecret":"s"}`),
		"a string":          make("n", "GENERIC", "1", basicAuth),
		"has no value here": make("n", "GENERIC", "key", basicAuth),
		"staticPayload":     make("n", "GENERIC", "'k'", basicAuth+`,"staticPayload":[]`),
		"JSON":              `{`,
	} {
		if text := g.rest("POST", path, g.token, body, 400, nil); !strings.Contains(text, what) {
			t.Errorf("want %q: %s", what, text)
		}
	}
	g.rest("PATCH", h.path, g.token, `{"eventKeyExpression":"input."}`, 400, nil)
	g.rest("POST", path+"/none", "", "{}", 404, nil)
	g.rest("POST", "/api/v1/stable/tenants/"+noRun+"/webhooks/generic", "", "{}", 404, nil)
}
