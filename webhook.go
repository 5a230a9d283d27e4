package stint

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/webhook"
)

// WebhookHandler takes webhooks from other services: it verifies each, and publishes its
// body as an event. key is a CEL expression that gives the event's key, over input, the
// body, and headers, a map with names in lower case; for example
//
//	"github." + headers["x-github-event"] + "." + input.action
//
// No sender signs its headers: what must be sure is to be read from input.
//
// It needs import _ "github.com/stint-dev/stint/cel". An empty key means that name is
// the event's key. Where the expression gives "", or cannot be computed, the request is
// accepted and nothing published.
//
// The body is JSON, whatever its Content-Type says, which nobody signs; or else, with the
// Content-Type of one, a form, which becomes an object of texts; one whose only field is
// payload is the JSON in that. The event's metadata has "webhook", the name, and
// "delivery", the delivery's ID. A delivery that comes again publishes nothing.
//
// It answers 200 with the event's ID once that is stored; 400 for a body that is not JSON,
// 401 for a request that verify refuses, 405 for another method than POST, 413 for a body
// that is larger than WithMaxPayload allows, 431 for more than 64 KiB of headers, 500 if verify panics, and 503 if the event could not be stored, so
// that the sender tries again.
//
// It panics if the name or the expression is bad or verify is nil.
func (c *Client) WebhookHandler(name string, verify webhook.Verifier, key string) http.Handler {
	h := &webhookHandler{c: c, name: name, verify: verify, info: WebhookInfo{Name: name}}
	err := checkName("name", name)
	if verify == nil {
		err = errors.New("nil verifier: see package webhook")
	}
	if err == nil && key != "" {
		h.key, err = store.CompileKey(key)
	}
	if err != nil {
		panic(fmt.Sprintf("stint: WebhookHandler(%q): %v", name, err))
	}
	c.webhooks.mu.Lock()
	defer c.webhooks.mu.Unlock()
	c.webhooks.all = append(c.webhooks.all, h)
	return h
}

// webhooks are the handlers that a client has made.
type webhooks struct {
	mu  sync.Mutex
	all []*webhookHandler
}

// A WebhookInfo is what has come to a handler of webhooks since it was made.
type WebhookInfo struct {
	Name      string
	Published int       // requests that became an event
	Ignored   int       // that were well, and have no key
	Refused   int       // that were not taken
	Last      time.Time // when the last came that was taken; zero: none has
	LastEvent string    // ID of the last event
	Refusal   string    // why the last that was refused was; "": none was
	RefusedAt time.Time
}

// ListWebhooks lists the handlers that this client has made with WebhookHandler, as they
// were made. What they published is listed by ListEvents, with their name in its metadata.
func (c *Client) ListWebhooks() []WebhookInfo {
	c.webhooks.mu.Lock()
	all := slices.Clone(c.webhooks.all)
	c.webhooks.mu.Unlock()
	infos := make([]WebhookInfo, len(all))
	for i, h := range all {
		h.mu.Lock()
		infos[i] = h.info
		h.mu.Unlock()
	}
	return infos
}

type webhookHandler struct {
	c      *Client
	name   string
	verify webhook.Verifier
	key    store.KeyOf // nil: the name

	mu   sync.Mutex
	info WebhookInfo
}

// count remembers what became of a request: an event, if it has an ID.
func (h *webhookHandler) count(event string, refused *refusal) {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	switch i := &h.info; {
	case refused != nil:
		i.Refused, i.Refusal, i.RefusedAt = i.Refused+1, refused.text, now
	case event == "":
		i.Ignored, i.Last = i.Ignored+1, now
	default:
		i.Published, i.Last, i.LastEvent = i.Published+1, now, event
	}
}

// A refusal is a request that is not taken.
type refusal struct {
	status int
	text   string
	cause  error // for the log
}

