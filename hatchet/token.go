package hatchet

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/stint-dev/stint"
)

// Keys of the database's settings that the server keeps.
const (
	settingTenant = "hatchet.tenant"
	settingSecret = "hatchet.secret"
	settingWorker = "hatchet.worker." // and the worker's ID
)

// secretAge is how long the secret is used before it is read again: how long a revoked token passes in other
// processes.
const secretAge = time.Second

// tokens signs and checks tokens: JWTs by HS256 with a secret that the database keeps.
type tokens struct {
	c    *stint.Client
	life time.Duration

	mu     sync.Mutex
	secret []byte
	readAt time.Time
	valid  map[string]int64 // values of Authorization that were checked with the secret: when their tokens expire
}

// maxValid bounds how many tokens are remembered.
const maxValid = 1_000

// claims are what SDKs read from a token, and what the server checks.
type claims struct {
	Subject   string `json:"sub"` // the tenant
	Issuer    string `json:"iss"`
	Audience  string `json:"aud"`
	Issued    int64  `json:"iat"`
	Expires   int64  `json:"exp"`
	ServerURL string `json:"server_url"`
	Address   string `json:"grpc_broadcast_address"`
	TokenID   string `json:"token_id"`
}

// errToken is all that a wrong token is told.
var errToken = errors.New("the token is missing, expired, revoked, or of another server: set HATCHET_CLIENT_TOKEN")

// jwtHeader is the encoded first part of every token.
var jwtHeader = base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"HS256","typ":"JWT"}`))

// current returns the secret, which the first call makes.
func (t *tokens) current(ctx context.Context) ([]byte, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.secret != nil && time.Since(t.readAt) < secretAge {
		return t.secret, nil
	}
	secret, err := t.c.Setting(ctx, settingSecret)
	if errors.Is(err, stint.ErrNotFound) {
		secret, err = t.c.EnsureSetting(ctx, settingSecret, newSecret())
	}
	if err != nil {
		return nil, err
	}
	t.use(secret)
	return secret, nil
}

// use is called with t.mu held.
func (t *tokens) use(secret []byte) {
	if !bytes.Equal(secret, t.secret) {
		t.valid = map[string]int64{}
	}
	t.secret, t.readAt = secret, time.Now()
}

func newSecret() []byte {
	secret := make([]byte, 32)
	rand.Read(secret) // it never fails
	return secret
}

// revoke makes all tokens invalid: in this process at once, in others within secretAge.
func (t *tokens) revoke(ctx context.Context) error {
	secret := newSecret()
	if err := t.c.SetSetting(ctx, settingSecret, secret); err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.use(secret)
	return nil
}

// issue returns a new token for a server at the address.
func (t *tokens) issue(ctx context.Context, tenant, address, url string) (string, error) {
	secret, err := t.current(ctx)
	if err != nil {
		return "", err
	}
	now := time.Now()
	body, err := json.Marshal(claims{Subject: tenant, Issuer: url, Audience: url, Issued: now.Unix(), Expires: now.Add(t.life).Unix(),
		ServerURL: url, Address: address, TokenID: uuid.NewString()})
	if err != nil {
		return "", err
	}
	signed := jwtHeader + "." + base64.RawURLEncoding.EncodeToString(body)
	return signed + "." + base64.RawURLEncoding.EncodeToString(sign(secret, signed)), nil
}

func sign(secret []byte, signed string) []byte {
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(signed))
	return mac.Sum(nil)
}

// check returns errToken unless the value of an Authorization header has a valid token.
func (t *tokens) check(ctx context.Context, authorization string) error {
	secret, err := t.current(ctx)
	if err != nil {
		return fmt.Errorf("checking the token: %w", err)
	}
	t.mu.Lock()
	expires, known := t.valid[authorization]
	t.mu.Unlock()
	if !known {
		if expires, err = verify(authorization, secret); err != nil {
			return err
		}
		t.remember(authorization, expires, secret)
	}
	if time.Now().Unix() >= expires {
		return errToken
	}
	return nil
}

// remember notes a token that the secret has signed.
func (t *tokens) remember(authorization string, expires int64, secret []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !bytes.Equal(secret, t.secret) {
		return // revoked meanwhile
	}
	if len(t.valid) >= maxValid {
		clear(t.valid)
	}
	t.valid[authorization] = expires
}

// verify returns when the token of an Authorization header expires, or errToken unless the secret has signed it.
func verify(authorization string, secret []byte) (int64, error) {
	scheme, token, _ := strings.Cut(authorization, " ")
	parts := strings.Split(strings.TrimSpace(token), ".")
	if !strings.EqualFold(scheme, "Bearer") || len(parts) != 3 || parts[0] != jwtHeader {
		return 0, errToken
	}
	signature, err := base64.RawURLEncoding.DecodeString(parts[2])
	if err != nil {
		return 0, errToken
	}
	if !hmac.Equal(signature, sign(secret, parts[0]+"."+parts[1])) {
		return 0, errToken
	}
	var c claims
	body, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil || json.Unmarshal(body, &c) != nil {
		return 0, errToken
	}
	return c.Expires, nil
}
