// Package webhook verifies the senders of webhooks, for stint.Client.WebhookHandler.
//
//	mux.Handle("POST /hooks/github", client.WebhookHandler("github", webhook.GitHubSignature(secret), ""))
package webhook

import (
	"cmp"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// A Verifier checks that a request comes from the expected service and returns the ID of its
// delivery: of several requests with the same ID only the first counts. "" means that the service
// sends no ID. An error refuses the request; its text is logged, but not sent.
type Verifier func(r *http.Request, body []byte) (deliveryID string, err error)

// Tolerance is the largest difference between the time of a signature and now.
const Tolerance = 5 * time.Minute

// GitHubSignature verifies webhooks that GitHub signs: X-Hub-Signature-256 is the HMAC-SHA256 of
// the body. The delivery's ID is the SHA-256 of the body, in hexadecimal, so two deliveries of the
// same body count once. X-GitHub-Delivery is not used: it is not signed, so somebody who has seen
// a request could send it again with another.
// See https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries.
func GitHubSignature(secret string) Verifier {
	return func(r *http.Request, body []byte) (string, error) {
		signature, ok := strings.CutPrefix(r.Header.Get("X-Hub-Signature-256"), "sha256=")
		if !ok {
			return "", errors.New("no X-Hub-Signature-256")
		}
		if _, err := checkHMAC(secret, signature, string(body)); err != nil {
			return "", err
		}
		sum := sha256.Sum256(body)
		return hex.EncodeToString(sum[:]), nil
	}
}

// StripeSignature verifies webhooks that Stripe signs: Stripe-Signature has a time and the
// HMAC-SHA256 of the time, a dot and the body. Of several signatures, which Stripe sends while a
// secret is replaced, one must be right. The delivery's ID is the id in the body, or without one
// the signature in lower case.
// See https://docs.stripe.com/webhooks/signature.
func StripeSignature(secret string) Verifier {
	return func(r *http.Request, body []byte) (string, error) {
		var at string
		var signatures []string
		for part := range strings.SplitSeq(r.Header.Get("Stripe-Signature"), ",") {
			switch k, v, _ := strings.Cut(strings.TrimSpace(part), "="); k {
			case "t":
				at = v
			case "v1":
				signatures = append(signatures, v)
			}
		}
		if err := checkTime(at); err != nil {
			return "", err
		}
		err := errors.New("no signature v1 in Stripe-Signature")
		for _, s := range signatures {
			var mac string
			if mac, err = checkHMAC(secret, s, at+"."+string(body)); err == nil {
				return cmp.Or(bodyField(body, "id"), mac), nil
			}
		}
		return "", err
	}
}

// SlackSignature verifies requests that Slack signs: X-Slack-Signature is the HMAC-SHA256 of
// "v0:", X-Slack-Request-Timestamp, a colon and the body. The delivery's ID is the event_id in the
// body, or without one the signature in lower case.
// See https://docs.slack.dev/authentication/verifying-requests-from-slack.
func SlackSignature(secret string) Verifier {
	return func(r *http.Request, body []byte) (string, error) {
		at := r.Header.Get("X-Slack-Request-Timestamp")
		if err := checkTime(at); err != nil {
			return "", err
		}
		signature, ok := strings.CutPrefix(r.Header.Get("X-Slack-Signature"), "v0=")
		if !ok {
			return "", errors.New("no X-Slack-Signature of version v0")
		}
		mac, err := checkHMAC(secret, signature, "v0:"+at+":"+string(body))
		if err != nil {
			return "", err
		}
		return cmp.Or(bodyField(body, "event_id"), mac), nil
	}
}

// BasicAuth verifies requests by HTTP basic authentication. The delivery's ID is the header
// Idempotency-Key or Webhook-Id, if there is one. With an empty password it refuses every request.
func BasicAuth(user, password string) Verifier {
	return func(r *http.Request, _ []byte) (string, error) {
		if password == "" {
			return "", errors.New("BasicAuth has an empty password: anybody could come in")
		}
		u, p, ok := r.BasicAuth()
		if !ok || !sameText(u, user) || !sameText(p, password) {
			return "", errors.New("wrong user or password")
		}
		return deliveryHeader(r), nil
	}
}

// APIKey verifies requests by a key in a header, with or without "Bearer " before it. The
// delivery's ID is the header Idempotency-Key or Webhook-Id, if there is one. With an empty key it
// refuses every request.
func APIKey(header, key string) Verifier {
	return func(r *http.Request, _ []byte) (string, error) {
		if key == "" {
			return "", errors.New("APIKey has an empty key: anybody could come in")
		}
		if got := strings.TrimPrefix(r.Header.Get(header), "Bearer "); !sameText(got, key) {
			return "", fmt.Errorf("wrong key in %s", header)
		}
		return deliveryHeader(r), nil
	}
}

func deliveryHeader(r *http.Request) string {
	if id := r.Header.Get("Idempotency-Key"); id != "" {
		return id
	}
	return r.Header.Get("Webhook-Id")
}

// sameText compares in a time that does not depend on the texts, nor on their lengths.
func sameText(a, b string) bool {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return subtle.ConstantTimeCompare(x[:], y[:]) == 1
}

// checkHMAC returns the signature of a text in lower-case hexadecimal, or an error if the given
// signature differs.
func checkHMAC(secret, signature, signed string) (string, error) {
	if secret == "" {
		return "", errors.New("empty secret: anybody could sign")
	}
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(signed))
	sum := mac.Sum(nil)
	if got, err := hex.DecodeString(signature); err != nil || !hmac.Equal(got, sum) {
		return "", errors.New("wrong signature")
	}
	return hex.EncodeToString(sum), nil
}

func checkTime(text string) error {
	seconds, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return errors.New("no time of the signature")
	}
	if d := time.Since(time.Unix(seconds, 0)); d > Tolerance || d < -Tolerance {
		return fmt.Errorf("signed %v ago: want at most %v", d.Round(time.Second), Tolerance)
	}
	return nil
}

// bodyField returns a string field of a JSON object, or "".
func bodyField(body []byte, field string) string {
	var m map[string]json.RawMessage
	var text string
	if json.Unmarshal(body, &m) != nil || json.Unmarshal(m[field], &text) != nil {
		return ""
	}
	return text
}