func (h *webhookHandler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	answer, refused := h.receive(w, r)
	if refused != nil {
		h.count("", refused)
		h.c.logger().Warn("stint: webhook refused", "webhook", h.name, "status", refused.status, "reason", refused.text, "err", h.c.logText(refused.cause))
		if refused.status == http.StatusMethodNotAllowed {
			w.Header().Set("Allow", http.MethodPost)
		}
		http.Error(w, refused.text, refused.status)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Write(answer)
}

func (h *webhookHandler) receive(w http.ResponseWriter, r *http.Request) (answer []byte, refused *refusal) {
	if r.Method != http.MethodPost {
		return nil, &refusal{http.StatusMethodNotAllowed, "want POST", nil}
	}
	if err := checkHeaders(r.Header); err != nil {
		return nil, &refusal{http.StatusRequestHeaderFieldsTooLarge, err.Error(), nil}
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, int64(h.c.cfg.maxPayload)))
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		return nil, &refusal{http.StatusRequestEntityTooLarge, fmt.Sprintf("want a body of at most %d bytes", h.c.cfg.maxPayload), nil}
	}
	if err != nil {
		return nil, &refusal{http.StatusBadRequest, "the body ended early", err}
	}
	var delivery string
	err = guarded(func() (err error) {
		delivery, err = h.verify(r, body)
		return vet(err)
	})
	if p := (*PanicError)(nil); errors.As(err, &p) {
		return nil, &refusal{http.StatusInternalServerError, "the verifier panicked", err}
	}
	if err != nil {
		return nil, &refusal{http.StatusUnauthorized, "not verified", err}
	}
	if err := checkText("delivery ID", delivery); err != nil {
		return nil, &refusal{http.StatusBadRequest, err.Error(), nil}
	}
	payload, err := jsonBody(r, body)
	if err != nil {
		return nil, &refusal{http.StatusBadRequest, "want a body of JSON, or a form", err}
	}
	if err := checkSize("event", len(payload), h.c.cfg.maxPayload); err != nil { // a form, as JSON
		return nil, &refusal{http.StatusRequestEntityTooLarge, err.Error(), nil}
	}
	if challenge := slackChallenge(r, payload); challenge != nil {
		return challenge, nil
	}
	return h.publish(r, payload, delivery)
}

func (h *webhookHandler) publish(r *http.Request, payload []byte, delivery string) (answer []byte, refused *refusal) {
	e := store.NewEvent{Key: h.name, Payload: payload}
	if h.key != nil {
		headers := map[string]string{}
		for k := range r.Header {
			headers[strings.ToLower(k)] = r.Header.Get(k)
		}
		key, err := h.key(&e, headers)
		if err != nil || key == "" {
			h.count("", nil)
			return []byte(`{"ignored":true}`), nil
		}
		if err := checkName("event key", key); err != nil {
			return nil, &refusal{http.StatusBadRequest, err.Error(), nil}
		}
		e.Key = key
	}
	e.Metadata = store.AddMetadata(nil, "webhook", h.name, "delivery", delivery)
	if delivery != "" {
		sum := sha256.Sum256(fmt.Appendf(nil, "%d:%s%s", len(h.name), h.name, delivery)) // no two pairs give one text, and it has one length
		e.Delivery = "webhook:" + hex.EncodeToString(sum[:])
	}
	e.Runs = h.c.triggeredRuns(e.Key, e.Payload)
	ids, err := h.c.publish(r.Context(), nil, []store.NewEvent{e})
	if err != nil {
		return nil, &refusal{http.StatusServiceUnavailable, "not stored: try again", err}
	}
	h.count(ids[0].String(), nil)
	return fmt.Appendf(nil, `{"event":%q}`, ids[0]), nil
}

// jsonBody is the body as JSON. What is JSON is never read as a form, so that a header
// which nobody signs does not give a body another meaning.
func jsonBody(r *http.Request, body []byte) ([]byte, error) {
	if json.Valid(body) {
		return body, nil
	}
	if kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); kind != "application/x-www-form-urlencoded" {
		return nil, errors.New("not JSON")
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return nil, errors.New("the form is not URL-encoded") // err quotes it
	}
	if len(form) == 1 && form.Has("payload") {
		if body = []byte(form.Get("payload")); !json.Valid(body) {
			return nil, errors.New("the form's payload is not JSON")
		}
		return body, nil
	}
	fields := map[string]string{}
	for k := range form {
		fields[k] = form.Get(k)
	}
	return json.Marshal(fields)
}

// slackChallenge answers the request by which Slack asks, once, whether an address takes
// its events.
func slackChallenge(r *http.Request, payload []byte) []byte {
	var m struct{ Type, Challenge string }
	if r.Header.Get("X-Slack-Signature") == "" || json.Unmarshal(payload, &m) != nil || m.Type != "url_verification" {
		return nil
	}
	answer, _ := json.Marshal(map[string]string{"challenge": m.Challenge}) // texts always encode
	return answer
}
