package hatchet

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/stint-dev/stint"
)

// settingWebhook and a webhook's name is the key of its record.
const settingWebhook = "hatchet.webhook."

const maxWebhooks = 1_000

// A webhook turns requests of a service into events. Its record is a setting of the database.
type webhook struct {
	Name    string          `json:"name"`
	Source  string          `json:"source"` // GENERIC, or a service that signs in a way of its own
	Key     string          `json:"key"`    // an expression
	Scope   string          `json:"scope,omitempty"`
	Static  json.RawMessage `json:"static,omitempty"` // an object, whose fields override those of requests
	Quiet   bool            `json:"quiet,omitempty"`  // requests are not answered with their event
	Created time.Time       `json:"created"`
	Updated time.Time       `json:"updated"`

	Auth      string `json:"auth"` // BASIC, API_KEY or HMAC
	User      string `json:"user,omitempty"`
	Secret    string `json:"secret"`           // the password, or the key
	Header    string `json:"header,omitempty"` // that has the key, or the signature
	Algorithm string `json:"algorithm,omitempty"`
	Encoding  string `json:"encoding,omitempty"`
}

type restWebhook struct {
	Metadata    restMeta        `json:"metadata"`
	TenantID    string          `json:"tenantId"`
	Name        string          `json:"name"`
	Source      string          `json:"sourceName"`
	Key         string          `json:"eventKeyExpression"`
	Scope       string          `json:"scopeExpression,omitempty"`
	Static      json.RawMessage `json:"staticPayload,omitempty"`
	Auth        string          `json:"authType"`
	ReturnEvent bool            `json:"returnEventAsResponsePayload"`
}

// A restWebhookChange is what a request says of a webhook. Those that change one have no name, source and auth.
type restWebhookChange struct {
	Name        string          `json:"name"`
	Source      string          `json:"sourceName"`
	Key         *string         `json:"eventKeyExpression"`
	Scope       *string         `json:"scopeExpression"`
	Static      json.RawMessage `json:"staticPayload"`
	ReturnEvent *bool           `json:"returnEventAsResponsePayload"`
	AuthType    string          `json:"authType"`
	Auth        struct {
		User      string `json:"username"`
		Password  string `json:"password"`
		KeyHeader string `json:"headerName"`
		Key       string `json:"apiKey"`
		Algorithm string `json:"algorithm"`
		Encoding  string `json:"encoding"`
		Header    string `json:"signatureHeaderName"`
		Secret    string `json:"signingSecret"`
	} `json:"auth"`
}

// handleWebhooks registers what is asked of webhooks, and the path that receives them: it takes no token, but what the
// webhook's service sends.
func (s *Server) handleWebhooks(handle, open func(pattern string, h restHandler)) {
	const one = listPath + "/webhooks/{webhook}"
	handle("GET "+listPath+"/webhooks", s.listWebhooks)
	handle("POST "+listPath+"/webhooks", s.createWebhook)
	handle("GET "+one, func(r *http.Request) (any, error) {
		w, err := s.webhook(r.Context(), r.PathValue("webhook"))
		if err != nil {
			return nil, err
		}
		return s.restWebhook(w), nil
	})
	handle("PATCH "+one, s.updateWebhook)
	handle("DELETE "+one, func(r *http.Request) (any, error) {
		w, err := s.webhook(r.Context(), r.PathValue("webhook"))
		if err == nil {
			err = s.c.SetSetting(r.Context(), settingWebhook+w.Name, nil)
		}
		if err != nil {
			return nil, err
		}
		return s.restWebhook(w), nil
	})
	open("POST "+one, s.receiveWebhook)
}

// webhook returns the webhook with a name.
func (s *Server) webhook(ctx context.Context, name string) (*webhook, error) {
	w := &webhook{}
	stored, err := s.c.Setting(ctx, settingWebhook+name)
	if errors.Is(err, stint.ErrNotFound) || len(name) > maxWebhookName {
		return nil, notFound("no webhook has the name %.255q", name)
	}
	if err == nil {
		err = json.Unmarshal(stored, w)
	}
	return w, err
}

const maxWebhookName = 200

func (s *Server) restWebhook(w *webhook) restWebhook {
	return restWebhook{Metadata: restMeta{idOf("webhook", w.Name), w.Created, w.Updated}, TenantID: s.tenant, Name: w.Name,
		Source: w.Source,
		Key:    w.Key, Scope: w.Scope, Static: w.Static, Auth: w.Auth, ReturnEvent: !w.Quiet}
}

func (s *Server) listWebhooks(r *http.Request) (any, error) {
	q := r.URL.Query()
	p, err := newPageQuery(q)
	if err != nil {
		return nil, err
	}
	stored, err := s.c.Settings(r.Context(), settingWebhook)
	if err != nil {
		return nil, err
	}
	rows := []restWebhook{}
	for _, text := range stored {
		w := &webhook{}
		if err := json.Unmarshal(text, w); err != nil {
			return nil, err
		}
		if isOne(q["webhookNames"], w.Name) && isOne(q["sourceNames"], w.Source) {
			rows = append(rows, s.restWebhook(w))
		}
	}
	slices.SortFunc(rows, func(a, b restWebhook) int { return strings.Compare(a.Name, b.Name) })
	return cut(p, rows), nil
}

