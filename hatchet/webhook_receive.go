package hatchet

import (
	"cmp"
	"crypto/hmac"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"hash"
	"io"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/stint-dev/stint"
)

// hashes and encodings are those of signatures: services that are not new still sign by MD5 and SHA-1.
var (
	hashes = map[string]func() hash.Hash{"SHA1": sha1.New, "SHA256": sha256.New, "SHA512": sha512.New, "MD5": md5.New}

	encodings = map[string]func([]byte) string{"HEX": hex.EncodeToString, "BASE64": base64.StdEncoding.EncodeToString,
		"BASE64URL": base64.URLEncoding.EncodeToString}
)

// A signedRequest is a request that may be of a webhook's service.
type signedRequest struct {
	w      *webhook
	header http.Header
	body   []byte
}

// webhookSources are the services, and how a request of those that sign in a way of their own is verified: they return the
// ID of the delivery, or "".
var webhookSources = map[string]func(*signedRequest) (delivery string, err error){
	"GENERIC": nil, "GITHUB": nil, "LINEAR": nil, "STRIPE": verifyStripe, "SLACK": verifySlack, "SVIX": verifySvix,
}

// signatureAge is the largest difference between the time of a signature and now.
const signatureAge = 5 * time.Minute

func forbidden(text string) error { return &restError{http.StatusForbidden, text} }

// verify returns the ID of a delivery, or "" if the service signs none, or the error that the request is not of the service.
func (q *signedRequest) verify() (delivery string, err error) {
	if own := webhookSources[q.w.Source]; own != nil {
		return own(q)
	}
	switch given := q.header.Get(q.w.Header); q.w.Auth {
	case "BASIC":
		user, password, ok := (&http.Request{Header: q.header}).BasicAuth()
		if !ok || !sameText(user, q.w.User) || !sameText(password, q.w.Secret) {
			return "", forbidden("the user or the password is wrong")
		}
	case "API_KEY":
		if !sameText(given, q.w.Secret) {
			return "", forbidden("the key in " + q.w.Header + " is missing or wrong")
		}
	default:
		return "", q.check(q.w.Secret, given, string(q.body))
	}
	return "", nil
}

// check compares a signature of a text.
func (q *signedRequest) check(secret, given, signed string) error {
	for _, prefix := range []string{"sha1=", "sha256=", "sha512=", "md5="} {
		given = strings.TrimPrefix(given, prefix)
	}
	mac := hmac.New(hashes[q.w.Algorithm], []byte(secret))
	mac.Write([]byte(signed))
	if !sameText(strings.TrimSpace(given), encodings[q.w.Encoding](mac.Sum(nil))) {
		return forbidden("the signature is missing or wrong")
	}
	return nil
}

func verifyStripe(q *signedRequest) (string, error) {
	var at string
	var signatures []string
	for part := range strings.SplitSeq(q.header.Get(q.w.Header), ",") {
		switch k, v, _ := strings.Cut(strings.TrimSpace(part), "="); k {
		case "t":
			at = v
		case "v1":
			signatures = append(signatures, v)
		}
	}
	if at == "" || len(signatures) == 0 {
		return "", invalid("the signature in %s has no time or no version v1", q.w.Header)
	}
	if err := checkTime(at); err != nil {
		return "", err
	}
	var err error
	for _, given := range signatures { // several while the secret is replaced
		if err = q.check(q.w.Secret, given, at+"."+string(q.body)); err == nil {
			return q.field("id"), nil
		}
	}
	return "", err
}

func verifySlack(q *signedRequest) (string, error) {
	at := q.header.Get("X-Slack-Request-Timestamp")
	if err := checkTime(at); err != nil {
		return "", err
	}
	given, ok := strings.CutPrefix(q.header.Get(q.w.Header), "v0=")
	if !ok {
		return "", forbidden("no signature of version v0 in " + q.w.Header)
	}
	return q.field("event_id"), q.check(q.w.Secret, given, "v0:"+at+":"+string(q.body))
}

// verifySvix verifies a request by the names of Svix, or by those of Standard Webhooks.
func verifySvix(q *signedRequest) (string, error) {
	names := "svix-"
	if q.header.Get("svix-id") == "" {
		names = "webhook-"
	}
	id, at := q.header.Get(names+"id"), q.header.Get(names+"timestamp")
	if id == "" || at == "" {
		return "", invalid("the header svix-id or svix-timestamp is missing")
	}
	if err := checkTime(at); err != nil {
		return "", err
	}
	key, err := svixKey(q.w.Secret)
	if err != nil {
		return "", err
	}
	signed := &signedRequest{w: &webhook{Algorithm: "SHA256", Encoding: "BASE64"}}
	for given := range strings.FieldsSeq(q.header.Get(names + "signature")) {
		if v1, ok := strings.CutPrefix(given, "v1,"); ok && signed.check(string(key), v1, id+"."+at+"."+string(q.body)) == nil {
			return id, nil
		}
	}
	return "", forbidden("the signature is missing or wrong")
}

