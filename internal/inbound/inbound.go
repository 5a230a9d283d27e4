// Package inbound makes events of the requests of webhooks. It verifies them first.
package inbound

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
	"strings"

	"github.com/stint-dev/stint/internal/check"
	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/webhook"
)

// A Hook reads the requests of one webhook.
type Hook struct {
	Name    string
	Verify  webhook.Verifier
	Key     store.KeyOf // of the event; nil: the name
	MaxBody int         // bytes
	// Call calls the app's code, and reports whether that panicked.
	Call func(f func() error) (panicked bool, err error)
}

// A Request is what a request asks for: to publish an event; or only an answer, without an event.
type Request struct {
	Event   *store.NewEvent
	Ignored bool   // the key of the event is empty, or cannot be computed
	Answer  []byte // if there is no event
}

// A Refusal is the response to a request that is not accepted.
type Refusal struct {
	Status int
	Text   string
	Cause  error // for the log
}

// Read reads and verifies a request.
func (h *Hook) Read(w http.ResponseWriter, r *http.Request) (q Request, refused *Refusal) {
	if r.Method != http.MethodPost {
		return q, &Refusal{http.StatusMethodNotAllowed, "want POST", nil}
	}
	if err := check.Headers(r.Header); err != nil {
		return q, &Refusal{http.StatusRequestHeaderFieldsTooLarge, err.Error(), nil}
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, int64(h.MaxBody)))
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		return q, &Refusal{http.StatusRequestEntityTooLarge, fmt.Sprintf("want a body of at most %d bytes", h.MaxBody), nil}
	}
	if err != nil {
		return q, &Refusal{http.StatusBadRequest, "the body ended early", err}
	}
	var delivery string
	panicked, err := h.Call(func() (err error) {
		delivery, err = h.Verify(r, body)
		return err
	})
	if panicked {
		return q, &Refusal{http.StatusInternalServerError, "the verifier panicked", err}
	}
	if err != nil {
		return q, &Refusal{http.StatusUnauthorized, "not verified", err}
	}
	if err := check.Text("delivery ID", delivery); err != nil {
		return q, &Refusal{http.StatusBadRequest, err.Error(), nil}
	}
	payload, err := jsonBody(r, body)
	if err != nil {
		return q, &Refusal{http.StatusBadRequest, "want a body of JSON, or a form", err}
	}
	if err := check.Size("event", len(payload), h.MaxBody); err != nil { // a form, as JSON
		return q, &Refusal{http.StatusRequestEntityTooLarge, err.Error(), nil}
	}
	if q.Answer = slackChallenge(r, payload); q.Answer != nil {
		return q, nil
	}
	return h.request(r, payload, delivery)
}

// request returns what a verified request asks for.
func (h *Hook) request(r *http.Request, payload []byte, delivery string) (q Request, refused *Refusal) {
	e := &store.NewEvent{Key: h.Name, Payload: payload}
	if h.Key != nil {
		headers := map[string]string{}
		for k := range r.Header {
			headers[strings.ToLower(k)] = r.Header.Get(k)
		}
		key, err := h.Key(e, headers)
		if err != nil || key == "" {
			return Request{Ignored: true, Answer: []byte(`{"ignored":true}`)}, nil
		}
		if err := check.Name("event key", key); err != nil {
			return q, &Refusal{http.StatusBadRequest, err.Error(), nil}
		}
		e.Key = key
	}
	e.Metadata = store.AddMetadata(nil, "webhook", h.Name, "delivery", delivery)
	if delivery != "" {
		// No two pairs of name and delivery give one text.
		sum := sha256.Sum256(fmt.Appendf(nil, "%d:%s%s", len(h.Name), h.Name, delivery))
		e.Delivery = "webhook:" + hex.EncodeToString(sum[:])
	}
	return Request{Event: e}, nil
}

// jsonBody returns the body as JSON. A body that is JSON is never read as a form: the header
// that says so is not signed.
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

// slackChallenge answers Slack's request that verifies an address; nil: it is none.
func slackChallenge(r *http.Request, payload []byte) []byte {
	var m struct{ Type, Challenge string }
	if r.Header.Get("X-Slack-Signature") == "" || json.Unmarshal(payload, &m) != nil || m.Type != "url_verification" {
		return nil
	}
	answer, _ := json.Marshal(map[string]string{"challenge": m.Challenge}) // texts always encode
	return answer
}