func (s *Server) createWebhook(r *http.Request) (any, error) {
	var body restWebhookChange
	if err := readJSON(r, &body); err != nil {
		return nil, err
	}
	now := time.Now().UTC()
	w := &webhook{Name: body.Name, Source: body.Source, Auth: body.AuthType, Created: now}
	if w.Name == "" || len(w.Name) > maxWebhookName || strings.Contains(w.Name, "/") {
		return nil, invalid("name is %.255q: want 1 to %d bytes, and no slash", w.Name, maxWebhookName)
	}
	if err := body.setAuth(w); err != nil {
		return nil, err
	}
	if err := body.set(w, now); err != nil {
		return nil, err
	}
	all, err := s.c.Settings(r.Context(), settingWebhook)
	if err != nil {
		return nil, err
	}
	if len(all) >= maxWebhooks {
		return nil, status.Errorf(codes.ResourceExhausted, "there are %d webhooks: delete some", len(all))
	}
	text, err := json.Marshal(w)
	if err != nil {
		return nil, err
	}
	stored, err := s.c.EnsureSetting(r.Context(), settingWebhook+w.Name, text)
	if err != nil {
		return nil, err
	}
	if string(stored) != string(text) {
		return nil, status.Errorf(codes.AlreadyExists, "a webhook has the name %q", w.Name)
	}
	return s.restWebhook(w), nil
}

func (s *Server) updateWebhook(r *http.Request) (any, error) {
	var body restWebhookChange
	if err := readJSON(r, &body); err != nil {
		return nil, err
	}
	w, err := s.webhook(r.Context(), r.PathValue("webhook"))
	if err != nil {
		return nil, err
	}
	if err := body.set(w, time.Now().UTC()); err != nil {
		return nil, err
	}
	text, err := json.Marshal(w)
	if err == nil {
		err = s.c.SetSetting(r.Context(), settingWebhook+w.Name, text)
	}
	if err != nil {
		return nil, err
	}
	return s.restWebhook(w), nil
}

// set changes what a request names of a webhook.
func (b *restWebhookChange) set(w *webhook, now time.Time) error {
	w.Updated = now
	if b.Key != nil {
		w.Key = *b.Key
	}
	if b.Scope != nil {
		w.Scope = *b.Scope
	}
	if b.ReturnEvent != nil {
		w.Quiet = !*b.ReturnEvent
	}
	if len(b.Static) > 0 && string(b.Static) != "null" {
		if !isObject(b.Static) {
			return invalid("staticPayload is not a JSON object")
		}
		w.Static = b.Static
	}
	if _, err := webhookExpr(w.Key); err != nil {
		return invalid("eventKeyExpression: %v", err)
	}
	if w.Scope != "" {
		if _, err := webhookExpr(w.Scope); err != nil {
			return invalid("scopeExpression: %v", err)
		}
	}
	return nil
}

// webhookExpr compiles an expression over a request.
func webhookExpr(expr string) (func(stint.ExprVars) (string, error), error) {
	return stint.CompileExpr[string](expr, "input", "headers")
}

// setAuth sets by what a webhook knows its service, and reports what is missing.
func (b *restWebhookChange) setAuth(w *webhook) error {
	a := &b.Auth
	signs, known := webhookSources[w.Source]
	switch {
	case !known:
		return invalid("sourceName is %.100q: want GENERIC, GITHUB, LINEAR, STRIPE, SLACK or SVIX", w.Source)
	case signs != nil && w.Auth != "HMAC":
		return invalid("authType is %.100q: %s signs, so want HMAC", w.Auth, w.Source)
	case w.Auth == "BASIC":
		w.User, w.Secret = a.User, a.Password
	case w.Auth == "API_KEY":
		w.Header, w.Secret = a.KeyHeader, a.Key
	case w.Auth == "HMAC":
		w.Header, w.Secret, w.Algorithm, w.Encoding = a.Header, a.Secret, a.Algorithm, a.Encoding
		if hashes[w.Algorithm] == nil || encodings[w.Encoding] == nil {
			return invalid("auth: algorithm %.100q, encoding %.100q: want SHA1, SHA256, SHA512 or MD5, and HEX, BASE64 or BASE64URL",
				w.Algorithm, w.Encoding)
		}
	default:
		return invalid("authType is %.100q: want BASIC, API_KEY or HMAC", w.Auth)
	}
	switch {
	case w.Secret == "":
		return invalid("auth: the password, key or secret is empty: anybody could come in")
	case w.Header == "" && w.Auth != "BASIC" && w.Source != "SVIX":
		return invalid("auth: the name of the header is empty")
	case w.Source == "SVIX":
		if _, err := svixKey(w.Secret); err != nil {
			return invalid("auth: signingSecret: %v", err)
		}
	}
	return nil
}

// svixKey returns the key that the text of a secret stands for.
func svixKey(secret string) ([]byte, error) {
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
	if err == nil && len(key) == 0 {
		err = errors.New("it is empty")
	}
	if err != nil {
		return nil, fmt.Errorf("it is not whsec_ and base64: %w", err)
	}
	return key, nil
}

func isObject(v json.RawMessage) bool {
	return strings.HasPrefix(strings.TrimLeft(string(v), " \t\r\n"), "{") && json.Valid(v)
}