func checkTime(text string) error {
	seconds, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
	if err != nil {
		return forbidden("the time of the signature is missing, or no number")
	}
	if d := time.Since(time.Unix(seconds, 0)); d > signatureAge || d < -signatureAge {
		return forbidden("the time of the signature is too far from now")
	}
	return nil
}

// sameText compares in a time that does not depend on the texts, nor on their lengths.
func sameText(a, b string) bool {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return subtle.ConstantTimeCompare(x[:], y[:]) == 1
}

// field returns a text of the body, or "".
func (q *signedRequest) field(name string) string {
	var m map[string]json.RawMessage
	var text string
	if json.Unmarshal(q.body, &m) != nil || json.Unmarshal(m[name], &text) != nil {
		return ""
	}
	return text
}

// receiveWebhook publishes the event that a request of a webhook's service is.
func (s *Server) receiveWebhook(r *http.Request) (any, error) {
	if r.PathValue("tenant") != s.tenant {
		return nil, notFound("no tenant has the ID %.100s", r.PathValue("tenant"))
	}
	w, err := s.webhook(r.Context(), r.PathValue("webhook"))
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(r.Body)
	if large := (*http.MaxBytesError)(nil); errors.As(err, &large) {
		return nil, &restError{http.StatusRequestEntityTooLarge, "the request has more than " + itoa(int(large.Limit)) + " bytes"}
	}
	if err != nil {
		return nil, invalid("the body ended early")
	}
	q := &signedRequest{w, r.Header, body}
	delivery, err := q.verify()
	if err != nil {
		s.opts.Logger.Warn("hatchet: webhook refused", "webhook", w.Name, "err", err)
		return nil, err
	}
	if c := q.field("challenge"); w.Source == "SLACK" && c != "" {
		return map[string]string{"challenge": c}, nil
	}
	id, err := s.publishWebhook(r, q, delivery)
	if err != nil {
		return nil, err
	}
	if w.Quiet {
		return noContent{}, nil
	}
	rows, _, err := s.findEvents(r, eventQuery{ids: []string{id}}, pageQuery{limit: 1})
	if err != nil || len(rows) == 0 {
		return nil, cmp.Or(err, notFound("the event is deleted already"))
	}
	return map[string]any{"message": "ok", "event": rows[0]}, nil
}

func (s *Server) publishWebhook(r *http.Request, q *signedRequest, delivery string) (string, error) {
	payload, err := q.payload()
	if err != nil {
		return "", err
	}
	vars := stint.ExprVars{Input: payload, Headers: map[string]string{}}
	for k := range r.Header {
		vars.Headers[strings.ToLower(k)] = r.Header.Get(k)
	}
	key, err := valueOf(q.w.Key, vars)
	if err != nil || key == "" {
		return "", invalid("eventKeyExpression: the key is empty, or cannot be computed: %v", err)
	}
	e := stint.Event{Key: key, Payload: payload, Options: []stint.EventOption{stint.WithMetadata(map[string]string{metaWebhook: q.w.Name})}}
	if q.w.Scope != "" {
		scope, err := valueOf(q.w.Scope, vars)
		if err != nil {
			return "", invalid("scopeExpression: it cannot be computed: %v", err)
		}
		if scope != "" {
			e.Options = append(e.Options, stint.WithScope(scope))
		}
	}
	if delivery != "" {
		e.Options = append(e.Options, stint.WithDeliveryID(idOf("delivery", q.w.Name, delivery)))
	}
	ids, err := s.c.PublishMany(r.Context(), []stint.Event{e})
	if err != nil {
		return "", invalidRun(err)
	}
	return ids[0], nil
}

// metaWebhook is the metadata of an event, and of the runs that it starts, which names the webhook.
const metaWebhook = "webhook"

func valueOf(expr string, vars stint.ExprVars) (string, error) {
	f, err := webhookExpr(expr)
	if err != nil {
		return "", err
	}
	return f(vars)
}

// payload returns the event's payload: the body, which is an object of JSON or a form, with the webhook's own fields.
func (q *signedRequest) payload() (json.RawMessage, error) {
	fields := map[string]json.RawMessage{}
	body := q.body
	if kind, _, _ := mime.ParseMediaType(q.header.Get("Content-Type")); kind == "application/x-www-form-urlencoded" {
		form, err := url.ParseQuery(string(body))
		switch own := form.Get("payload"); {
		case q.w.Source != "GENERIC" && q.w.Source != "SLACK":
			return nil, invalid("%s sends JSON, and the request is a form", q.w.Source)
		case err != nil:
			return nil, invalid("the form is not URL-encoded")
		case q.w.Source == "SLACK" && own != "":
			body = []byte(own)
		default:
			texts := map[string]string{}
			for k := range form {
				texts[k] = form.Get(k)
			}
			body, _ = json.Marshal(texts) // texts always encode
		}
	}
	if !isObject(body) || json.Unmarshal(body, &fields) != nil {
		return nil, invalid("the request is not a JSON object")
	}
	if len(q.w.Static) == 0 {
		return body, nil
	}
	var static map[string]json.RawMessage
	if err := json.Unmarshal(q.w.Static, &static); err != nil {
		return nil, err
	}
	maps.Copy(fields, static)
	return json.Marshal(fields)
}
